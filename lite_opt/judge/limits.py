"""How far a run may be from its reference before a comparison fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["LIMITS", "Limits", "limits_for"]


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
