"""The path from a Paddle model to a bundle: load, repair, quantize, optimize, and check.

The self-check runs the unrepaired model on the server engine and the converted one on the x86
engine, on the same samples. What x86 has no right kernels for (static int8, fp16) is judged by
its simulation on the server engine, and x86 gets an fp32 twin, which judges the repairs.
A conversion whose numbers are wrong leaves no bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lite_opt.conversion import judges
from lite_opt.conversion.costs import family_costs
from lite_opt.conversion.judges import Case, CheckFailedError, Verdicts
from lite_opt.conversion.onnx import make_onnx
from lite_opt.conversion.plan import CHECK_SAMPLES, Material, Plan, fix_shapes
from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models, make_bundle, make_models
from lite_opt.conversion.ways_out import WaysOut, ways_out
from lite_opt.judge.compare import Report
from lite_opt.judge.layers.offsets import centre, said_of
from lite_opt.judge.sensitivity import FloatLayers
from lite_opt.lite.kernels import RELEASES
from lite_opt.lite.optimizer import Optimizer
from lite_opt.lite.refusals import refuse, refuse_later
from lite_opt.lite.targets import LITE
from lite_opt.model.load import load
from lite_opt.onnx.exporter import check_installed
from lite_opt.passes.repair import Effect, repair
from lite_opt.passes.rule import Change
from lite_opt.recipes import QUANTIZED, Recipe
from lite_opt.recipes import recipe as find_recipe
from py_runner.devices.here import Ahead, Here
from py_runner.errors import EngineError, PaddleEdgeError
from py_runner.files.folder import temporary_folder, whole_folder
from py_runner.formats.bundle import Bundle, save_samples
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tensors import TensorSpec
from py_runner.watch import QUIET, Watch

__all__ = ["Conversion", "convert"]


@dataclass(frozen=True)
class Conversion:
    """What `convert` did. `bool(conversion)` is whether there is a bundle that nothing speaks
    against: one that passed its self-check, or was not to be checked.

    `bundle` is None where the self-check failed. It is there, and the conversion false, where no
    engine here could judge it: `bundle.check["status"]` is then "unjudged", with the reason.
    `report` is the verdict of the self-check on the recipe, None without one. `refused` says how an
    ARM engine that was asked refused the model: there is no bundle then. `float_layers` says which
    layers `max_drop` kept in float, `advice` what of the network may be why the check failed (the
    layer that an ARM engine gets wrong, a normalisation of large means), `float_costs` what keeping
    them in float costs on boards (`costs.family_costs`),
    `effects` what each repair and pass did to the graph, `ways_out` what would pass where a limit
    was missed.
    """

    bundle: Bundle | None
    report: Report | None
    changes: tuple[Change, ...]
    float_layers: FloatLayers | None = None
    refused: str = ""
    advice: str = ""
    effects: tuple[Effect, ...] = ()
    ways_out: WaysOut | None = None
    float_costs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.bundle is not None and self.bundle.check["status"] != "unjudged"


def convert(
    model: str | Path,
    out: str | Path,
    *,
    recipe: str | Recipe = "fp32",
    target: Sequence[str] = LITE,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    calibration: str | Path | None = None,
    samples: str | Path | None = None,
    check_samples: int = CHECK_SAMPLES,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    check: bool = True,
    save_quantized: str | Path | None = None,
    without: Collection[str] = (),
    lite: str = RELEASES[-1],
    limits: Mapping[str, float | None] | None = None,
    truth: str | Path | None = None,
    task_limits: Mapping[str, float] | None = None,
    device: str | None = None,
    force: bool = False,
    look_on: bool = True,
    watch: Watch = QUIET,
) -> Conversion:
    """Make a bundle of a Paddle inference model.

    Args:
        model: a folder or file of a Paddle inference model.
        out: the bundle's folder; it must not exist unless `force`.
        recipe: the precision: a name in `recipes.RECIPES`, or what `recipes.recipe` made.
        target: which files to make, of "arm", "x86" and "onnx". Of a recipe that is for ARM only,
            the x86 file is an fp32 twin; so is the ONNX file of any recipe.
        params: the parameter file or folder, where it is not found by its name.
        image: preprocessing: an `inference.yml`, a preset or a SPEC, see `image_spec`;
            by default the `inference.yml`, `infer_cfg.yml` or `deploy.yaml` beside the model.
        labels: a file with one class name, or one character of a dictionary, a line.
        task: what the model does, `NAME[,KEY=VALUE...]`, see `task_spec`; by default what that
            file says.
        calibration: the data set that recipe int8 is calibrated with; recipe int8-weights, which
            needs none, rounds weights for it, by default for what `samples` has beyond those that
            check, where these are 16 or more.
        samples: a data set to check with; by default what calibration left of its data set, or
            seeded random tensors.
        check_samples: how many of them the bundle keeps and the check uses; recipe int8 is judged
            on up to 100.
        input_shape: fixes dimensions of inputs, by name; -1 leaves one dynamic.
        check_shape: shapes of the random tensors, by input, where dimensions are dynamic.
        check: run the result and compare it with the server before there is a bundle.
        save_quantized: a folder to write the quantized Paddle model to, for the server engine; of
            recipe fp16 the model that rounds as its kernels do.
        without: passes that are left out, of `passes.repair.OPTIONAL`: to find the one at fault.
        lite: the release of Paddle Lite on the device, of `lite.kernels.RELEASES`: what needs a
            later one is refused.
        limits: how far the result may be from the model, by the names of `Limits`; those not given
            are the recipe's own. An fp32 twin is held to the limits of fp32.
        truth: labels of whole samples, of calibration data as well, in a file as the task takes
            them: what int8 loses is then told in mAP, mIoU or right lines.
        task_limits: replace those of the task in the recipe's precision (`task_limits_for`), by
            which rounded models are judged on real samples.
        device: where engine native judges the file for arm, as for `py_runner.inference.run`, and
            without its verdict there is no bundle; by default this machine or an emulated board,
            where one is set up.
        look_on: where a limit is missed, look for what would pass: that takes a while.
        watch: is told of each step, how far long work has come, and what speaks against the result.

    Raises:
        UsageError, ModelError, DataError: the call, the model or the data are at fault.
        ConvertError: the optimizer cannot make this model run.
        EngineError: an engine is not installed or died.
    """
    plan = Plan(
        recipe=find_recipe(recipe) if isinstance(recipe, str) else recipe,
        target=target,
        out=Path(out),
        calibration=calibration,
        samples=samples,
        check_samples=check_samples,
        check=check,
        save_quantized=None if save_quantized is None else Path(save_quantized),
        force=force,
        reads=(model, params, labels, image, truth),
        release=lite,
        limits=limits or {},
        truth=None if truth is None else Path(truth),
        task_limits=task_limits or {},
        device=device,
    )
    if plan.onnx:
        check_installed(runs=check)
    with ExitStack() as stack:
        # The optimizers start while the model is read, the server while they work.
        optimizers = {name: stack.enter_context(Optimizer()) for name in plan.lite}
        watch.say(f"reading {model}")
        program = load(model, params=params)
        fix_shapes(program, input_shape or {})
        source = Source.of(program, image=image, labels=labels, task=task)
        chosen = plan.recipe_for(source)
        plan.task_limits_of(chosen, source.task)
        if chosen is QUANTIZED:
            watch.say("the model is quantized already: its own scales are kept")
        outputs = tuple(program.outputs)
        data = Material.gather(plan, source, chosen, check_shape)

        operators = len(program.ops)
        effects: list[Effect] = []
        changes = tuple(repair(program, recipe=chosen, without=without, effects=effects))
        if "arm" in plan.lite:
            changes += tuple(centre(program, data.judged))
        watch.say(f"repaired: {len(changes)} changes, {operators} -> {len(program.ops)} operators")
        # Under the names that the model gives them, of the types that come; one that a network
        # returns twice comes once.
        outputs = tuple(
            dict.fromkeys(
                replace(spec, dtype=after.dtype) for spec, after in zip(outputs, program.outputs)
            )
        )
        refuse(program, plan.lite)
        models, float_layers = make_models(program, source, chosen, data, plan, watch)
        for warning in data.warnings:
            watch.warn(warning)
        try:
            made = _Made(plan, source, models, data, outputs, changes)
            server = stack.enter_context(Ahead("paddle")) if data.judged else None
            verdicts = made.write(optimizers, server, look_on=look_on, watch=watch)
        except CheckFailedError as failed:
            advice = failed.layer
            if failed.report is not None:
                norms = said_of(load(model, params=params), data.judged)
                advice = "; ".join(filter(None, (advice, norms)))
            again = partial(
                _again, model, params=params, image=image, labels=labels, target=target,
                check_samples=check_samples, input_shape=input_shape, check_shape=check_shape,
            )  # fmt: skip
            ways = (
                ways_out(failed, models, data.judged, plan, source, again, watch)
                if look_on
                else None
            )
            return Conversion(
                None, failed.report, changes, float_layers, failed.refused, advice, tuple(effects),
                ways,
            )  # fmt: skip
    costs = {}
    if float_layers is not None and plan.check and "arm" in plan.lite:
        try:
            costs = family_costs(models, data.judged[0], watch=watch)
        except EngineError as error:
            watch.warn(f"instructions were not counted: {error}")
    return Conversion(
        Bundle.open(plan.out), verdicts.report, changes, float_layers, effects=tuple(effects),
        float_costs=costs,
    )  # fmt: skip


def _again(model: str | Path, recipe: str, **arguments: Any) -> Report | None:
    """What is said of the model with another recipe; None where it cannot be made."""
    with temporary_folder() as folder:
        try:
            done = convert(model, folder / "out", recipe=recipe, look_on=False, **arguments)
        except PaddleEdgeError:
            return None
    return done.report if done else None


@dataclass(frozen=True)
class _Made:
    """What the files of a bundle are made from, and what it says of itself."""

    plan: Plan
    source: Source
    models: Models
    data: Material
    outputs: tuple[TensorSpec, ...]
    changes: tuple[Change, ...]

    def write(
        self,
        optimizers: Mapping[str, Optimizer],
        server: Ahead | None,
        *,
        look_on: bool,
        watch: Watch,
    ) -> Verdicts:
        """Make the files, have them judged, and write what was said into the bundle.

        Raises CheckFailedError, and leaves nothing, where a judge finds them wrong.
        """
        plan, source, models, judged = self.plan, self.source, self.models, self.data.judged
        kept = plan.check_samples
        with whole_folder(plan.out, force=plan.force) as folder:
            bundle, doubt = make_bundle(
                models, source, folder, optimizers, all_needed=not plan.check, watch=watch
            )
            refuse_later(source.files.model, bundle.targets, plan.release)
            limits = plan.limits_of(models.recipe)
            of_task = plan.task_limits_of(models.recipe, source.task)
            bundle = replace(
                bundle,
                outputs=self.outputs,
                repairs=tuple(map(str, self.changes)),
                recipe={**bundle.recipe, "limits": asdict(limits), "task_limits": of_task},
            )
            verdicts = Verdicts()
            if server is not None:
                reference = _reference(source, self.data, bundle, server, watch)
                _keep(reference.first(kept), folder)
                bundle = replace(bundle, samples=save_samples(folder, judged[:kept]))
            case = None
            if plan.check:
                case = Case(
                    source, models, judged, kept, reference, watch, limits, look_on,
                    real=not self.data.drawn, truth=plan.truth, task_limits=of_task,
                    device=plan.device,
                )  # fmt: skip
                verdicts = Verdicts(simulation=judges.simulation(case))
                if plan.lite:
                    verdicts = replace(verdicts, x86=judges.x86(case, folder, bundle, doubt))
                if verdicts.x86 is not None and verdicts.x86.fails:
                    (folder / "model.x86.nb").unlink(missing_ok=True)
                    bundle = replace(bundle, targets={"arm": bundle.targets["arm"]})
            if plan.onnx:
                made, verdict = make_onnx(models, source, folder, case, watch)
                bundle = replace(bundle, targets={**bundle.targets, "onnx": made})
                verdicts = replace(verdicts, onnx=verdict)
            if case is not None:
                _sign(bundle, folder, verdicts, models, self.data)
                board, other = judges.board(case, folder, bundle)
                verdicts = replace(verdicts, board=board, other=other)
                if case.measured:
                    _keep(replace(reference.first(kept), noise=case.measured), folder)
            _sign(bundle, folder, verdicts, models, self.data)
        return verdicts


def _sign(bundle: Bundle, folder: Path, verdicts: Verdicts, models: Models, data: Material) -> None:
    """Write the manifest, which makes the folder a bundle."""
    check = verdicts.to_json(models.recipe.name, bundle.targets, data.warnings)
    replace(bundle, check=check).write(folder)


def _reference(source: Source, data: Material, bundle: Bundle, server: Ahead, watch: Watch) -> Run:
    """What the unrepaired model answers on the server engine."""
    watch.say("running the source model on the server engine")
    with temporary_folder() as temporary:
        model = source.model(temporary, sha256=bundle.source["sha256"])
        return run(model, data.judged, engine="paddle", here=Here(engine=server.opened))


def _keep(reference: Run, folder: Path) -> None:
    """Write the reference of a bundle, in the place of one that knew less of its noise."""
    shutil.rmtree(folder / "reference", ignore_errors=True)
    (folder / "reference").mkdir()
    reference.write(folder / "reference")
