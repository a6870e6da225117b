"""What a conversion is asked for, and all that is refused before long work begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.conversion.source import Source
from lite_opt.judge.limits import Limits, limits_for, task_limits_for
from lite_opt.lite.kernels import RELEASES
from lite_opt.lite.targets import LITE, TARGETS, cannot
from lite_opt.model.program import Program
from lite_opt.quant.calibrate import calibration_warnings
from lite_opt.recipes import QUANTIZED, Calibration, Recipe
from py_runner.data.dataset import Dataset, dataset
from py_runner.data.labels import class_names
from py_runner.data.mentions import with_mentioned
from py_runner.data.random_samples import random_samples
from py_runner.errors import DataError, UsageError
from py_runner.files.folder import check_free
from py_runner.inference import bundle_target
from py_runner.tasks import name_of
from py_runner.tensors import Sample

__all__ = ["CHECK_SAMPLES", "Material", "Plan", "fix_shapes"]

CHECK_SAMPLES = 4
_JUDGED_SAMPLES = 100  # of calibrated recipes: accuracy shows in many, not in four
_HELD_OUT_SAMPLES = 256
_FEWEST_SAMPLES = 16  # to round weights for


@dataclass(frozen=True)
class Plan:
    """The arguments of `convert` that decide what is made; its docstring has their meaning.

    Raises UsageError where they do not fit each other, or where a folder cannot be written.
    """

    recipe: Recipe
    target: Sequence[str]
    out: Path
    calibration: str | Path | None
    samples: str | Path | None
    check_samples: int
    check: bool
    save_quantized: Path | None
    force: bool
    reads: tuple[str | Path | None, ...]
    release: str = RELEASES[-1]
    limits: Mapping[str, float | None] = field(default_factory=dict)
    truth: Path | None = None
    task_limits: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None

    def __post_init__(self) -> None:
        recipe = self.recipe
        limits_for(recipe.name, **self.limits)
        given = [name for name, value in self.limits.items() if value is not None]
        if given and not self.check:
            raise UsageError(f"nothing is compared without a check: leave {', '.join(given)} out")
        if self.truth is not None and self.samples is None and self.calibration is None:
            raise UsageError(
                f"{self.truth}: labels are of samples: give them with --samples or --calibration"
            )
        unknown = [t for t in self.target if t not in TARGETS]
        if unknown or not self.target:
            raise UsageError(f"unknown target '{', '.join(unknown)}': choose {', '.join(TARGETS)}")
        if self.release not in RELEASES:
            raise UsageError(
                f"there is no release '{self.release}' of Paddle Lite that reads today's files: "
                f"choose {', '.join(RELEASES)}"
            )
        if self.device is not None:
            self._check_device(self.device)
        if self.check_samples < 1:
            raise UsageError("check_samples is at least 1")
        refused = {name: cannot(name, recipe) for name in self.target}
        if all(refused.values()):
            name, why = next(iter(refused.items()))
            raise UsageError(f"recipe {recipe.name} cannot be made for {name}: {why}")
        if recipe.calibration is not None and self.calibration is None:
            raise UsageError(
                f"recipe {recipe.name} has to be calibrated: give --calibration with data like "
                "those in use, about 100 samples"
            )
        if recipe.calibration is None:
            unused = None if recipe.rounds_for_data else self.calibration
            unsaved = None if recipe.fp16 else self.save_quantized
            for option, value in (("calibration", unused), ("save-quantized", unsaved)):
                if value is not None:
                    raise UsageError(
                        f"recipe {recipe.name} is not calibrated: leave --{option} out"
                    )
        keep = with_mentioned((*self.reads, self.samples, self.calibration))
        check_free(self.out, force=self.force, keep=keep)
        if self.save_quantized is not None:
            check_free(self.save_quantized, force=self.force, keep=keep)

    def _check_device(self, device: str) -> None:
        if not self.check or "arm" not in self.target:
            raise UsageError("a device judges the file for arm: make and check that")
        if bundle_target("native", device) != "arm":
            raise UsageError(f"device {device} is no ARM: it cannot judge the file for arm")

    @property
    def lite(self) -> list[str]:
        """The targets of Paddle Lite in order: arm decides, x86 is there to check it."""
        return [name for name in LITE if name in self.target]

    @property
    def onnx(self) -> bool:
        """Whether an ONNX file is asked for."""
        return "onnx" in self.target

    def limits_of(self, recipe: Recipe) -> Limits:
        """How far what the recipe makes may be from the source model."""
        return limits_for(recipe.name, **self.limits)

    def task_limits_of(self, recipe: Recipe, task: Mapping[str, Any] | None) -> dict[str, float]:
        """How much of what the task finds may be lost by it. Raises UsageError for limits that are
        not of the task."""
        return task_limits_for(name_of(task), recipe.name, **self.task_limits)

    def recipe_for(self, source: Source) -> Recipe:
        """The recipe of this model; one that comes quantized brings its own."""
        if source.precision != "int8":
            return self.recipe
        if self.recipe.name != "fp32":
            raise UsageError(
                f"{source.files.model}: is quantized already, recipe {self.recipe.name} would do "
                "it twice: leave --recipe out, or convert the float model"
            )
        return QUANTIZED


@dataclass(frozen=True)
class Material:
    """The data of a conversion: what to calibrate with, what is held out from that, and what
    judges the result; `drawn` is whether that is random tensors."""

    calibration: list[Sample] = field(default_factory=list)
    held_out: list[Sample] = field(default_factory=list)
    judged: list[Sample] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    drawn: bool = False

    @classmethod
    def gather(
        cls,
        plan: Plan,
        source: Source,
        recipe: Recipe,
        shapes: Mapping[str, Sequence[tuple[int, ...]]] | None,
    ) -> Material:
        """Read the data of a plan; `shapes` are those of random tensors."""
        count = plan.check_samples
        if plan.calibration is not None and plan.check:
            count = max(count, _JUDGED_SAMPLES)
        data = cls.for_calibration(source, recipe, plan.calibration)
        warnings = [*filter(None, [source.warning]), *data.warnings]
        judged: list[Sample] = []
        if plan.samples is not None:
            given = _data_of(source, plan.samples)
            judged = list(given.select(range(min(count, len(given)))))
            if plan.calibration is None and recipe.rounds_for_data:
                data = cls(calibration=_beyond(given, len(judged)))
        elif data.calibration:
            if not data.held_out and plan.check:
                warnings.append("judged on the samples of the calibration: give more, or --samples")
            judged = (data.held_out or data.calibration)[:count]
        elif plan.check:
            judged = random_samples(
                source.inputs, count=count, image=source.image, shapes=shapes, draws=source.draws
            )
        drawn = plan.samples is None and plan.calibration is None
        return cls(data.calibration, data.held_out, judged, tuple(warnings), drawn)

    @classmethod
    def for_calibration(cls, source: Source, recipe: Recipe, path: str | Path | None) -> Material:
        """What the recipe calibrates with, or rounds weights for, drawn by its seed, and what is
        left of the data set."""
        settings = recipe.calibration or Calibration()
        if path is None:
            return cls()
        data = _data_of(source, path)
        order = np.random.default_rng(settings.seed).permutation(len(data)).tolist()
        count = min(settings.samples, len(data))
        if settings.max_drop is not None:
            if len(data) < 2:
                raise DataError(f"{path}: max_drop needs 2 samples or more: some are held out")
            count = min(count, (len(data) + 1) // 2)
        rest = order[count : count + _HELD_OUT_SAMPLES]
        used = list(data.select(sorted(order[:count])))
        held_out = list(data.select(sorted(rest))) if rest else []
        warnings = calibration_warnings(used)
        if settings.max_drop is not None and 100 / len(held_out) > settings.max_drop:
            warnings.append(
                f"{len(held_out)} samples held out show losses in steps of "
                f"{100 / len(held_out):.2g} points: max_drop {settings.max_drop:g} allows none"
            )
        return cls(used, held_out, [], tuple(warnings))


def _data_of(source: Source, path: str | Path) -> Dataset:
    labels = class_names(source.labels, source.task)
    return dataset(path, inputs=source.inputs, image=source.image, labels=labels)


def _beyond(data: Dataset, judged: int) -> list[Sample]:
    """Samples to round weights for: none of the first, which judge; none where they are too few."""
    settings = Calibration()
    rest = len(data) - judged
    if rest < _FEWEST_SAMPLES:
        return []
    order = np.random.default_rng(settings.seed).permutation(rest)[: settings.samples]
    return list(data.select(sorted(judged + order)))


def fix_shapes(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give inputs these shapes, in place. Raises UsageError for one that the model cannot have."""
    inputs = {spec.name: spec for spec in program.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise UsageError(f"the model has no input '{name}', only {', '.join(inputs)}")
        have = inputs[name].shape
        if len(have) != len(shape) or any(
            h not in (-1, s) or s == 0 or s < -1 for h, s in zip(have, shape)
        ):
            raise UsageError(
                f"input '{name}' is {inputs[name]}: it cannot be fixed to {list(shape)}"
            )
        program.var(name).shape = tuple(shape)
