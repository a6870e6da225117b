"""The path from a Paddle model to a bundle: load, repair, quantize, optimize, and check.

The self-check runs the unrepaired model on the server engine and the converted one on the x86
engine, on the same samples. What x86 has no right kernels for (static int8, fp16) is judged by
its simulation on the server engine, and x86 gets an fp32 twin, which judges the repairs.
A conversion whose numbers are wrong leaves no bundle.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.judge.compare import Report, compare
from lite_opt.judge.limits import limits_for
from lite_opt.lite.optimizer import TARGETS, Optimizer
from lite_opt.model.load import load, save, stage
from lite_opt.model.program import ModelFiles, Program
from lite_opt.passes.repair import repair
from lite_opt.passes.rule import Change
from lite_opt.quant.quantize import (
    FloatLayers,
    LayerLoss,
    Quantized,
    calibrate,
    calibration_warnings,
    choose_float_layers,
    dequantized,
    fake_fp16,
    is_quantized,
    sensitivity,
)
from lite_opt.quant.rounding import round_weights
from lite_opt.recipes import QUANTIZED, RECIPES, Recipe
from lite_opt.recipes import recipe as find_recipe
from py_runner.data.dataset import dataset
from py_runner.data.image import ImageSpec, image_spec, read_inference_yml
from py_runner.data.labels import check_labels, read_labels
from py_runner.devices import arm_device
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.files.folder import check_free, temporary_folder, whole_folder
from py_runner.formats.bundle import Bundle, Target, save_samples
from py_runner.formats.nb import NbFile
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import Model, Sample, TensorSpec
from py_runner.watch import QUIET, Watch

__all__ = ["Conversion", "Source", "convert", "layer_losses", "random_samples"]

_CHECK_SAMPLES = 4
_JUDGED_SAMPLES = 100  # of calibrated recipes: accuracy shows in many, not in four
_HELD_OUT_SAMPLES = 256
_MOST_ELEMENTS = 1 << 28  # of a random tensor: 1 GB


@dataclass(frozen=True)
class Conversion:
    """What `convert` did. `bool(conversion)` is whether there is a bundle that nothing speaks
    against: one that passed its self-check, or was not to be checked.

    `bundle` is None where the self-check failed. It is there, and the conversion false, where no
    engine here could judge it: `bundle.check["status"]` is then "unjudged", with the reason.
    `report` is the verdict of the self-check on the recipe, None without one. `float_layers`
    says which layers `max_drop` kept in float.
    """

    bundle: Bundle | None
    report: Report | None
    changes: tuple[Change, ...]
    float_layers: FloatLayers | None = None

    def __bool__(self) -> bool:
        return self.bundle is not None and self.bundle.check["status"] != "unjudged"


@dataclass(frozen=True)
class Source:
    """A source model with what lies beside it: how to preprocess, and the names of the classes."""

    files: ModelFiles
    inputs: tuple[TensorSpec, ...]
    image: ImageSpec | None
    labels: tuple[str, ...] | None
    precision: str = "fp32"
    warning: str = ""

    @classmethod
    def of(
        cls,
        program: Program,
        *,
        image: str | Path | None = None,
        labels: str | Path | None = None,
    ) -> Source:
        """Preprocessing and labels as given, or else from `inference.yml` beside the model.

        One beside the model that we cannot follow (detection, say) becomes a `warning`.
        """
        beside = program.files.model.with_name("inference.yml")
        spec, names, warning = None, None, ""
        if beside.is_file() and (image is None or labels is None):
            try:
                spec, names = read_inference_yml(beside)
            except DataError as error:
                warning = f"preprocessing is left out: {error}"
        if image is not None:
            spec = image_spec(image)
        if labels is not None:
            names = read_labels(labels)
        check_labels(names, program.outputs)
        return cls(
            program.files,
            tuple(program.inputs),
            spec,
            None if names is None else tuple(names),
            "int8" if is_quantized(program) else "fp32",
            warning,
        )

    def model(self, folder: Path, *, sha256: str | None = None) -> Model:
        """The model as the server engine takes it; old forms are rewritten into `folder`."""
        files = self.files
        if files.model.suffix not in (".pdmodel", ".json") or files.params is None:
            files = save(load(files.model, params=files.params), folder)
        assert files.params is not None
        return Model(
            _name(self.files),
            sha256 or self.files.sha256(),
            self.precision,
            (files.model, files.params),
            self.inputs,
        )


def convert(
    model: str | Path,
    out: str | Path,
    *,
    recipe: str | Recipe = "fp32",
    target: Sequence[str] = TARGETS,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    calibration: str | Path | None = None,
    samples: str | Path | None = None,
    check_samples: int = _CHECK_SAMPLES,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    check: bool = True,
    save_quantized: str | Path | None = None,
    force: bool = False,
    watch: Watch = QUIET,
) -> Conversion:
    """Make a bundle of a Paddle inference model.

    Args:
        model: a folder or file of a Paddle inference model.
        out: the bundle's folder; it must not exist unless `force`.
        recipe: the precision: a name in `recipe.RECIPES`, or what `recipe.recipe` made.
        target: which `.nb` files to make, of "arm" and "x86". Of a recipe that is for ARM only,
            the x86 file is an fp32 twin.
        params: the parameter file or folder, where it is not found by its name.
        image: preprocessing: an `inference.yml`, a preset or a SPEC, see `image.image_spec`;
            by default the `inference.yml` beside the model.
        labels: a file with one class name a line.
        calibration: the data set that recipe int8 is calibrated with.
        samples: a data set to check with; by default what calibration left of its data set, or
            seeded random tensors.
        check_samples: how many of them the bundle keeps and the check uses; recipe int8 is judged
            on up to 100.
        input_shape: fixes dimensions of inputs, by name; -1 leaves one dynamic.
        check_shape: shapes of the random tensors, by input, where dimensions are dynamic.
        check: run the result and compare it with the server before there is a bundle.
        save_quantized: a folder to write the quantized Paddle model to, for the server engine.
        watch: is told of each step, how far long work has come, and what speaks against the result.

    Raises:
        UsageError, ModelError, DataError: the call, the model or the data are at fault.
        ConvertError: the optimizer cannot make this model run.
        EngineError: an engine is not installed or died.
    """
    out = Path(out)
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    _check_call(chosen, target, calibration, check_samples, save_quantized)
    keep = (model, params, labels, samples, calibration)
    check_free(out, force=force, keep=keep)
    if save_quantized is not None:
        check_free(Path(save_quantized), force=False, keep=keep)

    # The optimizers start while the model is read.
    with ExitStack() as stack:
        # arm first: it decides; x86 is there to check it.
        chosen_targets = [name for name in TARGETS if name in target]
        optimizers = {name: stack.enter_context(Optimizer()) for name in chosen_targets}
        watch.say(f"reading {model}")
        program = load(model, params=params)
        _fix_shapes(program, input_shape or {})
        source = Source.of(program, image=image, labels=labels)
        warnings = [source.warning] if source.warning else []
        if source.precision == "int8":
            if chosen.name != "fp32":
                raise UsageError(
                    f"{model}: is quantized already, recipe {chosen.name} would do it twice: "
                    "leave --recipe out, or convert the float model"
                )
            chosen = QUANTIZED
            watch.say("the model is quantized already: its own scales are kept")
        outputs = tuple(program.outputs)
        judged = max(check_samples, _JUDGED_SAMPLES) if chosen.calibration else check_samples
        data = _Data.of(source, chosen, calibration)
        warnings += data.warnings
        picked: list[Sample] = []
        if samples is not None:
            picked = list(
                dataset(
                    samples,
                    inputs=source.inputs,
                    image=source.image,
                    labels=source.labels,
                    limit=judged,
                )
            )
        elif data.calibration:
            if not data.held_out and check:
                warnings.append("judged on the samples of the calibration: give more, or --samples")
            picked = (data.held_out or data.calibration)[:judged]
        elif check:
            picked = random_samples(
                source.inputs, count=check_samples, image=source.image, shapes=check_shape
            )

        operators = len(program.ops)
        changes = tuple(repair(program))
        watch.say(f"repaired: {len(changes)} changes, {operators} -> {len(program.ops)} operators")
        float_layers = None
        quantized = program if chosen is QUANTIZED else None
        if chosen.calibration is not None:
            quantized, chosen, float_layers = _quantize(program, chosen, data, watch)
            if save_quantized is not None:
                _save_quantized(quantized, source, Path(save_quantized))
        elif chosen.quant_type == "QUANT_INT8":
            quantized = round_weights(program)
        for warning in warnings:
            watch.warn(warning)
        job = _Job(
            program=dequantized(program) if chosen is QUANTIZED else program,
            quantized=quantized,
            source=source,
            recipe=chosen,
            samples=picked,
            kept=check_samples,
            warnings=tuple(warnings),
            watch=watch,
        )
        report = None
        try:
            with whole_folder(out, force=force) as folder:
                bundle, doubt = job.optimize(folder, optimizers, needed=not check)
                bundle = replace(
                    bundle, path=out, outputs=outputs, repairs=tuple(map(str, changes))
                )
                if picked:
                    reference = job.reference(folder, bundle)
                    bundle = replace(bundle, samples=save_samples(folder, picked[:check_samples]))
                if check:
                    report, bundle = job.judge(folder, bundle, reference, doubt)
                bundle.write(folder)
                if check:
                    report = job.judge_arm(folder, bundle, reference) or report
        except _CheckFailedError as failed:
            return Conversion(None, failed.report, changes, float_layers)
    return Conversion(Bundle.open(out), report, changes, float_layers)


def layer_losses(
    model: str | Path,
    *,
    calibration: str | Path,
    recipe: Recipe = RECIPES["int8"],
    samples: int = 32,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    watch: Watch = QUIET,
) -> tuple[LayerLoss, ...]:
    """What computing each layer alone in int8 costs, worst first: see `quantize.sensitivity`.

    Arguments and errors are those of `convert`; `samples` is how many to measure with, held out
    from the calibration where its data set is large enough.
    """
    watch.say(f"reading {model}")
    program = load(model, params=params)
    source = Source.of(program, image=image, labels=labels)
    if source.precision == "int8":
        raise UsageError(f"{model}: is quantized already: measure the float model")
    data = _Data.of(source, recipe, calibration)
    warnings = [source.warning] if source.warning else []
    for warning in (*warnings, *data.warnings):
        watch.warn(warning)
    repair(program)
    quantized = _calibrated(program, recipe, data, watch)
    measured = (data.held_out or data.calibration)[:samples]
    watch.say(
        f"quantizing each of {len(quantized.layers)} layers alone, on {len(measured)} samples"
    )
    return sensitivity(quantized, measured, watch=watch)


def _calibrated(
    program: Program,
    recipe: Recipe,
    data: _Data,
    watch: Watch,
) -> Quantized:
    settings = recipe.calibration
    assert settings is not None
    watch.say(f"calibrating with {len(data.calibration)} samples ({settings.algorithm})")
    full = calibrate(
        program,
        data.calibration,
        settings,
        watch=watch,
    )
    return Quantized.of(full, program)


def _check_call(
    chosen: Recipe,
    target: Sequence[str],
    calibration: str | Path | None,
    check_samples: int,
    save_quantized: str | Path | None,
) -> None:
    unknown = [t for t in target if t not in TARGETS]
    if unknown or not target:
        raise UsageError(f"unknown target '{', '.join(unknown)}': choose {', '.join(TARGETS)}")
    if check_samples < 1:
        raise UsageError("check_samples is at least 1")
    if chosen.arm_only and "arm" not in target:
        raise UsageError(f"recipe {chosen.name} cannot be made for x86: {chosen.arm_only}")
    if chosen.calibration is not None and calibration is None:
        raise UsageError(
            f"recipe {chosen.name} has to be calibrated: give --calibration with data like those "
            "in use, about 100 samples"
        )
    if chosen.calibration is None:
        for option, value in (("calibration", calibration), ("save-quantized", save_quantized)):
            if value is not None:
                raise UsageError(f"recipe {chosen.name} is not calibrated: leave --{option} out")


@dataclass(frozen=True)
class _Data:
    """The data set of a calibration: what to calibrate with, and what judges the result."""

    calibration: list[Sample] = field(default_factory=list)
    held_out: list[Sample] = field(default_factory=list)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source, chosen: Recipe, path: str | Path | None) -> _Data:
        settings = chosen.calibration
        if settings is None or path is None:
            return cls()
        data = dataset(path, inputs=source.inputs, image=source.image, labels=source.labels)
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
        return cls(used, held_out, tuple(warnings))


def _quantize(
    program: Program,
    chosen: Recipe,
    data: _Data,
    watch: Watch,
) -> tuple[Program, Recipe, FloatLayers | None]:
    """The quantized program; the recipe with the layers that stay in float; how they were found."""
    settings = chosen.calibration
    assert settings is not None
    quantized = _calibrated(program, chosen, data, watch)
    quantized.check(settings.float_layers)
    found = None
    if settings.max_drop is not None:
        watch.say(
            f"looking for the layers to keep in float, on {len(data.held_out)} samples held out"
        )
        found = choose_float_layers(
            quantized,
            data.held_out,
            settings.max_drop,
            always=settings.float_layers,
            watch=watch,
        )
        settings = replace(settings, float_layers=found.layers)
    floats = set(settings.float_layers)
    if floats >= {layer.layer for layer in quantized.layers}:
        raise ConvertError(
            f"{program.files.model}: no layer is left in int8"
            + (f": within {settings.max_drop:g} points there is none" if found else "")
            + "; use recipe int8-weights or fp16"
        )
    return quantized.with_float(floats), replace(chosen, calibration=settings), found


def _save_quantized(program: Program, source: Source, folder: Path) -> None:
    with whole_folder(folder) as partial:
        save(program, partial)
        beside = source.files.model.with_name("inference.yml")
        if beside.is_file():
            shutil.copyfile(beside, partial / beside.name)


class _CheckFailedError(Exception):
    """Leaves `whole_folder` without a bundle; never leaves this module."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


