"""What is said of an output whose figures break limits, or could not be judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from lite_opt.judge.differences import OutputDifference, Survey
from lite_opt.judge.limits import Limits
from lite_opt.judge.numbers import found_nothing

__all__ = ["LEAST_RESPONSE", "dead_of", "failures_of", "limited", "misshapen_of", "unjudged_of"]

_Array = npt.NDArray[Any]

# A candidate whose spread over the samples is below this part of the reference's is stuck.
LEAST_RESPONSE = 0.01


def limited(difference: OutputDifference, limits: Limits, noise: float | None) -> OutputDifference:
    """With the reference's own noise, and the limit that follows."""
    allowed = limits.difference(noise)
    limit = None if allowed is None or math.isinf(allowed) else allowed
    return replace(difference, noise=noise, limit=limit)


def misshapen_of(
    difference: OutputDifference, survey: Survey, a: Sequence[_Array], b: Sequence[_Array]
) -> list[str]:
    """What is said of samples whose answers have another shape."""
    if not difference.misshapen:
        return []
    first = difference.misshapen[0]
    left, right = a[survey.misshapen[0]], b[survey.misshapen[0]]
    if left.shape[1:] == right.shape[1:] or found_nothing(left) or found_nothing(right):
        counts = [0 if found_nothing(value) else len(value) for value in (right, left)]
        what = f"{counts[0]} rows (boxes, say) against {counts[1]} of the reference"
    else:
        what = f"shape {list(right.shape)} against {list(left.shape)} of the reference"
    more = len(difference.misshapen) - 1
    also = f", and other numbers for {more} more" if more else ""
    return [f"output '{difference.name}': {what} for '{first}'{also}"]


def unjudged_of(difference: OutputDifference, survey: Survey, limits: Limits) -> list[str]:
    """Why the output was not judged, where nothing was there to judge."""
    name = difference.name
    if survey.empty:
        return [
            f"output '{name}' is empty for every sample: give samples on which the model finds "
            "something"
        ]
    allowed = limits.difference(difference.noise)
    if (
        limits.max_abs_diff is not None
        and allowed == math.inf
        and limits.max_abs_diff < difference.max_probability_diff < math.inf
    ):
        return [
            f"output '{name}': differs by {difference.max_probability_diff:.2e}, and the "
            f"reference's own answer moves by {difference.noise:.2e} with the last bit of its "
            "input: a model that chaotic cannot be judged on these samples"
        ]
    return []


def dead_of(difference: OutputDifference) -> list[str]:
    """What no task forgives."""
    name = difference.name
    if difference.not_finite:
        return [
            f"output '{name}': {difference.not_finite} values are NaN or Inf, first in "
            f"'{difference.worst}'"
        ]
    if difference.response is not None and difference.response < LEAST_RESPONSE:
        return [f"output '{name}' does not move when the input does"]
    return []


def failures_of(difference: OutputDifference, limits: Limits) -> list[str]:
    """Which limits are broken; nothing where `dead_of` or `misshapen_of` has said it."""
    name, worst = difference.name, difference.worst
    if math.isinf(difference.max_abs_diff):
        return []
    failures = []
    if difference.cosine < limits.cosine:
        failures.append(
            f"output '{name}': cosine {difference.cosine:.6f} is below {limits.cosine:g}, worst "
            f"for '{worst}'"
        )
    if difference.limit is not None and difference.max_probability_diff > difference.limit:
        what = "relative difference" if difference.kind == "tensor" else "max |dp|"
        failures.append(
            f"output '{name}': {what} {difference.max_probability_diff:.2e} is above "
            f"{difference.limit:.3g}"
        )
    return failures
