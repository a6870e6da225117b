"""Who judges a conversion: the recipe's arithmetic on the server, the x86 engine, ONNX Runtime, an
ARM engine.

Each judge runs what was made on the samples, compares it with what the source model answered, and
returns a Verdict. `Verdicts` puts them together, in one place, into what the bundle says of itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lite_opt.conversion.source import Source
from lite_opt.conversion.steps import Models, make_target
from lite_opt.judge.compare import Report, compare
from lite_opt.judge.layers import first_difference
from lite_opt.judge.layers.culprit import culprit_on
from lite_opt.judge.limits import ROUNDED, Limits, limits_for
from lite_opt.judge.noise import noise_of_server
from lite_opt.lite.optimizer import Optimizer
from lite_opt.lite.part import part, patience_s
from lite_opt.lite.refusals import cannot_run, lacks_fp16
from lite_opt.lite.targets import cannot
from lite_opt.model.load import load, stage
from lite_opt.model.program import Program
from lite_opt.quant.simulate import approximated, fake_fp16
from py_runner.devices import arm_device, other_family
from py_runner.errors import ConvertError, EngineError, PaddleEdgeError, RefusedError
from py_runner.files.folder import temporary_folder
from py_runner.formats.bundle import Bundle
from py_runner.formats.run import Run
from py_runner.inference import run
from py_runner.tasks import name_of
from py_runner.tensors import Model, Sample
from py_runner.watch import Watch

__all__ = ["Case", "CheckFailedError", "Verdict", "Verdicts", "board", "onnx", "simulation", "x86"]

# The server's noise is measured, which takes two runs of it, where an engine comes as near to the
# limit as this part of it: another engine that is right as well may come to the other side.
_NEAR = 0.25
# An emulated board takes seconds for one, several times over.
_SAMPLES_OF_LAYERS = 2


class CheckFailedError(Exception):
    """What was made is wrong, or an ARM engine refuses it (`refused` says how): ends a conversion
    without a bundle, and never leaves `convert`. `pair` is what was compared, `layer` says which
    layer an ARM engine gets wrong, where that was found."""

    def __init__(
        self, report: Report | None, refused: str = "", pair: tuple[Run, Run] | None = None
    ) -> None:
        super().__init__()
        self.report, self.refused, self.pair = report, refused, pair
        self.layer = ""


@dataclass(frozen=True)
class Case:
    """What the judges have in common. `reference` is what the source model answered to `samples`
    on the server engine; engines that are slow get the first `kept` of them. `limits` are those of
    the recipe: what has its precision is held to them, an fp32 twin to those of fp32. `look_on` is
    whether to look for the layer that an ARM engine gets wrong; `real` is whether the samples are
    such as the model is for, `truth` the file of their labels or None. `device` is the one whose
    verdict is asked for; None where any ARM engine may judge."""

    source: Source
    models: Models
    samples: list[Sample]
    kept: int
    reference: Run
    watch: Watch
    limits: Limits
    look_on: bool = True
    real: bool = False
    truth: Path | None = None
    task_limits: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None

    @cached_property
    def noise(self) -> dict[str, float]:
        """How far the server's own answers move: see judge/noise.py. Measured when it is asked for,
        which only doubtful answers do, and on the source model: what a repair did is no noise.

        Of a model that comes quantized, whose rounding amplifies everything, on its float form.
        """
        self.watch.say("measuring the server's own noise")
        samples, reference = self.samples[: self.kept], self.reference.first(self.kept)
        if self.source.precision != "int8":
            return self._noise(samples, reference, self._of_source)
        found = self._noise(samples, self._answered, self._repaired)
        return dict(zip(reference.outputs, found.values()))

    def _noise(
        self,
        samples: list[Sample],
        reference: Run,
        answer: Callable[[Sequence[Sample], str], Run],
    ) -> dict[str, float]:
        """`noise_of_server`, of every output."""
        estimated = approximated(self.models.program)

        def estimate() -> tuple[Run, Run]:
            # Both of what was repaired: between it and the source may lie a fault.
            assert estimated is not None
            return self._answered, self.on_server(estimated, samples, "fp32")

        found = noise_of_server(samples, reference, answer, estimate if estimated else None)
        return {name: found.get(name, 0.0) for name in reference.outputs}

    @cached_property
    def _answered(self) -> Run:
        """What the repaired model answers to the samples that are kept, in float."""
        return self._repaired(self.samples[: self.kept])

    def _repaired(self, samples: Sequence[Sample], device: str = "cpu") -> Run:
        return self.on_server(self.models.program, samples, "fp32", device)

    def _of_source(self, samples: Sequence[Sample], device: str) -> Run:
        with temporary_folder() as temporary:
            model = self.source.model(temporary, sha256=self.reference.model["sha256"])
            return run(model, samples, engine="paddle", device=device)

    @cached_property
    def of_twin(self) -> Run:
        """What an fp32 twin is held against: of a model that comes quantized, its own float form,
        because the twin is the model without the rounding."""
        if self.source.precision == "int8":
            return self._answered
        return self.reference.first(self.kept)

    @property
    def measured(self) -> dict[str, float]:
        """The noise if it was asked for, else nothing."""
        return self.noise if "noise" in vars(self) else {}

    def compared(self, reference: Run, answers: Run) -> Report:
        """The report on an engine's answers, by the server's noise where they are far off.

        Tensors that agree prove more than a task on a few samples does; but rounded ones never
        agree that well, and are judged by the task where the samples are real: a limit of it that
        the samples do not decide about is then none. Tensors of boxes say nothing where two of
        nearly the same score change places: then the boxes themselves are judged.
        """
        own = answers.precision == self.models.recipe.name
        limits = self.limits if own else limits_for(answers.precision)
        plain = replace(reference, task=None), replace(answers, task=None)
        report = self._of_tensors(*plain, limits)
        rounded = self.real and answers.precision in ROUNDED
        if not rounded and (report or name_of(reference.task) != "detection"):
            return report
        given: dict[str, Any] = (
            {"truth": self.truth, "task_limits": self.task_limits} if rounded else {}
        )
        by_task = compare(reference, answers, limits=limits, **given)
        if by_task.scores is None or not by_task.scores.judged:
            return report
        if not report or any(rate.broken and rate.decided for rate in by_task.rates):
            return by_task
        doubts = tuple(by_task.scores.undecided)
        return replace(
            report, rates=by_task.rates, scores=by_task.scores, warnings=report.warnings + doubts
        )

    def _of_tensors(self, reference: Run, answers: Run, limits: Limits) -> Report:
        report = compare(reference, answers, limits=limits)
        limit = report.limits.max_abs_diff
        apart = max(output.max_probability_diff for output in report.outputs)
        if limit is None or apart <= _NEAR * limit or not math.isfinite(apart):
            return report
        noise = dict(zip(reference.outputs, self.noise.values()))
        return compare(replace(reference, noise=noise), answers, limits=limits)

    def on_server(
        self, program: Program, samples: Sequence[Sample], precision: str, device: str = "cpu"
    ) -> Run:
        """What a program answers on the server engine."""
        with temporary_folder() as temporary:
            staged = stage(program, temporary)
            assert staged.params is not None
            files = (staged.model, staged.params)
            model = Model(self.source.name, "", precision, files, self.source.inputs)
            return run(model, samples, engine="paddle", device=device)


@dataclass(frozen=True)
class Verdict:
    """What one engine says of a conversion. `bool(verdict)` is whether it found it right.

    `doubt` says why it is not to be believed, or why it says nothing: then `report` is no verdict
    on the model. `fails` is whether that is the engine's fault, `cpu` what it ran on, in words.
    """

    engine: str
    report: Report | None
    doubt: str = ""
    warnings: tuple[str, ...] = ()
    cpu: str = ""

    def __bool__(self) -> bool:
        return not self.doubt and self.report is not None and bool(self.report)

    @property
    def fails(self) -> bool:
        return bool(self.doubt) and (self.report is None or bool(self.report.failures))


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on one conversion, each None where that judge was not asked or is not here.

    `other` is that of an ARM engine which takes other int8 kernels than `board`'s.
    """

    simulation: Verdict | None = None
    x86: Verdict | None = None
    board: Verdict | None = None
    other: Verdict | None = None
    onnx: Verdict | None = None

    @property
    def report(self) -> Report | None:
        """That of the judge who counts most: the board, then the recipe's arithmetic, then x86."""
        verdicts = (self.board, self.simulation, self.x86, self.onnx)
        reports = [v.report for v in verdicts if v is not None and v.report is not None]
        return reports[0] if reports else None

    def to_json(
        self, recipe: str, targets: Collection[str], warnings: Collection[str]
    ) -> dict[str, Any]:
        """The `check` of a bundle for these targets: status, who judged, how it came out.

        `warnings` are those of the conversion.
        """
        judges = (self.x86, self.simulation, self.board, self.other, self.onnx)
        verdicts = [verdict for verdict in judges if verdict is not None]
        if not verdicts:
            return {"status": "skipped", "warnings": list(warnings)}
        every = [*warnings, *(text for verdict in verdicts for text in verdict.warnings)]
        check: dict[str, Any] = {"status": "passed"}
        others = (self.x86, self.simulation, self.onnx)
        doubts = [v.doubt for v in others if v is not None and v.doubt]
        if self.board is not None and self.board.report is not None and self.board.doubt:
            doubts.insert(0, self.board.doubt)  # it answered, and what it answered says nothing
        if doubts and not self.board:
            check = {"status": "unjudged", "reason": "; ".join(dict.fromkeys(doubts))}
        else:
            decides = next(filter(None, (self.board, self.simulation, self.x86, self.onnx)))
            assert decides.report is not None
            check |= {"engine": decides.engine, **_figures(decides.report)}
        words = {"x86": self._of_x86, "onnx": self._of_onnx}
        check["targets"] = {
            name: self._of_arm(recipe) if name == "arm" else words[name]() for name in targets
        }
        check["judges"] = [{"engine": v.engine, "cpu": v.cpu, "passed": bool(v)} for v in verdicts]
        check["warnings"] = list(dict.fromkeys(every))
        return check

    def _of_arm(self, recipe: str) -> str:
        """What is known of the file for arm, in words."""
        if self.board:
            engines = [v.engine for v in (self.board, self.other) if v]
            return f"passed on {' and '.join(engines)}"
        words = [self.board.doubt if self.board is not None else "not run: no ARM engine here"]
        if self.simulation:
            words.insert(0, f"its {recipe} arithmetic passed on {self.simulation.engine}")
        elif self.x86:
            words.append("the same repaired model passed on x86")
        return "; ".join(words)

    def _of_x86(self) -> str:
        if self.x86 is not None and not self.x86:
            return "unjudged"
        return "passed" if self.simulation is None else "passed, as an fp32 twin"

    def _of_onnx(self) -> str:
        return f"passed on {self.onnx.engine}" if self.onnx else "unjudged"


