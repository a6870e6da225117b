"""What int8 would cost each layer of a model, before anything is converted."""

from __future__ import annotations

from pathlib import Path

from lite_opt.conversion.plan import Material
from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import calibrated
from lite_opt.judge.sensitivity import LayerLoss, sensitivity
from lite_opt.model.load import load
from lite_opt.passes.repair import repair
from lite_opt.recipes import RECIPES, Recipe
from py_runner.errors import UsageError
from py_runner.watch import QUIET, Watch

__all__ = ["layer_losses"]


def layer_losses(
    model: str | Path,
    *,
    calibration: str | Path,
    recipe: Recipe = RECIPES["int8"],
    samples: int = 32,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    truth: str | Path | None = None,
    watch: Watch = QUIET,
) -> tuple[LayerLoss, ...]:
    """What computing each layer alone in int8 costs, worst first: see `sensitivity`.

    Arguments and errors are those of `convert`, what is lost is told by the model's task, with
    labels where there are (`Metric`); `samples` is how many to measure with, held out
    from the calibration where its data set is large enough.
    """
    watch.say(f"reading {model}")
    program = load(model, params=params)
    source = Source.of(program, image=image, labels=labels, task=task)
    if source.precision == "int8":
        raise UsageError(f"{model}: is quantized already: measure the float model")
    data = Material.for_calibration(source, recipe, calibration)
    for warning in filter(None, (source.warning, *data.warnings)):
        watch.warn(warning)
    repair(program, recipe=recipe)
    quantized = calibrated(program, recipe, data, watch)
    measured = (data.held_out or data.calibration)[:samples]
    watch.say(
        f"quantizing each of {len(quantized.layers)} layers alone, on {len(measured)} samples"
    )
    return sensitivity(quantized, measured, metric=source.metric(truth), watch=watch)
