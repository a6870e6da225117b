"""A precision and how to reach it: data, not code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from py_runner.errors import UsageError

__all__ = ["LIMITS", "RECIPES", "Limits", "Recipe", "limits_for", "recipe"]


@dataclass(frozen=True)
class Limits:
    """How far a run may be from its reference before the comparison fails.

    Args:
        cosine: least cosine similarity of the centred logits, over all samples.
        max_abs_diff: largest difference of probabilities (of other outputs: relative to the
            largest magnitude in the reference), or None for no limit.
        top1_drop: largest loss of top-1 accuracy in percentage points, or None for no limit.
    """

    cosine: float
    max_abs_diff: float | None = None
    top1_drop: float | None = None


# By precision; from conversions that were measured to be right on real models.
LIMITS: dict[str, Limits] = {
    "fp32": Limits(0.99999, max_abs_diff=1e-4),
    "fp16": Limits(0.999),
    "int16-weights": Limits(0.99999),
    "int8-weights": Limits(0.999),
    "int8": Limits(0.99, top1_drop=1.0),
}


def limits_for(precision: str, **overrides: float | None) -> Limits:
    """The limits of a precision (of fp32 where it is unknown), with those given replaced."""
    limits = LIMITS.get(precision, LIMITS["fp32"])
    return replace(limits, **{k: v for k, v in overrides.items() if v is not None})


@dataclass(frozen=True)
class Recipe:
    """How a conversion represents numbers.

    `fp16` and `quant_type` ("", "QUANT_INT8", "QUANT_INT16": weights only, computed in float)
    are options of Paddle Lite's optimizer.
    """

    name: str
    summary: str
    fp16: bool = False
    quant_type: str = ""

    @property
    def limits(self) -> Limits:
        """How close to the server a model of this recipe has to stay."""
        return LIMITS[self.name]

    def to_json(self) -> dict[str, Any]:
        """The recipe as a bundle records it."""
        return asdict(self)


RECIPES: dict[str, Recipe] = {
    r.name: r for r in (Recipe("fp32", "32-bit floats, as the model was trained"),)
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UsageError that lists the names there are."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"unknown recipe '{name}': choose {', '.join(RECIPES)}") from None