def _figures(report: Report) -> dict[str, Any]:
    return {
        "samples": report.samples,
        "top1_agreement": report.top1_agreement,
        **({"rates": {rate.name: rate.value for rate in report.rates}} if report.scores else {}),
        "outputs": [
            {
                "name": o.name,
                "cosine": o.cosine,
                "max_probability_diff": o.max_probability_diff,
                "limit": o.limit,
            }
            for o in report.outputs
        ],
    }


def _verdict(case: Case, reference: Run, answers: Run, where: str = "") -> Verdict:
    """In doubt where nothing was judged. Raises CheckFailedError where the answers are wrong."""
    report = case.compared(reference, answers)
    if report.failures:
        raise CheckFailedError(report, pair=(reference, answers))
    return _unless_wrong(answers, report, where)


def _unless_wrong(answers: Run, report: Report, where: str = "") -> Verdict:
    """The verdict that a report without failures is."""
    return Verdict(
        _engine(answers) + where,
        report,
        "; ".join(report.unjudged),
        report.warnings,
        cpu=_cpu(answers),
    )


def _engine(answers: Run) -> str:
    return f"{answers.engine} {answers.engine_version}"


def _cpu(answers: Run) -> str:
    """What an engine ran on, and by which features of it kernels were chosen, in words."""
    if answers.cpu is None:
        return answers.machine
    used = ", ".join(answers.cpu["engine_features"]) or "neither dot product nor fp16"
    return f"{answers.machine}, kernels with {used}"