@dataclass(frozen=True)
class _Job:
    """The steps of one conversion, over what they share.

    `program` is the repaired float model, `quantized` what the recipe made of it, for targets that
    compute it, or None.
    """

    program: Program
    quantized: Program | None
    source: Source
    recipe: Recipe
    samples: list[Sample]
    kept: int
    warnings: tuple[str, ...]
    watch: Watch

    def _made_from(self, target: str) -> tuple[Program, Recipe]:
        """What the file of a target is made from, and the precision it has."""
        if target == "x86" and self.recipe.arm_only:
            return self.program, RECIPES["fp32"]
        return self.quantized or self.program, self.recipe

    def optimize(
        self, folder: Path, optimizers: Mapping[str, Optimizer], *, needed: bool
    ) -> tuple[Bundle, str]:
        """Make a `.nb` for each target in `folder`, and describe them.

        The second value says why there is none for x86, where that one cannot be made but one for
        arm can, and it is not `needed`.
        """
        with (
            temporary_folder() as temporary,
            # The checksum of a large model overlaps with the optimizer's work.
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            staged: dict[int, ModelFiles] = {}  # by program: most often one serves all targets
            digest = pool.submit(self.source.files.sha256)
            made: dict[str, Target] = {}
            doubt = ""
            for name, optimizer in optimizers.items():
                twin = " (an fp32 twin)" if name == "x86" and self.recipe.arm_only else ""
                self.watch.say(f"optimizing for {name}{twin}")
                program, _ = self._made_from(name)
                if id(program) not in staged:
                    place = temporary / name
                    place.mkdir()
                    staged[id(program)] = stage(program, place)
                files = staged[id(program)]
                try:
                    made[name] = self._optimized(
                        optimizer, files, name, folder / f"model.{name}.nb"
                    )
                except ConvertError as error:
                    if needed or name != "x86" or "arm" not in made:
                        raise
                    # The bundle keeps it: without the model's place on this machine.
                    doubt = str(error).removeprefix(f"{self.program.files.model}: ")
            bundle = Bundle(
                path=folder,
                name=_name(self.source.files),
                source={
                    "file": self.source.files.model.name,
                    "sha256": digest.result(),
                    "ir": self.source.files.ir,
                    "paddle_version": self.program.paddle_version,
                },
                recipe={**self.recipe.to_json(), "limits": asdict(limits_for(self.recipe.name))},
                repairs=(),
                targets=made,
                inputs=self.source.inputs,
                outputs=(),
                image=self.source.image,
                labels=self.source.labels,
                check={"status": "skipped", "warnings": list(self.warnings)},
            )
            return bundle, doubt

    def _optimized(self, optimizer: Optimizer, files: ModelFiles, target: str, out: Path) -> Target:
        """Run an optimizer, and describe its file.

        Its errors also name the model, and the layers of operators.
        """
        program, recipe = self._made_from(target)
        try:
            nb, checksums = optimizer.run(files, target, out, recipe=recipe)
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
        return Target(
            file=out.name,
            sha256=checksums.sha256,
            crc32=checksums.crc32,
            bytes=nb.bytes,
            opt_version=nb.opt_version,
            ops=len(nb.ops),
            kernels={f"{t}/{p}": count for (t, p), count in nb.kernels.most_common()},
            calib=nb.calib_count,
            weights=dict(nb.weight_bytes_by_dtype),
            precision=recipe.name,
        )

    def reference(self, folder: Path, bundle: Bundle) -> Run:
        """What the unrepaired model answers on the server engine; the bundle keeps a part."""
        self.watch.say("running the source model on the server engine")
        with temporary_folder() as temporary:
            model = self.source.model(temporary, sha256=bundle.source["sha256"])
            reference = run(model, self.samples, engine="paddle")
        (folder / "reference").mkdir()
        reference.first(self.kept).write(folder / "reference")
        return reference

    def judge(
        self, folder: Path, bundle: Bundle, reference: Run, doubt: str
    ) -> tuple[Report | None, Bundle]:
        """Run what was made, compare it with the reference, and put the verdict into the bundle.

        Raises _CheckFailedError where the model is wrong.
        """
        simulated = None
        if self.recipe.arm_only:
            self.watch.say(f"running the model as {self.recipe.name} on the server engine")
            program = fake_fp16(self.program) if self.recipe.fp16 else self.quantized
            assert program is not None
            answers = self._on_server(program, self.samples, self.recipe.name)
            simulated = compare(reference, answers)
            if not simulated:
                raise _CheckFailedError(simulated)
            judged = f"its {self.recipe.name} arithmetic passed on {_engine(answers)}"
        report, bundle = self._judge_x86(folder, bundle, reference, doubt)
        if simulated is None:
            return report, bundle
        check = dict(bundle.check)
        check["targets"] = {**check["targets"], "arm": f"{judged}; {_NOT_RUN}"}
        if "x86" in bundle.targets:
            check["targets"]["x86"] = "passed, as an fp32 twin"
        if check["status"] == "passed":
            check |= {**_figures(simulated), "engine": _engine(answers)}
            check["warnings"] = list(dict.fromkeys([*bundle.check["warnings"], *check["warnings"]]))
        return simulated, replace(bundle, check=check)

    def judge_arm(self, folder: Path, bundle: Bundle, reference: Run) -> Report | None:
        """The verdict of an ARM engine, where there is one: this machine, or an emulated board.

        It counts more than any other, and is put into the manifest. Raises _CheckFailedError.
        """
        if "arm" not in bundle.targets:
            return None
        device = arm_device()
        if device is None:
            return None
        self.watch.say(f"running the file for arm on engine native, device {device}")
        samples = self.samples[: self.kept]
        check = {**bundle.check, "warnings": list(bundle.check["warnings"])}

        def warn(text: str) -> None:
            check["warnings"].append(text)
            self.watch.warn(text)

        try:
            answers = run(
                Bundle.open(folder).model("arm"),
                samples,
                engine="native",
                device=device,
                watch=Watch(warn=warn),
            )
        except EngineError as error:
            # Such as a library without fp16: no verdict, and the others stand.
            warn(f"no ARM verdict: {str(error).replace(str(folder), bundle.name)}")
            replace(bundle, check=check).write(folder)
            return None
        report = compare(reference.first(self.kept), answers)
        if not report:
            raise _CheckFailedError(report)
        check["targets"] = {**check["targets"], "arm": f"passed on {_engine(answers)}, {device}"}
        check |= {"status": "passed", "engine": f"{_engine(answers)} ({device})"}
        check |= {key: value for key, value in _figures(report).items() if key != "warnings"}
        replace(bundle, check=check).write(folder)
        return report

    def _judge_x86(
        self, folder: Path, bundle: Bundle, reference: Run, doubt: str
    ) -> tuple[Report | None, Bundle]:
        """The verdict of the x86 engine, on the file for it or a twin.

        Where that engine fails, but the repaired model is right on the server, x86 is to blame:
        the bundle then goes to arm alone, unjudged.
        """
        samples, reference = self.samples[: self.kept], reference.first(self.kept)
        if self.source.precision == "int8":
            # The twin is the model without the rounding: its own float form has to say the same.
            reference = self._on_server(self.program, samples, "fp32")
        report = None
        if not doubt:
            self.watch.say("running the converted model on the x86 engine")
            try:
                candidate = self._run_x86(folder, bundle, samples)
            except (EngineError, ConvertError) as error:
                # Without the folder, which is this machine's and gone tomorrow.
                doubt = re.sub(r"\S*/(?=(?:model|twin)\.x86\.nb)", "", str(error))
            else:
                report = compare(reference, candidate)
                if report:
                    return report, replace(bundle, check=self._passed(report, candidate, bundle))
                doubt = "; ".join(report.failures)
        if report is not None and ("arm" not in bundle.targets or self._weights_are_wrong()):
            raise _CheckFailedError(report)
        if "arm" not in bundle.targets:
            raise ConvertError(doubt)
        self.watch.say(f"the x86 engine fails ({doubt}); running the repaired model on the server")
        repaired = compare(reference, self._on_server(self.program, samples, "fp32"))
        if not repaired:
            raise _CheckFailedError(repaired)
        (folder / "model.x86.nb").unlink(missing_ok=True)
        check = {
            "status": "unjudged",
            "targets": {"arm": _NOT_RUN},
            "reason": f"the repaired model is right on the server, the x86 engine fails: {doubt}",
            "warnings": list(self.warnings),
        }
        return report, replace(bundle, targets={"arm": bundle.targets["arm"]}, check=check)

    def _weights_are_wrong(self) -> bool:
        """Whether the x86 engine is right on the model in fp32: then the recipe is to blame."""
        if not self.recipe.quant_type:
            return False
        self.watch.say("running the model in fp32 on the x86 engine")
        plain = replace(self, recipe=RECIPES["fp32"], quantized=None)
        samples = self.samples[: self.kept]
        server = self._on_server(self.program, samples, "fp32")
        try:
            return bool(compare(server, plain._run_twin(samples)))
        except (EngineError, ConvertError):
            return False

    def _run_x86(self, folder: Path, bundle: Bundle, samples: list[Sample]) -> Run:
        """Run the x86 file, or where the bundle has none, one made to judge the repairs by."""
        file = folder / "model.x86.nb"
        return self._on_x86(file, samples) if file.exists() else self._run_twin(samples)

    def _run_twin(self, samples: list[Sample]) -> Run:
        with temporary_folder() as temporary:
            file = temporary / "twin.x86.nb"
            with Optimizer() as optimizer:
                staged = stage(self._made_from("x86")[0], temporary)
                self._optimized(optimizer, staged, "x86", file)
            return self._on_x86(file, samples)

    def _on_x86(self, file: Path, samples: list[Sample]) -> Run:
        precision = self._made_from("x86")[1].name
        model = Model(_name(self.source.files), "", precision, (file,), self.source.inputs)
        return run(model, samples, engine="lite")

    def _on_server(self, program: Program, samples: list[Sample], precision: str) -> Run:
        with temporary_folder() as temporary:
            staged = stage(program, temporary)
            assert staged.params is not None
            files = (staged.model, staged.params)
            name = _name(self.source.files)
            return run(
                Model(name, "", precision, files, self.source.inputs), samples, engine="paddle"
            )

    def _passed(self, report: Report, candidate: Run, bundle: Bundle) -> dict[str, Any]:
        """What the manifest says of a check that passed. No engine here runs ARM code: say so."""
        return {
            "status": "passed",
            "engine": _engine(candidate),
            "targets": {
                name: "passed"
                if name == "x86"
                else f"{_NOT_RUN}; the same repaired model passed on x86"
                for name in bundle.targets
            },
            **_figures(report),
            "warnings": [*self.warnings, *report.warnings],
        }


_NOT_RUN = "not run: no ARM engine here"


def _engine(run: Run) -> str:
    return f"{run.engine} {run.engine_version}"


def _figures(report: Report) -> dict[str, Any]:
    return {
        "samples": report.samples,
        "top1_agreement": report.top1_agreement,
        "outputs": [
            {"name": o.name, "cosine": o.cosine, "max_probability_diff": o.max_probability_diff}
            for o in report.outputs
        ],
        "warnings": list(report.warnings),
    }


def _missing(nb: NbFile, recipe: Recipe) -> str:
    """What a file of this recipe would have and this one has not, or ""."""
    if nb.target == "x86" and recipe.arm_only:
        return ""
    precisions = {precision for _, precision in nb.kernels}
    for wanted, kind in ((recipe.fp16, "fp16"), (recipe.name == "int8", "int8")):
        if wanted and kind not in precisions:
            return f"no {kind} kernels"
    dtype = {"QUANT_INT8": "int8", "QUANT_INT16": "int16"}.get(recipe.quant_type)
    return f"no {dtype} weights" if dtype and dtype not in nb.weight_bytes_by_dtype else ""


def random_samples(
    inputs: Sequence[TensorSpec],
    *,
    count: int = _CHECK_SAMPLES,
    image: ImageSpec | None = None,
    shapes: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Seeded random tensors that fit the inputs: normal floats, integers 0 to 9.

    Dynamic dimensions come from `shapes` (input name -> shapes used in turn), else from the
    ImageSpec; a dynamic first dimension is a batch of 1. Raises UsageError where one stays open.
    """
    unknown = set(shapes or {}) - {spec.name for spec in inputs}
    if unknown:
        names = ", ".join(spec.name for spec in inputs)
        raise UsageError(f"the model has no input '{min(unknown)}', only {names}")
    generator = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        feeds = {}
        for spec in inputs:
            wanted = (shapes or {}).get(spec.name)
            shape = _closed(spec, image, wanted[index % len(wanted)] if wanted else None)
            if np.issubdtype(np.dtype(spec.dtype), np.floating):
                feeds[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
            else:
                feeds[spec.name] = generator.integers(0, 10, shape).astype(spec.dtype)
        samples.append(Sample(f"random[{index}]", feeds))
    return samples


def _closed(
    spec: TensorSpec, image: ImageSpec | None, wanted: tuple[int, ...] | None
) -> tuple[int, ...]:
    if wanted is None:
        wanted = spec.shape
        if len(wanted) == 4 and image is not None:
            wanted = image.output_shape
        if wanted[:1] == (-1,):
            wanted = (1, *wanted[1:])
    if -1 in wanted:
        raise UsageError(
            f"input '{spec.name}' is {spec}: say at which shape to check it, such as "
            f"--check-shape {spec.name}=1,3,224,224, or with which data or image preprocessing"
        )
    if math.prod(wanted) > _MOST_ELEMENTS:
        raise UsageError(f"input '{spec.name}' would be {list(wanted)}: too large to check")
    wrong = spec.mismatch(np.empty(wanted, spec.dtype))
    if wrong:
        raise UsageError(wrong)
    return wanted


def _fix_shapes(program: Program, shapes: Mapping[str, tuple[int, ...]]) -> None:
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


def _name(files: ModelFiles) -> str:
    """The file's own name, or the folder's where every model file is called alike."""
    stem = files.model.stem
    plain = ("inference", "model", "__model__")
    return files.model.absolute().parent.name if stem in plain else stem
