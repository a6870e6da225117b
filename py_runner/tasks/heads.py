"""Heads of detectors that leave it to their caller to decode boxes and to suppress those that
overlap, as PaddleDetection exports them with `export.nms=False`, `exclude_nms` or
`exclude_post_process`. The formulas are those of its heads and of Paddle's operators yolo_box,
prior_box and multiclass_nms.

Which head it is, is told by the outputs, without their batch of one:

    boxes [M, 4] and scores [C, M]       PP-YOLOE, PicoDet, YOLOX, SSD: to be suppressed only
    boxes and scores [M, 4 + C]          PP-YOLOE
    scores [m, C] and sides [m, 4 * R] of each level    PicoDet: R chances of each distance
    [A * (5 + C), h, w] of each level    YOLOv3: needs `anchors`
    offsets [m, 4] and scores [m, C + 1] of each level, or of all in one    SSD: needs `min_sizes`
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from py_runner.tasks.options import NotOfTaskError, option
from py_runner.tasks.suppression import Suppression

__all__ = ["Candidates", "candidates"]

_Array = npt.NDArray[Any]
_Task = Mapping[str, Any]
_Sides = tuple[int, int]

# What PaddleDetection's configurations suppress; those of PicoDet are what its exports write.
_PPYOLOE = Suppression(0.01, 0.7, 1000, 300)
_YOLOX = Suppression(0.01, 0.65, 10000, 1000)
_YOLO = Suppression(0.01, 0.45, 1000, 100)
_SSD = Suppression(0.01, 0.45, 400, 200)
_PICODET = Suppression(0.3, 0.5, 1000, 100)
# Its PicoDetPostProcess keeps the best of each class, of no more than so many.
_PICODET_LEVELS = Suppression(0.4, 0.5, 200, 0, kept_by_class=100)
_STRIDES = (8, 16, 32, 64)
_VARIANCES = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True)
class Candidates:
    """Boxes before suppression: corners float64 [M, 4] as x1, y1, x2, y2 and scores [M, C], what
    is suppressed of them, and height and width that those which remain are cut off at."""

    corners: _Array
    scores: _Array
    how: Suppression
    within: _Sides | None = None


def candidates(
    outputs: Sequence[_Array], task: _Task, sides: _Sides | None, classes: int | None
) -> Candidates | None:
    """The boxes of one sample, in pixels of the tensor (of the picture, where the network divides
    by its scale_factor); None where the outputs are no head that is known.

    sides: height and width of the model's input, where they are known; classes: how many there are,
    where that is. Raises NotOfTaskError where a head is known and options lack or do not fit.
    """
    if any(value.dtype.kind != "f" or len(value) != 1 for value in outputs if value.ndim):
        return None
    values = [value[0] for value in outputs if value.ndim]
    ranks = {value.ndim for value in values}
    if len(values) != len(outputs) or not values:
        return None
    if ranks == {3}:
        return _yolo(values, task)
    if ranks != {2}:
        return None
    if len(values) == 1:
        return _joined(values[0], classes)
    if len(values) == 2 and "min_sizes" not in task:
        decoded = _decoded(values, str(task.get("arch", "")), classes)
        if decoded is not None:
            return decoded
    pairs = _levels(values)
    if pairs is None:
        return None
    first, second = pairs
    if "min_sizes" in task or _width(first) == 4:
        return _ssd(first, second, task, sides)
    return _picodet(first, second, task, sides, classes)


def _decoded(values: Sequence[_Array], arch: str, classes: int | None) -> Candidates | None:
    """Boxes [M, 4] and scores [C, M], in any order."""
    for boxes, scores in (values, values[::-1]):
        fits = boxes.shape[1] == 4 and scores.shape[1] == len(boxes) and _are_shares(scores)
        if fits and scores.shape != boxes.shape:
            how = _SSD if arch == "SSD" else _YOLOX if arch == "YOLOX" else _PPYOLOE
            how = _PICODET if arch in ("PicoDet", "GFL") else how
            known = scores[: classes or len(scores)]  # SSD's last class is the background
            if arch == "SSD" and classes is None:
                known = scores[:-1]
            return Candidates(boxes.astype(np.float64), known.T.astype(np.float64), how)
    return None


def _joined(value: _Array, classes: int | None) -> Candidates | None:
    rows = value.astype(np.float64)
    told = classes is None or value.shape[1] == 4 + classes
    fits = told and value.shape[1] > 4 and _are_shares(rows[:, 4:])
    if not fits or (rows[:, :2] > rows[:, 2:4]).any():
        return None
    return Candidates(rows[:, :4], rows[:, 4:], _PPYOLOE)


def _are_shares(scores: _Array) -> bool:
    return bool(scores.min(initial=0) >= 0 and scores.max(initial=0) <= 1)


def _levels(values: Sequence[_Array]) -> tuple[list[_Array], list[_Array]] | None:
    """The two outputs of each level, in the order of the levels: those that came first, and the
    others."""
    half = len(values) // 2
    first, second = list(values[:half]), list(values[half:])
    if [len(v) for v in first] != [len(v) for v in second]:
        first, second = list(values[::2]), list(values[1::2])  # one level after the other
    alike = [len(v) for v in first] == [len(v) for v in second]
    if len(values) % 2 or not alike or 0 in (_width(first), _width(second)):
        return None
    return (second, first) if _width(second) == 4 != _width(first) else (first, second)


def _width(values: Sequence[_Array]) -> int:
    """How many numbers each place of all levels has; 0 where they differ."""
    widths = {value.shape[1] for value in values}
    return widths.pop() if len(widths) == 1 else 0


def _picodet(
    scores: list[_Array],
    chances: list[_Array],
    task: _Task,
    sides: _Sides | None,
    classes: int | None,
) -> Candidates | None:
    if classes is not None and _width(scores) != classes == _width(chances):
        scores, chances = chances, scores
    reach = _width(chances) // 4
    if _width(chances) % 4 or reach < 2 or classes not in (None, _width(scores)):
        return None
    strides = _numbers(task, "strides", _STRIDES[: len(scores)])
    sides = _input_sides(task, sides)
    places = _places([len(v) for v in scores], strides, sides)
    how = _PICODET_LEVELS.told({**task, "nms_top_k": None, "keep_top_k": None})
    levels, corners = [], []
    for score, chance, place, stride in zip(scores, chances, places, strides):
        best = np.argsort(-score.max(1), kind="stable")[: int(option(task, "nms_top_k", 1000))]
        spread = _softmax(chance[best].astype(np.float64).reshape(-1, 4, reach))
        distance = spread @ np.arange(reach) * stride
        centre = (_grid(*place) + 0.5)[best] * stride
        corners.append(np.c_[centre - distance[:, :2], centre + distance[:, 2:]])
        levels.append(score[best].astype(np.float64))
    kept = int(option(task, "keep_top_k", how.kept_by_class))
    how = Suppression(how.score_threshold, how.nms_threshold, how.candidates, 0, kept)
    within = (int(places[0][0] * strides[0]), int(places[0][1] * strides[0]))
    return Candidates(np.concatenate(corners), np.concatenate(levels), how, sides or within)


def _yolo(values: Sequence[_Array], task: _Task) -> Candidates:
    """yolo_box of each level; the largest anchors are those of the fewest places."""
    anchors = _numbers(task, "anchors")
    values = sorted(values, key=lambda value: value.shape[1] * value.shape[2])
    count = len(anchors) // (2 * len(values))
    depths = {value.shape[0] for value in values}
    if not count or len(anchors) != 2 * count * len(values) or len(depths) > 1:
        raise NotOfTaskError(
            f"{len(anchors) / 2:g} anchors are not as many for each of {len(values)}"
        )
    depth = depths.pop()
    if depth % count or depth // count < 6:
        raise NotOfTaskError(f"a head of {depth} channels is not one of {count} anchors a place")
    sizes = np.array(anchors).reshape(-1, count, 2)[::-1]
    strides = _numbers(task, "strides", [32 >> level for level in range(len(values))])
    strides = sorted(strides, reverse=True)
    stretch, least = option(task, "scale_x_y", 1.0), option(task, "conf_threshold", 0.005)
    corners, scores = [], []
    for value, anchor, stride in zip(values, sizes, strides):
        high, wide = value.shape[1:]
        rows = value.astype(np.float64).reshape(count, depth // count, high * wide)
        rows = rows.transpose(0, 2, 1)
        middle = _grid(high, wide) + _sigmoid(rows[..., :2]) * stretch - (stretch - 1) / 2
        half = np.exp(rows[..., 2:4]) * anchor[:, None] / 2
        found = np.concatenate([middle * stride - half, middle * stride + half], -1)
        sure = _sigmoid(rows[..., 4:5])
        corners.append(_clipped(found.reshape(-1, 4), (high * stride, wide * stride)))
        score = np.where(sure < least, 0, sure * _sigmoid(rows[..., 5:]))
        scores.append(score.reshape(-1, score.shape[-1]))
    return Candidates(np.concatenate(corners), np.concatenate(scores), _YOLO)


def _clipped(corners: _Array, sides: tuple[float, float]) -> _Array:
    corners[:, :2] = np.maximum(corners[:, :2], 0)
    corners[:, 2:] = np.minimum(corners[:, 2:], (sides[1] - 1, sides[0] - 1))
    return corners


def _ssd(
    offsets: list[_Array], scores: list[_Array], task: _Task, sides: _Sides | None
) -> Candidates:
    """Boxes by their offsets from prior boxes, as fractions of the input's sides; the last class is
    the background."""
    sides = _input_sides(task, sides)
    if sides is None:
        raise NotOfTaskError("a head of SSD needs the input's size: size=HxW")
    priors = _priors(task, sides)
    found = np.concatenate(offsets).astype(np.float64)
    if len(priors) != len(found):
        raise NotOfTaskError(
            f"min_sizes, max_sizes, aspect_ratios and strides make {len(priors)} prior boxes, and "
            f"the head has {len(found)}"
        )
    variances = np.array(_numbers(task, "variances", _VARIANCES))
    size = priors[:, 2:] - priors[:, :2]
    middle = priors[:, :2] + size / 2 + found[:, :2] * size * variances[:2]
    half = np.exp(found[:, 2:] * variances[2:]) * size / 2
    corners = np.c_[middle - half, middle + half] * np.array([sides[1], sides[0]] * 2)
    chances = _softmax(np.concatenate(scores).astype(np.float64))
    return Candidates(corners, chances[:, :-1], _SSD)


def _priors(task: _Task, sides: _Sides) -> _Array:
    """Paddle's prior_box of all levels: fractions of the input's sides, [M, 4]."""
    least, most = _numbers(task, "min_sizes"), _numbers(task, "max_sizes", ())
    strides = _numbers(task, "strides")
    told = task.get("aspect_ratios", "")
    ratios = [_ratios(str(w)) for w in (told if isinstance(told, list) else str(told).split("x"))]
    if not len(least) == len(strides) == len(ratios) or len(most) not in (0, len(least)):
        raise NotOfTaskError(
            "a head of SSD needs min_sizes, strides and aspect_ratios for each of its levels: "
            "min_sizes=30x60, strides=16x32, aspect_ratios=2x2+3"
        )
    first = bool(task.get("min_max_aspect_ratios_order", False))
    boxes = []
    for level, (small, stride) in enumerate(zip(least, strides)):
        shapes = [(small * math.sqrt(r), small / math.sqrt(r)) for r in ratios[level]]
        if most:
            large = math.sqrt(small * most[level])
            shapes.insert(1 if first else len(shapes), (large, large))
        grid = _grid(math.ceil(sides[0] / stride), math.ceil(sides[1] / stride))
        centre = (grid + option(task, "offset", 0.5))[:, None] * stride
        half = np.array(shapes)[None] / 2
        boxes.append(np.concatenate([centre - half, centre + half], -1).reshape(-1, 4))
    found = np.concatenate(boxes) / np.array([sides[1], sides[0]] * 2)
    return np.asarray(np.clip(found, 0, 1)) if task.get("clip", False) else found


def _ratios(word: str) -> list[float]:
    """1, and each of a level's ratios with its inverse."""
    result = [1.0]
    for part in word.split("+") if word else []:
        try:
            ratio = float(part)
        except ValueError:
            raise NotOfTaskError(f"aspect_ratios: {word!r} is no list such as 2+3") from None
        if not any(abs(ratio - known) < 1e-6 for known in result):
            result += [ratio, 1 / ratio]
    return result