def simulation(case: Case) -> Verdict | None:
    """The arithmetic of a recipe that x86 has no right kernels for, computed by the server engine.

    Raises CheckFailedError where that is wrong; None for the other recipes.
    """
    recipe = case.models.recipe
    if not cannot("x86", recipe):
        return None
    case.watch.say(f"running the model as {recipe.name} on the server engine")
    program = fake_fp16(case.models.program) if recipe.fp16 else case.models.quantized
    assert program is not None
    answers = case.on_server(program, case.samples, recipe.name)
    return _verdict(case, case.reference, answers)


def x86(case: Case, folder: Path, bundle: Bundle, doubt: str) -> Verdict:
    """The x86 engine, on the file for it or a twin made to judge the repairs by.

    Where that engine fails (`doubt`: its file could not even be made), but the repaired model is
    right on the server, x86 is to blame: the verdict is in doubt. Raises CheckFailedError where the
    model is wrong, ConvertError where there is nothing but the file for x86.
    """
    samples, reference = case.samples[: case.kept], case.of_twin
    report, engine, pair = None, "lite", None
    if not doubt:
        case.watch.say("running the converted model on the x86 engine")
        try:
            answers = _run_x86(case, case.models, samples, folder / "model.x86.nb")
        except (EngineError, ConvertError) as error:
            # Without the folder, which is this machine's and gone tomorrow.
            doubt = re.sub(r"\S*/(?=(?:model|twin)\.x86\.nb)", "", str(error))
        else:
            report, engine = case.compared(reference, answers), _engine(answers)
            pair = reference, answers
            if not report.failures:
                return _unless_wrong(answers, report)
            doubt = "; ".join(report.failures)
    if report is not None and ("arm" not in bundle.targets or _weights_are_wrong(case)):
        raise CheckFailedError(report, pair=pair)
    if "arm" not in bundle.targets:
        raise ConvertError(doubt)
    case.watch.say(f"the x86 engine fails ({doubt}); running the repaired model on the server")
    repaired = case.compared(reference, case.on_server(case.models.program, samples, "fp32"))
    if repaired.failures:
        raise CheckFailedError(repaired)
    blame = f"the repaired model is right on the server, the x86 engine fails: {doubt}"
    return Verdict(engine, report, doubt=blame)


