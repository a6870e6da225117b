"""What two runs found on the same pictures, drawn beside each other, with what differs in red."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lite_opt.judge.tasks.detection import same_boxes
from lite_opt.judge.tasks.scores import matched
from lite_opt.judge.tasks.text_detection import overlaps
from lite_opt.views.pictures import BLACK, Marks, annotated, check_drawable
from py_runner.data.image import ImageSpec
from py_runner.errors import DataError, UsageError
from py_runner.formats.run import Run
from py_runner.tasks import decode, name_of
from py_runner.tasks.detection import THRESHOLD, boxes
from py_runner.tasks.options import option
from py_runner.tasks.segmentation import masks
from py_runner.tasks.text_detection import polygons

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["drawn_side_by_side"]

_STRICT = 0.9  # of what boxes and polygons overlap by
_TITLE, _GAP = 22, 6  # pixels: of the strip above the pictures, and between them


def drawn_side_by_side(
    reference: Run, candidate: Run, data: str
) -> Iterator[tuple[str, Image.Image]]:
    """The id of each sample that both runs have, and its picture as either answers it, the
    reference on the left.

    In red are boxes and polygons that the other run does not have (IoU 0.9), pixels of another
    class in the candidate's mask, and texts and first classes that differ. Raises UsageError where
    a run does not say how it was fed, DataError where no sample is in both.
    """
    places = {sample.id: i for i, sample in enumerate(candidate.samples)}
    pairs = [(i, places[s.id]) for i, s in enumerate(reference.samples) if s.id in places]
    if not pairs:
        raise DataError("these runs have no sample in common: run both on the same data")
    runs = reference.select([i for i, _ in pairs]), candidate.select([j for _, j in pairs])
    drawn = [_pictures(run, data, marked) for run, marked in zip(runs, _unlike(*runs))]
    titles = [
        f"{who}: {run.engine} {run.engine_version} ({run.device}, {run.precision})"
        for who, run in zip(("reference", "candidate"), runs)
    ]
    for (id_, left), (_, right) in zip(*drawn):
        yield id_, _joined([left, right], titles)


def _pictures(run: Run, data: str, marked: Sequence[Marks]) -> Iterator[tuple[str, Image.Image]]:
    if run.image is None or run.inputs is None:
        raise UsageError(
            "a run that does not say its task and how pictures were fed cannot be drawn: make it "
            "again with --task, of pictures"
        )
    spec = ImageSpec.from_json(run.image)
    check_drawable(data, spec, name_of(run.task), run.inputs)
    return annotated(run, data, spec, run.inputs, marked=marked)


def _unlike(left: Run, right: Run) -> tuple[list[Marks], list[Marks]]:
    """What either run has of each sample that the other has not."""
    name = name_of(left.task)
    if name == "segmentation":
        both = [a != b for a, b in zip(masks(left), masks(right))]
        return [frozenset() for _ in both], list(both)
    if name == "detection":
        found = [
            [b.above(option(run.task, "threshold", THRESHOLD)) for b in boxes(run)]
            for run in (left, right)
        ]
        same = [same_boxes(a, b, _STRICT) for a, b in zip(*found)]
        return _alone(same, [(len(a), len(b)) for a, b in zip(*found)])
    if name == "text-detection":
        outlines = [
            [[p.corners.astype(np.float64) for p in page] for page in polygons(run)]
            for run in (left, right)
        ]
        same = [matched(overlaps(a, b), _STRICT) for a, b in zip(*outlines)]
        return _alone(same, [(len(a), len(b)) for a, b in zip(*outlines)])
    answers = zip(decode(left, top=1), decode(right, top=1))
    marks: list[Marks] = [
        frozenset() if _first(a) == _first(b) else frozenset([0]) for a, b in answers
    ]
    marks = marks or [frozenset()] * len(left.samples)
    return marks, marks


def _first(answer: dict[str, object]) -> object:
    """A text, or the first class; the same for other answers, which are not marked."""
    top = answer.get("top")
    return top[0]["index"] if isinstance(top, list) and top else answer.get("text")


def _alone(
    same: Sequence[Sequence[tuple[int, int]]], counts: Sequence[tuple[int, int]]
) -> tuple[list[Marks], list[Marks]]:
    """Of each sample the places that are in no pair, on either side."""
    left, right = (
        [
            frozenset(range(count[side])) - {pair[side] for pair in pairs}
            for pairs, count in zip(same, counts)
        ]
        for side in (0, 1)
    )
    return list(left), list(right)


def _joined(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_TITLE * 0.6)
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    height = max(picture.height for picture in pictures) + _TITLE
    result = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(result), 0
    for picture, title in zip(pictures, titles):
        draw.text((left + 2, 2), title, BLACK, font=font)
        result.paste(picture, (left, _TITLE))
        left += picture.width + _GAP
    return result
