"""What would pass, where a recipe misses its limits: each way is tried before it is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lite_opt.conversion.judges import CheckFailedError
from lite_opt.conversion.plan import Plan
from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import Limits
from lite_opt.judge.metric import Metric
from lite_opt.judge.sensitivity import LayerLoss, layers_within, sensitivity
from lite_opt.quant.mixed import Quantized
from py_runner.errors import PaddleEdgeError
from py_runner.tensors import Sample
from py_runner.watch import Watch

__all__ = ["WayOut", "WaysOut", "ways_out"]

# Which recipes lose less, the smallest file first.
_INSTEAD = {
    "int8": ("int8-weights", "fp16"),
    "int8-weights": ("int16-weights",),
    "int16-weights": ("fp32",),
    "fp16": ("fp32",),
}
# What goes with the calibration of int8, and what another recipe has limits of its own for.
_OF_INT8 = (
    *("--calibration", "--calibration-samples", "--algorithm", "--per-tensor", "--seed"),
    *("--equalise", "--no-equalise", "--centre", "--no-centre"),
    *("--align", "--no-align", "--correct-bias", "--no-correct-bias"),
    "--effort",
    *("--max-drop", "--max-float", "--float-layer", "--save-quantized"),
)
_OF_LIMITS = ("--cosine", "--max-abs-diff", "--top1-drop")
# More samples hardly change which layers are worst. Each layer is one more pass over them: of a
# network of many layers there are fewer.
_RANKING_SAMPLES, _RANKING_PASSES = 8, 512
# Who keeps more layers in float had better take another recipe.
_MOST_FLOAT_LAYERS = 12
# Below this the answers are others, and no limit makes them right.
_LEAST_COSINE = 0.9


@dataclass(frozen=True)
class WayOut:
    """A change of the command that was tried: options that are added, and that are left out; what
    came of it, in words."""

    options: tuple[str, ...]
    without: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class WaysOut:
    """`worst` are the layers that lose most where that is known, worst first."""

    worst: tuple[LayerLoss, ...] = ()
    ways: tuple[WayOut, ...] = ()


def ways_out(
    failed: CheckFailedError,
    models: Models,
    samples: Sequence[Sample],
    plan: Plan,
    source: Source,
    again: Callable[..., Report | None],
    watch: Watch,
) -> WaysOut | None:
    """What would pass on the same data; None where not the recipe is to blame.

    `again` converts the model with another recipe, and returns the report where that passes.
    """
    report, recipe = failed.report, models.recipe
    if failed.pair is None or report is None or report.candidate["precision"] != recipe.name:
        return None
    watch.say("a limit is missed: looking for what would pass")
    worst: tuple[LayerLoss, ...] = ()
    ways: list[WayOut] = []
    metric = source.metric(plan.truth) if report.scores is not None else Metric()
    if models.mixed is not None and report.candidate["engine"] == "paddle":
        worst, found = _float_layers(models, models.mixed, samples, report, metric, watch)
        ways += found
    ways += _other_recipes(recipe.name, plan, again)
    ways += _other_limits(failed.pair, report)
    return WaysOut(worst[:3], tuple(ways))


def _float_layers(
    models: Models,
    mixed: Quantized,
    samples: Sequence[Sample],
    report: Report,
    metric: Metric,
    watch: Watch,
) -> tuple[tuple[LayerLoss, ...], list[WayOut]]:
    """The layers that lose most, and which to keep in float."""
    settings = models.recipe.calibration
    assert settings is not None
    try:
        count = max(1, min(_RANKING_SAMPLES, _RANKING_PASSES // len(mixed.layers)))
        losses = sensitivity(mixed, samples[:count], metric=metric, watch=watch)
        found = layers_within(
            mixed,
            samples,
            report.limits,
            losses,
            most=_MOST_FLOAT_LAYERS,
            always=settings.float_layers,
            metric=metric,
        )
    except PaddleEdgeError:
        return (), []
    if found is None:
        return losses, []
    layers, passed = found
    # Also those that a budget found, which would be spent anew.
    every = (*settings.float_layers, *layers)
    options = tuple(word for layer in every for word in ("--float-layer", layer))
    without = ("--max-drop", "--max-float", "--float-layer")
    many = f"{len(layers)} of {len(mixed.layers)} layers more in float"
    return losses, [WayOut(options, without, f"{many}: {_words(passed)}")]


def _other_recipes(recipe: str, plan: Plan, again: Callable[..., Report | None]) -> list[WayOut]:
    ways = []
    samples = plan.samples if plan.samples is not None else plan.calibration
    for name in _INSTEAD.get(recipe, ()):
        report = again(name, samples=samples)
        if report is None:
            continue
        options: tuple[str, ...] = ("--recipe", name)
        if plan.samples is None and samples is not None:
            options += ("--samples", str(samples))
        ways.append(WayOut(options, ("--recipe", *_OF_INT8, *_OF_LIMITS), _words(report)))
    return ways


def _other_limits(pair: tuple[Any, Any], report: Report) -> list[WayOut]:
    """The limits missed, each set to what was measured, rounded to the side that passes."""
    limits = vars(report.limits).copy()
    options: tuple[str, ...] = ()
    cosine = min(output.cosine for output in report.outputs)
    if not cosine >= _LEAST_COSINE:
        return []
    if cosine < limits["cosine"]:
        limits["cosine"] = _down(cosine)
        options += ("--cosine", f"{limits['cosine']:.12g}")
    if any(o.limit is not None and o.max_probability_diff > o.limit for o in report.outputs):
        limits["max_abs_diff"] = _up(max(o.max_probability_diff for o in report.outputs))
        limits["noise_times"] = 0.0
        options += ("--max-abs-diff", f"{limits['max_abs_diff']:.12g}")
    drop = report.accuracy["drop"] if report.accuracy else None
    if drop is not None and limits["top1_drop"] is not None and drop > limits["top1_drop"]:
        limits["top1_drop"] = math.ceil(drop * 10) / 10
        options += ("--top1-drop", f"{limits['top1_drop']:g}")
    if not options:
        return []
    tried = compare(*pair, limits=Limits(**limits))
    left_out = tuple(word for word in options if word.startswith("--"))
    return [WayOut(options, left_out, f"as it is: {_words(tried)}")] if tried else []


def _down(cosine: float) -> float:
    """Two digits of what is missing to 1, so that the limit is a little less than the cosine."""
    missing = max(1 - cosine, 1e-9)
    digits = 1 - math.floor(math.log10(missing))
    return float(round(1 - math.ceil(missing * 10**digits) / 10**digits, digits))


def _up(difference: float) -> float:
    digits = 1 - math.floor(math.log10(difference))
    return float(round(math.ceil(difference * 10**digits) / 10**digits, digits))


def _words(report: Report) -> str:
    """What matters of a report, in words."""
    said = [f"cosine {min(output.cosine for output in report.outputs):.5f}"]
    if report.top1_agreement is not None:
        said.append(f"top-1 agreement {100 * report.top1_agreement:.2f} %")
    if report.accuracy is not None:
        said.append(f"top-1 accuracy falls by {report.accuracy['drop']:.2f} points")
    if report.scores is not None:
        said += [f"{rate.name} {rate.value:.4g}" for rate in report.rates if rate.limit is not None]
    return f"{', '.join(said)} of {report.samples} samples"