def _weights_are_wrong(case: Case) -> bool:
    """Whether the x86 engine is right on the model in fp32: then the recipe is to blame."""
    if not case.models.recipe.quant_type:
        return False
    case.watch.say("running the model in fp32 on the x86 engine")
    samples = case.samples[: case.kept]
    server = case.on_server(case.models.program, samples, "fp32")
    try:
        return bool(case.compared(server, _run_x86(case, case.models.in_fp32(), samples, None)))
    except (EngineError, ConvertError):
        return False


def _run_x86(case: Case, models: Models, samples: list[Sample], file: Path | None) -> Run:
    """What the x86 engine answers with a file, or where there is none, with a twin."""
    _, recipe = models.of("x86")
    with temporary_folder() as temporary:
        if file is None or not file.exists():
            file = temporary / "twin.x86.nb"
            with Optimizer() as optimizer:
                make_target(models, optimizer, "x86", file)
        model = Model(case.source.name, "", recipe.name, (file,), case.source.inputs)
        return run(model, samples, engine="lite")


def onnx(case: Case, file: Path) -> Verdict:
    """ONNX Runtime on an ONNX file, an fp32 twin where the recipe is another.

    Raises CheckFailedError where it is wrong on it, EngineError where it refuses the file.
    """
    case.watch.say("running the ONNX file on ONNX Runtime")
    model = Model(case.source.name, "", "fp32", (file,), case.source.inputs)
    answers = run(model, case.samples[: case.kept], engine="onnx")
    return _verdict(case, case.of_twin, answers)


