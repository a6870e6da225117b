"""Samples that two sides answer differently, the worst first, with both answers and a picture."""

from __future__ import annotations

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lite_opt.judge.by_sample import Apartness
from lite_opt.judge.numbers import kind_of, softmax
from lite_opt.views.answers import in_words
from lite_opt.views.pages import differing
from lite_opt.views.pictures import source_of
from lite_opt.views.side_by_side import drawn_side_by_side
from py_runner.data.decode import open_image
from py_runner.errors import DataError, PaddleEdgeError
from py_runner.formats.lazy import Made, Zipped
from py_runner.formats.run import Run
from py_runner.tasks import decode, name_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Entry", "Gallery", "gallery"]

_KINDS = {"worse": 0, "better": 0, "other": 0}
_TOP = 3  # classes of an answer
_FREQUENT = 10  # changes of a class that are listed
_SIDE = 200  # pixels of a picture, at most
_BOTH = 560  # of two beside each other


@dataclass(frozen=True)
class Entry:
    """A sample: `sides` are both answers, the reference first, each a list of parts (text, share or
    None, whether it differs). `kind` is "worse" or "better" where a label says that only one is
    right, else "other". `picture` is a data URL, or None."""

    id: str
    label: str | None
    kind: str
    difference: float
    sides: tuple[list[tuple[str, float | None, bool]], list[tuple[str, float | None, bool]]]
    picture: str | None


@dataclass(frozen=True)
class Gallery:
    """`entries` of `total` samples that disagree; `changed` counts first answers that became
    others: (of the reference, of the candidate, samples), the most frequent first. `kinds` counts
    all by kind. `note` says why there are no pictures, where some were asked for."""

    entries: list[Entry]
    total: int
    changed: list[tuple[str, str, int]]
    kinds: dict[str, int]
    note: str = ""


def gallery(
    reference: Run,
    candidate: Run,
    found: Apartness,
    disagreeing: Sequence[str],
    *,
    data: str | Path | None,
    most: int,
    pictures: int,
) -> Gallery:
    """The first `most` of those that disagree, worst first, the first `pictures` with a picture of
    `data`, what both were fed."""
    worst = found.worst_first(disagreeing)
    if not len(worst):
        return Gallery([], 0, [], _KINDS)
    places = found.places[:, np.asarray(worst.places)]
    left, right = reference.select(places[0]), candidate.select(places[1])
    labels = left.labels or right.labels
    answers = Zipped(_decoded(left, labels), _decoded(right, labels))
    thumbs: list[str | None] = []
    note = ""
    if data is not None:
        thumbs, note = _pictures(left.first(pictures), right.first(pictures), data)
    shown = [*thumbs, *[None] * most]
    kinds, changed = Counter(_KINDS), Counter[tuple[str, str]]()
    for a, b in answers:
        kinds[_kind(a, b)] += 1
        if a.get("top") and b.get("top"):
            changed[_class(a["top"][0]), _class(b["top"][0])] += 1
    return Gallery(
        [
            Entry(one.id, _label(a, b, labels), _kind(a, b), one.difference, _parts(a, b), picture)
            for one, (a, b), picture in zip(worst[:most], answers, shown)
        ],
        len(worst),
        [(a, b, n) for (a, b), n in changed.most_common() if a != b][:_FREQUENT],
        dict(kinds),
        note,
    )


def _decoded(run: Run, labels: Sequence[str] | None) -> Sequence[Mapping[str, Any]]:
    """Each sample's answer by the task; scores of classes as probabilities."""
    with suppress(DataError):
        answers = decode(run, labels, top=_TOP)
        if len(answers):
            values = next(iter(run.outputs.values()))
            return Made(lambda both: _as_probabilities(*both), Zipped(answers, values))
    return Made(lambda _: {}, run.samples)


def _as_probabilities(answer: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    if "top" not in answer or kind_of([value]) != "logits" or not np.isfinite(value).all():
        return answer
    shares = softmax(value).ravel()
    return {**answer, "top": [{**c, "score": float(shares[c["index"]])} for c in answer["top"]]}


def _kind(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    """See `Entry`."""
    label = left.get("label", right.get("label"))
    if label is None or not (left.get("top") and right.get("top")):
        return "other"
    hits = tuple(answer["top"][0]["index"] == label for answer in (left, right))
    return {(True, False): "worse", (False, True): "better"}.get(hits, "other")


def _label(
    left: Mapping[str, Any], right: Mapping[str, Any], labels: Sequence[str] | None
) -> str | None:
    label = left.get("label", right.get("label"))
    if label is None:
        return None
    return labels[label] if labels and 0 <= label < len(labels) else f"class {label}"


def _class(entry: Mapping[str, Any]) -> str:
    return entry["name"] or f"class {entry['index']}"


def _parts(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[Any, Any]:
    if "top" in left and "top" in right:
        return tuple(
            [(_class(c), c["score"], number == 0) for number, c in enumerate(answer["top"])]
            for answer in (left, right)
        )  # type: ignore[return-value]
    if left.get("text") is not None and right.get("text") is not None:
        both = differing(left["text"], right["text"])
        return tuple(
            [(text, None, other) for text, other in parts] + [(" ", answer["score"], False)]
            for parts, answer in zip(both, (left, right))
        )  # type: ignore[return-value]
    return [(in_words(left), None, False)], [(in_words(right), None, False)]


def _pictures(left: Run, right: Run, data: str | Path) -> tuple[list[str | None], str]:
    """A data URL for each sample, and why there is none, where there is none. Boxes, masks and
    polygons are drawn, both sides beside each other; else it is the picture alone."""
    drawn = name_of(left.task) in ("detection", "segmentation", "text-detection", "keypoints")
    try:
        if drawn:
            both = drawn_side_by_side(left, right, str(data))
            return [_url(picture, _BOTH) for _, picture in both], ""
    except PaddleEdgeError as error:
        return [], f"no pictures: {error}"
    result: list[str | None] = []
    note = ""
    for sample in left.samples:
        try:
            result.append(_url(open_image(source_of(data, sample.id)), _SIDE))
        except DataError as error:
            result.append(None)
            note = note or f"some are without a picture: {error}"
    return result, note


def _url(picture: Image.Image, side: int) -> str:
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode("ascii")
