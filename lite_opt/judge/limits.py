"""How far a run, and a layer of it, may be from its reference before a comparison fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from py_runner.errors import UsageError
from py_runner.formats.bundle import LIMIT_RANGES, check_limit

__all__ = [
    "LAYER_LIMITS",
    "LIMITS",
    "MOST_NOISE",
    "ROUNDED",
    "TASK_LIMITS",
    "LayerLimits",
    "Limits",
    "kept_limits",
    "layer_limits_for",
    "limits_for",
    "task_limits_for",
]

# A model whose own answers move by more than this, on the scale of `max_abs_diff`, when its input
# moves by one unit in the last place, says nothing that an engine could be held to.
MOST_NOISE = 1e-2


@dataclass(frozen=True)
class Limits:
    """How far a run may be from its reference before the comparison fails.

    Args:
        cosine: least cosine similarity of the centred logits, over all samples.
        max_abs_diff: largest difference of probabilities (of other outputs: relative to the
            largest magnitude in the reference), or None for no limit.
        top1_drop: largest loss of top-1 accuracy in percentage points, or None for no limit.
        noise_times: so many times the reference's own noise (`Run.noise`) are allowed where that is
            more than `max_abs_diff`; 0 for never.

    Raises UsageError for a limit that is no finite number of its range.
    """

    cosine: float
    max_abs_diff: float | None = None
    top1_drop: float | None = None
    noise_times: float = 8.0

    def __post_init__(self) -> None:
        for name in LIMIT_RANGES:
            value = getattr(self, name)
            if value is not None:
                try:
                    check_limit(name, value)
                except ValueError as error:
                    raise UsageError(str(error)) from None

    def difference(self, noise: float | None) -> float | None:
        """The largest difference allowed of an output with this noise; None for no limit, infinite
        where the noise is more than MOST_NOISE: no difference then means anything."""
        if self.max_abs_diff is None or noise is None or self.noise_times == 0:
            return self.max_abs_diff
        if not noise <= MOST_NOISE:
            return math.inf
        return max(self.max_abs_diff, self.noise_times * noise)


# By precision; from conversions that were measured to be right on real models.
LIMITS: dict[str, Limits] = {
    "fp32": Limits(0.99999, max_abs_diff=1e-4),
    "fp16": Limits(0.999),
    "int16-weights": Limits(0.99999),
    "int8-weights": Limits(0.99),
    "int8": Limits(0.99, top1_drop=1.0),
}


def limits_for(precision: str, kept: Limits | None = None, /, **overrides: float | None) -> Limits:
    """The limits of a precision (of fp32 where it is unknown), or those `kept` with a bundle, with
    those given replaced.

    A `max_abs_diff` that is given is meant: noise does not raise it unless `noise_times` is given
    as well. Raises UsageError for a limit that there is not.
    """
    limits = kept or LIMITS.get(precision, LIMITS["fp32"])
    names = [field.name for field in fields(Limits)]
    for name in overrides:
        if name not in names:
            raise UsageError(f"there is no limit '{name}': choose {', '.join(names)}")
    given = {name: value for name, value in overrides.items() if value is not None}
    if "max_abs_diff" in given:
        given = {"noise_times": 0.0, **given}
    return replace(limits, **given)


# By task: the least share of what both runs find alike, and the most points (of a hundred) that may
# be lost by labels. Those of rounded weights and activations are what quantisation is commonly
# allowed to cost; those of the others leave room for what floating point explains.
TASK_LIMITS: dict[str, dict[str, float]] = {
    "detection": {"boxes": 0.99, "map_drop": 0.5},
    "segmentation": {"pixels": 0.99, "miou": 0.98, "miou_drop": 0.5},
    "text-detection": {"texts": 0.99, "texts_strict": 0.98, "hmean_drop": 0.5},
    "text-recognition": {"lines": 0.99, "characters": 0.998, "lines_drop": 0.5},
    "embedding": {"recall": 0.99, "recall_drop": 0.5},
    "keypoints": {"points": 0.99, "oks_drop": 0.5},
    "ocr": {"lines": 0.99, "characters": 0.998, "texts": 0.99, "turns": 0.99}
    | {"hmean_drop": 0.5, "lines_drop": 0.5},
}
ROUNDED = ("int8", "int8-weights")
_ROUNDED_LIMITS: dict[str, dict[str, float]] = {
    "detection": {"boxes": 0.9, "map_drop": 1.0},
    "segmentation": {"pixels": 0.97, "miou": 0.9, "miou_drop": 1.0},
    "text-detection": {"texts": 0.95, "texts_strict": 0.7, "hmean_drop": 1.0},
    "text-recognition": {"lines": 0.95, "characters": 0.99, "lines_drop": 1.0},
    "embedding": {"recall": 0.98, "recall_drop": 1.0},
    "keypoints": {"points": 0.95, "oks_drop": 1.0},
    "ocr": {"lines": 0.9, "characters": 0.98, "texts": 0.95, "turns": 0.95}
    | {"hmean_drop": 1.0, "lines_drop": 1.0},
}


def task_limits_for(task: str, precision: str, **overrides: float) -> dict[str, float]:
    """The limits of a task in a precision, with those given replaced; none of a task without.

    Raises UsageError for a name that is not of the task, and for what is no share (0 to 1), nor
    points (of a name that ends in "_drop", -100 to 100).
    """
    table = _ROUNDED_LIMITS if precision in ROUNDED else TASK_LIMITS
    limits = dict(table.get(task, {}))
    for name, value in overrides.items():
        if name not in limits:
            has = ", ".join(limits) or "none"
            raise UsageError(f"task {task} has no limit '{name}': it has {has}")
        try:
            check_limit(name, value)
        except ValueError as error:
            raise UsageError(str(error)) from None
        limits[name] = value
    return limits


def kept_limits(recipe: Mapping[str, Any], precision: str) -> tuple[Limits, dict[str, float]]:
    """The limits, and those of its task, that a bundle was made with (its `recipe`), for runs of
    that precision; of another one the usual limits and none, as of bundles that keep none."""
    if recipe.get("name") != precision:
        return limits_for(precision), {}
    names = [field.name for field in fields(Limits)]
    told = {name: value for name, value in recipe.get("limits", {}).items() if name in names}
    return replace(limits_for(precision), **told), dict(recipe.get("task_limits", {}))


@dataclass(frozen=True)
class LayerLimits:
    """The least signal-to-noise ratio before a layer counts as wrong: see `Numbers` and
    `Tap` of judge/layers/result.py.

    Args:
        alone_db: of one layer that is fed the server's values; it is right above this, and also
            within `margin_db` of what the recipe's rounding costs there (`Tap.expected_db`).
        margin_db: how far below that it may be.
        whole_db: of any variable of the network as it runs.
    """

    alone_db: float
    whole_db: float
    margin_db: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value):
                raise UsageError(f"the limit {name} is a number, not {value}")


# By recipe, from SqueezeNet1_1, EfficientNet-Lite0 and PP-OCR's three models without a fault. One
# layer alone has 125 dB or more in fp32; in int8-weights and int16-weights it is within 0.2 dB of
# what is expected; in static int8 up to 10 dB below, where calibration cuts off rare large values.
# The network as it runs has at the least 98 dB in fp32, 42 in fp16, 52 in int16-weights, 9 in
# int8-weights and 16 in int8.
LAYER_LIMITS: dict[str, LayerLimits] = {
    "fp32": LayerLimits(80.0, 60.0),
    "fp16": LayerLimits(55.0, 25.0),
    "int16-weights": LayerLimits(80.0, 35.0, 6.0),
    "int8-weights": LayerLimits(80.0, 3.0, 6.0),
    "int8": LayerLimits(30.0, 3.0),
}


def layer_limits_for(recipe: str) -> LayerLimits:
    """The limits of a recipe, of fp32 where it is unknown."""
    return LAYER_LIMITS.get(recipe, LAYER_LIMITS["fp32"])
