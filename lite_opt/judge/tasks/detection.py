"""Detection: whether two runs find the same boxes, and mAP by COCO's labels or VOC's.

Boxes in another order are no difference, and one box more is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lite_opt.judge.rates import Rate, share
from lite_opt.judge.tasks.average_precision import Evaluation, rates_of
from lite_opt.judge.tasks.scores import Case, Scores, ids_of, matched
from lite_opt.judge.tasks.truth import coco, of_samples, picture_points
from lite_opt.judge.tasks.voc import is_voc, voc
from py_runner.data.roles import is_scale
from py_runner.errors import DataError
from py_runner.formats.run import Run
from py_runner.tasks.detection import THRESHOLD, Boxes, boxes
from py_runner.tasks.options import option
from py_runner.tasks.suppression import intersection_over_union

__all__ = ["same_boxes", "score"]

_Array = npt.NDArray[Any]
_STRICT, _LOOSE = 0.9, 0.5
_SAME_SCORE = 0.05  # how far scores of one box may be apart where no threshold looks at them


def score(case: Case) -> Scores:
    """Agreement of the boxes above each run's own threshold: of one class, and with an IoU of at
    least 0.9, of all boxes that either run has; and mAP of both runs where the truth is given.
    Where no box of either run is above it, all boxes are judged, with their scores: their order
    means as little.

    Raises DataError where the outputs are no boxes, or the truth is neither COCO's nor VOC's;
    UsageError where
    pycocotools is not installed.
    """
    runs = (case.reference, case.candidate)
    everything = [boxes(run) for run in runs]
    least = [option(run.task, "threshold", THRESHOLD) for run in runs]
    left, right = ([b.above(t) for b in found] for t, found in zip(least, everything))
    notes: list[str] = []
    apart = math.inf
    if not any(map(len, (*left, *right))) and any(map(len, everything[0])):
        left, right = everything
        apart = _SAME_SCORE
        notes.append(
            f"no box has a score of {max(least):g}, the task's threshold: the "
            f"{sum(map(len, left))} boxes below it are judged instead"
        )
    pairs = {
        iou: [same_boxes(a, b, iou, apart) for a, b in zip(left, right)]
        for iou in (_STRICT, _LOOSE)
    }
    agreed = [len(found) for found in pairs[_STRICT]]
    all_of_them = [len(a) + len(b) - n for a, b, n in zip(left, right, agreed)]
    rates = [
        share("boxes at IoU 0.9", agreed, all_of_them, unit="boxes", limit=case.limits.get("boxes"))
    ]
    loose = [len(found) for found in pairs[_LOOSE]]
    either = [len(a) + len(b) - n for a, b, n in zip(left, right, loose)]
    rates.append(share("boxes at IoU 0.5", loose, either, unit="boxes"))
    figures = {
        "boxes of the reference": float(sum(map(len, left))),
        "boxes of the candidate": float(sum(map(len, right))),
        "largest difference of a score": max(
            (
                abs(float(a.scores[i] - b.scores[j]))
                for a, b, found in zip(left, right, pairs[_STRICT])
                for i, j in found
            ),
            default=0.0,
        ),
    }
    if case.truth is not None:
        labelled, said = _by_labels(case, case.truth, everything[0], everything[1])
        rates += labelled
        notes += said
    return Scores(
        "detection",
        tuple(rate for rate in rates if rate is not None),
        figures,
        tuple(
            sample.id
            for sample, n, count in zip(case.reference.samples, agreed, all_of_them)
            if n < count
        ),
        judged=any(all_of_them),
        notes=tuple(notes),
    )


def same_boxes(
    left: Boxes, right: Boxes, least: float, apart: float = math.inf
) -> list[tuple[int, int]]:
    """Pairs of boxes of one class, by their places, that overlap by at least so much, and whose
    scores are at most so far `apart`."""
    likeness = intersection_over_union(left.corners, right.corners)
    likeness[left.classes[:, None] != right.classes[None]] = -1
    likeness[abs(left.scores[:, None] - right.scores[None]) > apart] = -1
    return matched(likeness, least)


def _by_labels(
    case: Case, path: Path, left: Sequence[Boxes], right: Sequence[Boxes]
) -> tuple[list[Rate | None], tuple[str, ...]]:
    """mAP of both runs over the labelled samples and the points lost, and what is to be said."""
    labels = case.reference.labels
    document = voc(path, labels) if is_voc(path) else coco(path)
    known = {image["file_name"]: image for image in document["images"]}
    places = of_samples(path, known, ids_of(case.reference))
    images = [image["id"] for image in places.values()]
    evaluations = []
    for run, found in ((case.reference, left), (case.candidate, right)):
        categories = _categories(document, run.labels)
        answers = [
            answer
            for place, image in places.items()
            for answer in _answers(_on_picture(run, found[place], image), image, categories)
        ]
        evaluations.append(Evaluation(document, images, answers))
    rates = rates_of("mAP", evaluations, len(images), case.limits.get("map_drop"))
    return rates, _unknown(document, labels)


def _on_picture(run: Run, found: Boxes, image: Mapping[str, Any]) -> Boxes:
    """Boxes where they lie on the picture of COCO's `image`. A network that is fed the scale puts
    them there itself, and where it is not known how pictures were fed they are taken as they are.

    Raises DataError where the labels do not say how large the picture is.
    """
    if run.image is None or run.inputs is None or any(map(is_scale, run.inputs)):
        return found
    corners = found.corners.reshape(-1, 2, 2)
    placed = picture_points(run.image, corners, image)
    return Boxes(found.classes, found.scores, placed.reshape(-1, 4))


def _answers(
    found: Boxes, image: Mapping[str, Any], categories: Sequence[int]
) -> list[dict[str, Any]]:
    """Boxes as pycocotools takes them."""
    if len(found) and found.classes.max() >= len(categories):
        raise DataError(
            f"a box of class {found.classes.max()}, and the labels have {len(categories)} "
            "categories"
        )
    return [
        {
            "image_id": image["id"],
            "category_id": categories[index],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(value),
        }
        for index, value, (x1, y1, x2, y2) in zip(found.classes, found.scores, found.corners)
    ]


def _categories(document: Mapping[str, Any], labels: Sequence[str] | None) -> list[int]:
    """The category of each class: by its name, where any has one, else in the order of the
    categories' numbers. Classes that the labels do not know get numbers of their own."""
    ids = {str(c["name"]): int(c["id"]) for c in document["categories"]}
    if labels and set(labels) & ids.keys():
        free = 1 + max(ids.values())
        return [ids.get(name, free + place) for place, name in enumerate(labels)]
    return sorted(ids.values())


def _unknown(document: Mapping[str, Any], labels: Sequence[str] | None) -> tuple[str, ...]:
    names = {str(c["name"]) for c in document["categories"]}
    lacking = [name for name in labels or () if name not in names]
    if not lacking or len(lacking) == len(labels or ()):
        return ()
    return (
        f"{len(lacking)} of the model's {len(labels or ())} classes are none of the labels', such "
        f"as '{lacking[0]}': their boxes count for nothing",
    )
