"""A precision and how to reach it: data, not code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from py_runner.errors import UsageError

__all__ = [
    "ALGORITHMS",
    "EFFORTS",
    "QUANTIZED",
    "RECIPES",
    "Calibration",
    "Recipe",
    "recipe",
]


# Thresholds of activations by Paddle's PostTrainingQuantization. "min_max" is left out on purpose:
# what it writes, the optimizer silently takes for a float model.
ALGORITHMS = ("hist", "avg", "mse", "emd", "abs_max", "KL")

# How long it may take to find what loses least. The rounding of weights: fast takes the nearest
# step, with the errors of each output in balance; good and best look at what flows through each
# layer, best on more samples, and after other ranges of activations have been tried.
EFFORTS = ("fast", "good", "best")


@dataclass(frozen=True)
class Calibration:
    """How static int8 finds the ranges of activations.

    Args:
        algorithm: one of ALGORITHMS.
        per_channel: a scale for each output channel of a weight, not one for all of it.
        samples: how many samples of the data set to calibrate with, at most.
        seed: which ones: the data set is shuffled by it.
        max_drop: keep the fewest multiply-adds in float such that the loss on samples held out is
            at most this many percentage points of top-1 accuracy (without labels: of agreement).
        max_float: keep at most this percentage of the multiply-adds in float, where it helps most.
            Where neither this nor `max_drop` is given and no layer is named, the few layers stay in
            float that lose most and have next to nothing of the multiply-adds and of the weights
            (lite_opt/judge/spare.py); 0 keeps none.
        equalise: bring the channels of activations to like magnitudes beforehand, where that takes
            no further operator.
        centre: move activations that are never negative to where all steps of int8 are used, where
            that is exact and next to free.
        align: put an operator in front of layers with much to compute that moves and multiplies the
            channels of their input, where that halves the noise.
        correct_bias: take the mean error from the channels of each layer afterwards, by its bias.
        effort: one of EFFORTS.
        float_layers: layers that stay in float, by their names.
    """

    algorithm: str = "hist"
    per_channel: bool = True
    samples: int = 128
    seed: int = 0
    max_drop: float | None = None
    max_float: float | None = None
    equalise: bool = True
    centre: bool = True
    align: bool = True
    correct_bias: bool = True
    effort: str = "good"
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            reason = (
                "; min_max makes a float model and says nothing"
                if self.algorithm == "min_max"
                else ""
            )
            raise UsageError(
                f"unknown algorithm '{self.algorithm}': choose {', '.join(ALGORITHMS)}{reason}"
            )
        if self.effort not in EFFORTS:
            raise UsageError(f"unknown effort '{self.effort}': choose {', '.join(EFFORTS)}")
        if self.samples < 1:
            raise UsageError("calibration needs at least 1 sample")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise UsageError(f"max_drop is 0 to 100 percentage points, not {self.max_drop:g}")
        if self.max_float is not None and not 0 <= self.max_float <= 100:
            raise UsageError(f"max_float is 0 to 100 percent, not {self.max_float:g}")


@dataclass(frozen=True)
class Recipe:
    """How a conversion represents numbers.

    `fp16` and `quant_type` ("", "QUANT_INT8", "QUANT_INT16": weights only, computed in float)
    are options of Paddle Lite's optimizer; `calibration` makes static int8. `rounded_for` says on
    how many samples the weights of int8-weights were rounded for what their layers put out.
    """

    name: str
    summary: str
    fp16: bool = False
    quant_type: str = ""
    calibration: Calibration | None = None
    rounded_for: int = 0

    @property
    def rounds_activations(self) -> bool:
        """Whether it rounds what flows between layers, and not weights alone."""
        return self.fp16 or self.name == "int8"

    @property
    def rounds_for_data(self) -> bool:
        """Whether it needs no calibration, and rounds its weights better with some."""
        return self.calibration is None and self.quant_type == "QUANT_INT8"

    def to_json(self) -> dict[str, Any]:
        """The recipe as a bundle records it: its parameters."""
        return asdict(self)


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("fp32", "32-bit floats, as the model was trained"),
        Recipe("fp16", "16-bit floats on ARM cores that have them (ARMv8.2): faster", fp16=True),
        Recipe("int16-weights", "half the size, computed in float", quant_type="QUANT_INT16"),
        Recipe("int8-weights", "a quarter of the size, computed in float", quant_type="QUANT_INT8"),
        Recipe("int8", "static int8: a quarter of the size, faster", calibration=Calibration()),
    )
}


def recipe(name: str, **calibration: Any) -> Recipe:
    """The recipe of that name, with settings of `Calibration` replaced (None: its default).

    Raises UsageError for a name there is not, and for settings of a recipe without calibration.
    """
    try:
        found = RECIPES[name]
    except KeyError:
        raise UsageError(f"unknown recipe '{name}': choose {', '.join(RECIPES)}") from None
    given = {key: value for key, value in calibration.items() if value not in (None, ())}
    if not given:
        return found
    if found.calibration is None:
        raise UsageError(
            f"recipe {name} is not calibrated: {', '.join(given)} belong to recipe int8"
        )
    return replace(found, calibration=replace(found.calibration, **given))


# What a model that came quantized is called: it brings its own scales.
QUANTIZED = Recipe("int8", "static int8, as the model was quantized before")
