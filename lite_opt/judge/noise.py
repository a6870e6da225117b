"""The server's own noise: how far its answers move although nothing that matters has changed.

Some right models amplify rounding until it is larger than any fixed limit. What an engine may do to
them is measured on the server itself: on inputs moved by one unit in the last place, with its other
kernels (oneDNN), and with what ARM's kernels only estimate put that far off. The figure is the one
that limits apply to (`OutputDifference.max_probability_diff`), by output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lite_opt.judge.compare import compare
from lite_opt.judge.limits import MOST_NOISE
from py_runner.errors import DataError, EngineError
from py_runner.formats.run import Run
from py_runner.tensors import Sample

__all__ = ["jittered", "noise_of_server"]


def jittered(sample: Sample, seed: int = 0) -> Sample:
    """The sample with every float moved to its neighbour, up or down as the seed draws."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for name, value in sample.feeds.items():
        if np.issubdtype(value.dtype, np.floating):
            towards = generator.choice(np.array([-np.inf, np.inf], value.dtype), value.shape)
            value = np.nextafter(value, towards)
        feeds[name] = value
    return replace(sample, feeds=feeds)


def noise_of_server(
    samples: Sequence[Sample],
    reference: Run,
    answer: Callable[[Sequence[Sample], str], Run],
    estimated: Callable[[], tuple[Run, Run]] | None = None,
) -> dict[str, float]:
    """The largest difference that `reference`, the answers to `samples`, has from the server's
    answers to the same samples jittered, and from those with other kernels; or that the two of
    `estimated` have: one model's answers, and those with the error of kernels that estimate.

    `answer` runs the model of the reference on samples, on a device of the server engine. Other
    kernels on which it dies say nothing (oneDNN does on some models), nor do those that are off by
    more than MOST_NOISE: these are wrong. At most 1, also where the number of values changes.
    Outputs of integers have none: they are equal or another answer.
    """
    moved = [jittered(sample, seed) for seed, sample in enumerate(samples)]
    experiments: list[tuple[Callable[[], tuple[Run, Run]], float]] = [
        (lambda: (reference, answer(moved, "cpu")), 1.0),
        (lambda: (reference, answer(samples, "cpu+onednn")), MOST_NOISE),
    ]
    if estimated is not None:
        experiments.append((estimated, 1.0))
    noise: dict[str, float] = {}
    for experiment, most in experiments:
        try:
            still, other = experiment()
            # As if it had been fed the same: that it was not is the experiment.
            report = compare(still, replace(other, samples=still.samples))
        except (EngineError, DataError):
            continue
        for output, (name, values) in zip(report.outputs, reference.outputs.items()):
            found = min(1.0, output.max_probability_diff)
            if np.issubdtype(values[0].dtype, np.floating) and found <= most:
                noise[name] = max(noise.get(name, 0.0), found)
    return noise