def board(case: Case, folder: Path, bundle: Bundle) -> tuple[Verdict | None, Verdict | None]:
    """An ARM engine on the file for arm, where there is one: the device that is asked for, else
    this machine, or an emulated board.

    It counts more than any other. `folder` holds a whole bundle. Static int8 has two families of
    kernels, with and without dot product: where boards are emulated the second verdict is one's
    that takes the other family. None where no engine is here, in doubt where it is set up wrongly.
    Raises CheckFailedError where the model is wrong on it, or it refuses the model, dies of it or
    hangs, and EngineError where the device that is asked for cannot be had.
    """
    device = case.device or arm_device()
    if "arm" not in bundle.targets or device is None:
        return None, None
    verdict, answers = _on_board(case, folder, bundle, device)
    if answers is None or answers.precision != "int8" or answers.cpu is None:
        return verdict, None
    other = other_family(device, answers.cpu["engine_features"])
    return verdict, None if other is None else _on_board(case, folder, bundle, other)[0]


def _on_board(case: Case, folder: Path, bundle: Bundle, device: str) -> tuple[Verdict, Run | None]:
    """What an ARM engine says, and what it answered."""
    case.watch.say(f"running the file for arm on engine native, device {device}")
    limit_s = patience_s(case.reference.latency["max_ms"])
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        case.watch.warn(text)

    answers = None
    try:
        answers = run(
            Bundle.open(folder).model("arm"),
            case.samples[: case.kept],
            engine="native",
            device=device,
            time_limit_s=limit_s,
            watch=replace(case.watch, warn=warn),
        )
    except RefusedError as error:
        words = _without(folder, error)
        lacks = lacks_fp16(words) if case.models.recipe.fp16 else ""
        if not lacks:
            raise CheckFailedError(None, _blame(case, device, limit_s, words)) from None
        warn(f"no ARM verdict: on device {device} {lacks}")
    except EngineError as error:
        if case.device is not None:
            raise
        warn(f"no ARM verdict: {str(error).replace(str(folder), bundle.name)}")
    if answers is None:
        return Verdict("native", None, doubt=warnings[-1], warnings=tuple(warnings)), None
    try:
        verdict = _verdict(case, case.reference.first(case.kept), answers, f" ({device})")
    except CheckFailedError as failed:
        failed.layer = _wrong_layer(case, device) if case.look_on else ""
        raise
    return replace(verdict, warnings=tuple(warnings)), answers


def _wrong_layer(case: Case, device: str) -> str:
    """Which layer an ARM engine gets wrong, in words; "" where that cannot be said."""
    if case.source.half:  # the server runs it widened, and has other variables
        return ""
    case.watch.say("it is wrong there: looking for the layer")
    files = case.source.files
    reference = load(files.model, params=files.params)
    for spec in case.source.inputs:
        reference.var(spec.name).shape = spec.shape
    program, recipe = case.models.of("arm")
    samples = case.samples[: min(case.kept, _SAMPLES_OF_LAYERS)]
    try:
        found = first_difference(
            reference,
            program,
            samples,
            engine="native",
            device=device,
            recipe=recipe,
            equalised=case.models.mixed.equalised if case.models.mixed is not None else (),
            watch=case.watch,
        )
    except PaddleEdgeError:
        return ""
    return "" if found else f"on device {device} {found.verdict}"


def _without(folder: Path, error: Exception) -> str:
    """An error's words without a folder that is this machine's and gone tomorrow."""
    return re.sub(rf"{re.escape(str(folder))}/?", "", str(error))


def _blame(case: Case, device: str, limit_s: float, words: str) -> str:
    """That an ARM engine cannot run a model, and for which operator of it: in our words, then in
    its last ones."""
    case.watch.say("it does not run: looking for the operator that it cannot run")
    program, recipe = case.models.of("arm")

    def answer(beginning: Program, sample: Sample) -> Run:
        with temporary_folder() as folder:
            return run(
                part(beginning, "arm", recipe, folder),
                [sample],
                engine="native",
                device=device,
                warmup=0,
                time_limit_s=limit_s,
            )

    op = culprit_on(program, case.samples[0], answer, words)
    if op is None:
        return f"the ARM engine on {device} refuses the model; it said: {words}"
    return cannot_run(op, f"the ARM engine on {device}", words)
