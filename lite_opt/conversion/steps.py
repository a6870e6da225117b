"""The steps of a conversion, each a function of what the one before it made."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lite_opt.conversion.plan import Material, Plan
from lite_opt.conversion.source import Source
from lite_opt.judge.limits import limits_for
from lite_opt.judge.metric import Metric
from lite_opt.judge.sensitivity import FloatLayers, choose_float_layers
from lite_opt.judge.spare import cheap_layers, spared_layers
from lite_opt.lite.optimizer import NoKernelError, Optimizer
from lite_opt.lite.part import target_of
from lite_opt.lite.refusals import advice_for
from lite_opt.lite.targets import cannot
from lite_opt.model.load import save
from lite_opt.model.program import Program
from lite_opt.quant.align import aligned
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.centre import centred, lowered
from lite_opt.quant.correct import corrected
from lite_opt.quant.equalise import Equalised, equalise, write_equalised
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.ranges import searched
from lite_opt.quant.reconstruct import reconstructed, round_weights_for
from lite_opt.quant.rounding import round_weights
from lite_opt.quant.simulate import dequantized, fake_fp16
from lite_opt.recipes import QUANTIZED, RECIPES, Recipe
from py_runner.data.yml_steps import beside
from py_runner.errors import ConvertError, DataError
from py_runner.files.folder import whole_folder
from py_runner.formats.bundle import Bundle, Target
from py_runner.formats.nb import NbFile
from py_runner.watch import Watch

__all__ = ["Models", "calibrated", "make_bundle", "make_models", "make_target"]


# On how many samples it is observed how the inputs of a layer go together, by effort.
_OBSERVED = {"good": 32, "best": 128}


@dataclass(frozen=True)
class Models:
    """What the files of a bundle are made from: the repaired float `program`, and what the recipe
    made of it for the targets that compute it (`quantized`, None where that is nothing; `mixed`
    lets any layer of what was calibrated here be float again)."""

    program: Program
    quantized: Program | None
    recipe: Recipe
    mixed: Quantized | None = None

    def of(self, target: str) -> tuple[Program, Recipe]:
        """What the file of a target is made from, and the precision it has."""
        if cannot(target, self.recipe):
            return self.program, RECIPES["fp32"]
        return self.quantized or self.program, self.recipe

    def in_fp32(self) -> Models:
        """The same without the recipe."""
        return Models(self.program, None, RECIPES["fp32"])


def make_models(
    program: Program, source: Source, recipe: Recipe, data: Material, plan: Plan, watch: Watch
) -> tuple[Models, FloatLayers | None]:
    """Apply the recipe to a repaired program; also how its float layers were found, if they were.

    The quantized model is saved where the plan says so.
    """
    if recipe is QUANTIZED:
        return Models(dequantized(program), program, recipe), None
    if recipe.calibration is not None:
        mixed, recipe, found = _quantize(program, recipe, data, source.metric(plan.truth), watch)
        assert recipe.calibration is not None
        quantized = lowered(mixed.with_float(set(recipe.calibration.float_layers)))
        _save_quantized(quantized, mixed.equalised, source, plan)
        return Models(program, quantized, recipe, mixed), found
    if recipe.fp16 and plan.save_quantized is not None:
        _save_quantized(fake_fp16(program), (), source, plan)
    if not recipe.rounds_for_data:
        return Models(program, None, recipe), None
    if not data.calibration:
        return Models(program, round_weights(program), recipe), None
    rounded, count = round_weights_for(program, data.calibration, watch=watch)
    watch.say(f"rounded the weights of {count} layers for what they put out")
    return Models(program, rounded, replace(recipe, rounded_for=len(data.calibration))), None


def calibrated(program: Program, recipe: Recipe, data: Material, watch: Watch) -> Quantized:
    """The repaired program with every layer in int8 that can be."""
    settings = recipe.calibration
    assert settings is not None
    watch.say(f"calibrating with {len(data.calibration)} samples ({settings.algorithm})")
    equalised: list[Equalised] = []
    if settings.equalise:
        program, equalised = equalise(program, data.calibration)
        watch.say(f"equalised the channels of {len(equalised)} activations")
    source, biases = program, dict[str, str]()
    if settings.align:
        program, count, biases = aligned(program, data.calibration)
        watch.say(f"aligned the channels of {count} activations")
    full = calibrate(program, data.calibration, settings, watch=watch)
    quantized = Quantized.of(full, source, program, biases)
    quantized = replace(quantized, equalised=tuple(equalised))
    if settings.effort == "best":
        quantized, moved = searched(quantized, data.calibration, watch=watch)
        watch.say(f"moved the ranges of {moved} activations")
    if settings.effort != "fast":
        most = _OBSERVED[settings.effort]
        quantized, rounded = reconstructed(
            quantized, data.calibration, most=most, corrected=settings.correct_bias, watch=watch
        )
        watch.say(f"rounded the weights of {rounded} layers for what they put out")
    if settings.centre:
        quantized, count = centred(quantized)
        watch.say(f"centred {count} activations")
    if settings.correct_bias:
        quantized = corrected(quantized, data.calibration)
        watch.say(f"corrected the biases of {len(quantized.biases)} layers")
    return quantized


def _quantize(
    program: Program, recipe: Recipe, data: Material, metric: Metric, watch: Watch
) -> tuple[Quantized, Recipe, FloatLayers | None]:
    """The calibrated program; the recipe with the layers that stay in float, and how they were
    found."""
    settings = recipe.calibration
    assert settings is not None
    quantized = calibrated(program, recipe, data, watch)
    quantized.check(settings.float_layers)
    found = None
    if settings.max_drop is not None or settings.max_float is not None:
        samples = data.held_out or data.calibration
        kind = "samples held out" if data.held_out else "samples of the calibration"
        watch.say(f"looking for the layers to keep in float, on {len(samples)} {kind}")
        found = choose_float_layers(
            quantized,
            samples,
            settings.max_drop,
            max_float=settings.max_float,
            always=settings.float_layers,
            metric=metric,
            watch=watch,
        )
    elif not settings.float_layers:
        watch.say("looking for the layers that are better left in float")
        try:
            found = spared_layers(quantized, data.calibration, watch=watch)
        except DataError as error:  # boxes of another number, NaN: nothing is compared
            watch.say(f"none is found but those that are cheaper so: {error}")
            settings = replace(settings, float_layers=tuple(cheap_layers(quantized)))
    if found is not None:
        settings = replace(settings, float_layers=found.layers)
    floats = set(settings.float_layers)
    if floats >= {layer.layer for layer in quantized.layers}:
        raise ConvertError(
            f"{program.files.model}: no layer is left in int8"
            + (
                f": within {settings.max_drop:g} points there is none"
                if settings.max_drop is not None
                else ""
            )
            + "; use recipe int8-weights or fp16"
        )
    return quantized, replace(recipe, calibration=settings), found


def _save_quantized(
    program: Program, equalised: tuple[Equalised, ...], source: Source, plan: Plan
) -> None:
    """Write the model that rounds as the recipe does, where the plan says so."""
    if plan.save_quantized is None:
        return
    with whole_folder(plan.save_quantized, force=plan.force) as folder:
        save(program, folder)
        write_equalised(folder, equalised)
        there = beside(source.files.model.parent)
        if there is not None:
            shutil.copyfile(there, folder / there.name)


def make_bundle(
    models: Models,
    source: Source,
    folder: Path,
    optimizers: Mapping[str, Optimizer],
    *,
    all_needed: bool,
    watch: Watch,
) -> tuple[Bundle, str]:
    """Make a `.nb` for each target of Paddle Lite in `folder`, and a bundle of them.

    The second value says why there is none for x86, where that one cannot be made but one for arm
    can, and it is not needed.
    """
    # The checksum of a large model overlaps with the optimizer's work.
    with ThreadPoolExecutor(max_workers=1) as pool:
        digest = pool.submit(source.files.sha256)
        made: dict[str, Target] = {}
        doubt = ""
        for name, optimizer in optimizers.items():
            twin = " (an fp32 twin)" if cannot(name, models.recipe) else ""
            watch.say(f"optimizing for {name}{twin}")
            try:
                made[name] = make_target(models, optimizer, name, folder / f"model.{name}.nb")
            except ConvertError as error:
                if all_needed or name != "x86" or "arm" not in made:
                    raise
                # The bundle keeps it: without the model's place on this machine.
                doubt = str(error).removeprefix(f"{models.program.files.model}: ")
        bundle = Bundle(
            path=folder,
            name=source.name,
            source={
                "file": source.files.model.name,
                "sha256": digest.result(),
                "ir": source.files.ir,
                "paddle_version": models.program.paddle_version,
            },
            recipe={**models.recipe.to_json(), "limits": asdict(limits_for(models.recipe.name))},
            repairs=(),
            targets=made,
            inputs=source.inputs,
            outputs=(),
            image=source.image,
            labels=source.labels,
            task=source.task,
        )
        return bundle, doubt


def make_target(models: Models, optimizer: Optimizer, target: str, out: Path) -> Target:
    """Run an optimizer on the program of a target, and describe its file.

    Its errors also name the model, and the layers of operators.
    """
    program, recipe = models.of(target)
    try:
        nb, checksums = optimizer.run(program, target, out, recipe=recipe)
    except NoKernelError as error:
        raise ConvertError(_without_kernel(program, error)) from None
    except ConvertError as error:
        named = {m[1] or m[2] for m in re.finditer(r"'(\w+)'|found for (\w+)", str(error))}
        layers = [f"{op.type} '{op.layer}'" for op in program.ops if op.type in named]
        where = f" (in this model: {', '.join(layers[:5])})" if layers else ""
        raise ConvertError(f"{program.files.model}: {error}{where}") from None
    missing = _missing(nb, recipe)
    if missing:
        raise ConvertError(
            f"{program.files.model}: recipe {recipe.name} was asked for, and the file for "
            f"{target} has {missing}: this model cannot be made so"
        )
    return target_of(out, nb, checksums, recipe.name)


def _without_kernel(program: Program, error: NoKernelError) -> str:
    """Which operators, in which layers, and what to do about the first."""
    layers = [f"{op.type} in layer '{op.layer}'" for op in program.ops if op.type in error.types]
    layers = layers or [f"operator {name}" for name in error.types]
    more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
    kinds = list(dict.fromkeys(advice_for(name) for name in error.types))
    return (
        f"{program.files.model}: {', '.join(layers[:5])}{more} cannot run on {error.target}: "
        f"Paddle Lite has no kernel for {', '.join(error.types)} there; {'; '.join(kinds)}"
    )


def _missing(nb: NbFile, recipe: Recipe) -> str:
    """What a file of this recipe would have and this one has not, or ""."""
    if cannot(nb.target, recipe):
        return ""
    precisions = {precision for _, precision in nb.kernels}
    for wanted, kind in ((recipe.fp16, "fp16"), (recipe.name == "int8", "int8")):
        if wanted and kind not in precisions:
            return f"no {kind} kernels"
    dtype = {"QUANT_INT8": "int8", "QUANT_INT16": "int16"}.get(recipe.quant_type)
    return f"no {dtype} weights" if dtype and dtype not in nb.weight_bytes_by_dtype else ""
