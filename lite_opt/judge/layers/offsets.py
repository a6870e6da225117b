"""Normalisations that are fed a mean much larger than the deviation around it.

Of such values float32 leaves little, and less where a kernel computes a variance as E[x^2] -
E[x]^2: ARM's of layer_norm does (lite/backends/arm/math/norm.cc; 6 % off at a mean 1000 times the
deviation), and Paddle's own of group_norm. Whether a network has such values is measured on a
sample, by the server.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from lite_opt.judge.layers.graph import Graph
from lite_opt.model.load import stage
from lite_opt.model.program import Op, Program
from lite_opt.passes.norms import about_the_mean
from lite_opt.passes.rule import Change
from py_runner.errors import EngineError, ModelError
from py_runner.files.folder import temporary_folder
from py_runner.inference import run
from py_runner.tensors import Model, Sample

__all__ = ["centre", "large_means", "said_of"]

# The square of this is 2.4e-5 of a variance in float32: less than what fp32 is allowed to be off.
_LARGE = 20.0
# One rounding of values at this many deviations from 0 moves them by 1e-5 of a deviation.
_LOSES_DIGITS = 100.0


def centre(program: Program, samples: Sequence[Sample]) -> list[Change]:
    """Have every layer_norm that the first sample shows a large mean to read its input less the
    mean, which is the same: in place; returns the changes."""
    means = large_means(program, samples, ("layer_norm",))
    layers = [layer for layer, (_, times) in means.items() if times > _LARGE]
    return about_the_mean(layers)(program) if layers else []


def said_of(program: Program, samples: Sequence[Sample]) -> str:
    """Why the answers of a source model to the first sample have few digits, and what to do about
    that; "" where no normalisation is the reason."""
    means = large_means(program, samples, ("layer_norm", "group_norm", "instance_norm"))
    if not means:
        return ""
    layer, (type_, times) = max(means.items(), key=lambda item: item[1][1])
    if times < _LOSES_DIGITS:
        return ""
    return (
        f"{type_} in layer '{layer}' is fed values whose mean is {times:.0f} times their "
        "deviation, of which float32 leaves few digits, on the server as well: subtract that mean "
        "earlier in the network, and export again"
    )


def large_means(
    program: Program, samples: Sequence[Sample], types: Collection[str]
) -> dict[str, tuple[str, float]]:
    """The normalisations of these types, by layer: type, and how many times larger a mean is at
    most than the deviation around it. Empty where the server cannot tell."""
    norms = [op for op in program.ops if op.type in types]
    if not norms or not samples:
        return {}
    fed = dict(samples[0].feeds)
    made = {name for op in program.ops for name in op.writes}
    taps = [n for n in dict.fromkeys(op.inputs["X"][0] for op in norms) if n in made - set(fed)]
    try:
        values = fed | (_tapped(program, samples[0], taps) if taps else {})
    except (EngineError, ModelError):
        return {}
    return {
        op.layer: (op.type, _times(op, values[op.inputs["X"][0]]))
        for op in norms
        if op.inputs["X"][0] in values
    }


def _tapped(
    program: Program, sample: Sample, taps: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """What the server computes for variables of a program."""
    part = Graph(program).tapped(taps, {})
    names = {spec.name for spec in part.inputs}
    feeds = {name: value for name, value in sample.feeds.items() if name in names}
    with temporary_folder() as folder:
        files = stage(part, folder)
        assert files.params is not None
        model = Model("norms", "", "fp32", (files.model, files.params), tuple(part.inputs))
        answers = run(model, [Sample(sample.id, feeds)], engine="paddle", warmup=0)
    return {name: values[0] for name, values in zip(taps, answers.outputs.values())}


def _times(op: Op, value: npt.NDArray[np.float32]) -> float:
    """The largest |mean| / sqrt(variance + epsilon) of what is normalised together."""
    if op.type == "layer_norm":
        begin = op.get("begin_norm_axis", 1)
        rows = int(np.prod(value.shape[:begin]))
    else:
        groups = op.get("groups", 1) if op.type == "group_norm" else value.shape[1]
        rows = value.shape[0] * groups
    if not value.size or not rows:
        return 0.0
    wide = value.reshape(rows, -1).astype(np.float64)
    deviation = np.sqrt(wide.var(axis=1) + op.get("epsilon", 1e-5))
    return float((np.abs(wide.mean(axis=1)) / deviation).max())