def _input_sides(task: _Task, sides: _Sides | None) -> _Sides | None:
    told = _numbers(task, "size", ())
    return sides if not told else (int(told[0]), int(told[-1]))


def _places(counts: list[int], strides: Sequence[float], sides: _Sides | None) -> list[_Sides]:
    """Height and width of each level's grid."""
    if len(strides) != len(counts):
        raise NotOfTaskError(f"{len(strides)} strides for a head of {len(counts)} levels")
    if sides is None:
        squares = [(math.isqrt(count),) * 2 for count in counts]
    else:
        squares = [(math.ceil(sides[0] / s), math.ceil(sides[1] / s)) for s in strides]
    if [high * wide for high, wide in squares] != counts:
        what = "the input's size is not known" if sides is None else f"{sides[0]}x{sides[1]}"
        raise NotOfTaskError(
            f"levels of {', '.join(map(str, counts))} places do not fit the input ({what}): say "
            "size=HxW and strides"
        )
    return squares


def _grid(high: int, wide: int) -> _Array:
    """x and y of each place, row by row, [high * wide, 2]."""
    y, x = np.mgrid[:high, :wide]
    return np.asarray(np.stack([x.ravel(), y.ravel()], -1), np.float64)


def _numbers(task: _Task, name: str, usual: Sequence[float] | None = None) -> list[float]:
    """An option of one or more numbers. Raises NotOfTaskError for another, and where it is missing
    and nothing is usual."""
    value = task.get(name, usual)
    if value is None:
        raise NotOfTaskError(f"this head needs the option {name}")
    several = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in several):
        raise NotOfTaskError(f"the task's option {name} is of numbers, not {value!r}")
    if any(not 0 < one < math.inf for one in several):
        raise NotOfTaskError(f"the task's option {name} is of positive numbers, not {value!r}")
    return [float(one) for one in several]


def _sigmoid(values: _Array) -> _Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -88, 88))))


def _softmax(values: _Array) -> _Array:
    grown = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(grown / grown.sum(-1, keepdims=True))
