"""The path from a Paddle model to a bundle: load, repair, optimize, and check before success.

The self-check runs the unrepaired model on the server engine and the converted one on the x86
engine, on the same samples. A conversion whose numbers are wrong leaves no bundle.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lite_opt.compare import Report, compare
from lite_opt.optimize import TARGETS, Optimizer
from lite_opt.program import ModelFiles, Program
from lite_opt.recipe import Recipe
from lite_opt.recipe import recipe as find_recipe
from lite_opt.repair import Change, repair
from py_runner import checksum
from py_runner.bundle import Bundle, Model, Target, TensorSpec, save_samples
from py_runner.dataset import Sample, dataset, read_labels
from py_runner.errors import ConvertError, DataError, EngineError, UsageError
from py_runner.folder import check_free, whole_folder
from py_runner.image import ImageSpec, image_spec, read_inference_yml
from py_runner.nb import NbFile
from py_runner.run import Run, run

__all__ = ["Conversion", "Source", "check_labels", "convert", "random_samples"]

_CHECK_SAMPLES = 4
_MOST_ELEMENTS = 1 << 28  # of a random tensor: 1 GB


@dataclass(frozen=True)
class Conversion:
    """What `convert` did. `bool(conversion)` is whether there is a bundle that nothing speaks
    against: one that passed its self-check, or was not to be checked.

    `bundle` is None where the self-check failed. It is there, and the conversion false, where no
    engine here could judge it: `bundle.check["status"]` is then "unjudged", with the reason.
    `report` is the verdict of the self-check, None without one.
    """

    bundle: Bundle | None
    report: Report | None
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return self.bundle is not None and self.bundle.check["status"] != "unjudged"


@dataclass(frozen=True)
class Source:
    """A source model with what lies beside it: how to preprocess, and the names of the classes."""

    files: ModelFiles
    inputs: tuple[TensorSpec, ...]
    image: ImageSpec | None
    labels: tuple[str, ...] | None
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
            warning,
        )

    def model(self, folder: Path, *, sha256: str | None = None) -> Model:
        """The model as the server engine takes it; old forms are rewritten into `folder`."""
        files = self.files
        if files.model.suffix not in (".pdmodel", ".json") or files.params is None:
            files = Program.load(files.model, params=files.params).save(folder)
        assert files.params is not None
        return Model(
            _name(self.files),
            sha256 or self.files.sha256(),
            "fp32",
            (files.model, files.params),
            self.inputs,
        )


def convert(
    model: str | Path,
    out: str | Path,
    *,
    recipe: str = "fp32",
    target: Sequence[str] = TARGETS,
    params: str | Path | None = None,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    samples: str | Path | None = None,
    check_samples: int = _CHECK_SAMPLES,
    input_shape: Mapping[str, tuple[int, ...]] | None = None,
    check_shape: Mapping[str, Sequence[tuple[int, ...]]] | None = None,
    check: bool = True,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Conversion:
    """Make a bundle of a Paddle inference model.

    Args:
        model: a folder or file of a Paddle inference model.
        out: the bundle's folder; it must not exist unless `force`.
        recipe: the precision, a name in `recipe.RECIPES`.
        target: which `.nb` files to make, of "arm" and "x86".
        params: the parameter file or folder, where it is not found by its name.
        image: preprocessing: an `inference.yml`, a preset or a SPEC, see `image.image_spec`;
            by default the `inference.yml` beside the model.
        labels: a file with one class name a line.
        samples: a data set to check with; by default seeded random tensors.
        check_samples: how many of them the bundle keeps and the check uses.
        input_shape: fixes dimensions of inputs, by name; -1 leaves one dynamic.
        check_shape: shapes of the random tensors, by input, where dimensions are dynamic.
        check: run the result and compare it with the server before there is a bundle.
        progress: called with a line of text at each step.

    Raises:
        UsageError, ModelError, DataError: the call, the model or the data are at fault.
        ConvertError: the optimizer cannot make this model run.
        EngineError: an engine is not installed or died.
    """
    say = progress or (lambda text: None)
    out = Path(out)
    chosen = find_recipe(recipe)
    unknown = [t for t in target if t not in TARGETS]
    if unknown or not target:
        raise UsageError(f"unknown target '{', '.join(unknown)}': choose {', '.join(TARGETS)}")
    if check_samples < 1:
        raise UsageError("check_samples is at least 1")
    check_free(out, force=force, keep=(model, params, labels, samples))

    # The optimizers start while the model is read.
    with ExitStack() as stack:
        # arm first: it decides; x86 is there to check it.
        chosen_targets = [name for name in TARGETS if name in target]
        optimizers = {name: stack.enter_context(Optimizer()) for name in chosen_targets}
        say(f"reading {model}")
        program = Program.load(model, params=params)
        _fix_shapes(program, input_shape or {})
        source = Source.of(program, image=image, labels=labels)
        if source.warning:
            say(source.warning)
        outputs = tuple(program.outputs)
        picked: list[Sample] = []
        if samples is not None:
            data = dataset(
                samples,
                inputs=source.inputs,
                image=source.image,
                labels=source.labels,
                limit=check_samples,
            )
            picked = list(data)
        elif check:
            picked = random_samples(
                source.inputs, count=check_samples, image=source.image, shapes=check_shape
            )

        operators = len(program.ops)
        changes = tuple(repair(program))
        say(f"repaired: {len(changes)} changes, {operators} -> {len(program.ops)} operators")
        job = _Job(program, source, chosen, picked, say)
        report = None
        try:
            with whole_folder(out, force=force) as folder:
                bundle, doubt = job.optimize(folder, optimizers, needed=not check)
                bundle = replace(
                    bundle, path=out, outputs=outputs, repairs=tuple(map(str, changes))
                )
                if picked:
                    reference = job.reference(folder, bundle)
                    bundle = replace(bundle, samples=save_samples(folder, picked))
                if check:
                    report, bundle = job.judge(folder, bundle, reference, doubt)
                bundle.write(folder)
        except _CheckFailedError as failed:
            return Conversion(None, failed.report, changes)
    return Conversion(Bundle.open(out), report, changes)


class _CheckFailedError(Exception):
    """Leaves `whole_folder` without a bundle; never leaves this module."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report


@dataclass(frozen=True)
class _Job:
    """The steps of one conversion, over what they share. `program` is the repaired one."""

    program: Program
    source: Source
    recipe: Recipe
    samples: list[Sample]
    say: Callable[[str], None]

    def optimize(
        self, folder: Path, optimizers: Mapping[str, Optimizer], *, needed: bool
    ) -> tuple[Bundle, str]:
        """Make a `.nb` for each target in `folder`, and describe them.

        The second value says why there is none for x86, where that one cannot be made but one for
        arm can, and it is not `needed`.
        """
        with (
            tempfile.TemporaryDirectory(prefix="paddle-edge-") as temporary,
            # Checksums of large files overlap with the optimizer's work.
            ThreadPoolExecutor(max_workers=2) as pool,
        ):
            digest = pool.submit(self.source.files.sha256)
            staged = self.program.stage(temporary)
            made: dict[str, tuple[NbFile, Future[str], Future[str]]] = {}
            doubt = ""
            for name, optimizer in optimizers.items():
                self.say(f"optimizing for {name}")
                try:
                    nb = self._optimized(optimizer, staged, name, folder / f"model.{name}.nb")
                except ConvertError as error:
                    if needed or name != "x86" or "arm" not in made:
                        raise
                    # The bundle keeps it: without the model's place on this machine.
                    doubt = str(error).removeprefix(f"{self.program.files.model}: ")
                else:
                    sums = [pool.submit(f, nb.path) for f in (checksum.sha256, checksum.crc32)]
                    made[name] = (nb, sums[0], sums[1])
            bundle = Bundle(
                path=folder,
                name=_name(self.source.files),
                source={
                    "file": self.source.files.model.name,
                    "sha256": digest.result(),
                    "ir": self.source.files.ir,
                    "paddle_version": self.program.paddle_version,
                },
                recipe=self.recipe.to_json(),
                repairs=(),
                targets={
                    name: _target(nb, self.recipe, sha256.result(), crc32.result())
                    for name, (nb, sha256, crc32) in made.items()
                },
                inputs=self.source.inputs,
                outputs=(),
                image=self.source.image,
                labels=self.source.labels,
                check={"status": "skipped"},
            )
            return bundle, doubt

    def _optimized(
        self, optimizer: Optimizer, staged: ModelFiles, target: str, out: Path
    ) -> NbFile:
        """Run an optimizer; its errors also name the model, and the layers of operators."""
        try:
            return optimizer.run(staged, target, out, recipe=self.recipe)
        except ConvertError as error:
            named = {m[1] or m[2] for m in re.finditer(r"'(\w+)'|found for (\w+)", str(error))}
            layers = [f"{op.type} '{op.layer}'" for op in self.program.ops if op.type in named]
            where = f" (in this model: {', '.join(layers[:5])})" if layers else ""
            raise ConvertError(f"{self.program.files.model}: {error}{where}") from None

    def reference(self, folder: Path, bundle: Bundle) -> Run:
        """Keep what the unrepaired model answers to the samples on the server engine."""
        self.say("running the source model on the server engine")
        with tempfile.TemporaryDirectory(prefix="paddle-edge-") as temporary:
            model = self.source.model(Path(temporary), sha256=bundle.source["sha256"])
            reference = run(model, self.samples, engine="paddle")
        (folder / "reference").mkdir()
        reference.write(folder / "reference")
        return reference

    def judge(
        self, folder: Path, bundle: Bundle, reference: Run, doubt: str
    ) -> tuple[Report | None, Bundle]:
        """Run what was made, compare it with the reference, and put the verdict into the bundle.

        Where the x86 engine fails, but the repaired model is right on the server, x86 is to blame:
        the bundle then goes to arm alone, unjudged. Raises _CheckFailedError where the model is
        wrong.
        """
        report = None
        if not doubt:
            self.say("running the converted model on the x86 engine")
            try:
                candidate = self._run_x86(folder, bundle)
            except (EngineError, ConvertError) as error:
                # Without the folder, which is this machine's and gone tomorrow.
                doubt = re.sub(r"\S*/(?=(?:model|twin)\.x86\.nb)", "", str(error))
            else:
                report = compare(reference, candidate)
                if report:
                    return report, replace(bundle, check=_passed(report, candidate, bundle))
                doubt = "; ".join(report.failures)
        if "arm" not in bundle.targets:
            if report is None:
                raise ConvertError(doubt)
            raise _CheckFailedError(report)
        self.say(f"the x86 engine fails ({doubt}); running the repaired model on the server")
        with tempfile.TemporaryDirectory(prefix="paddle-edge-") as temporary:
            staged = self.program.stage(temporary)
            assert staged.params is not None
            model = replace(
                self.source.model(Path(temporary), sha256=""), files=(staged.model, staged.params)
            )
            repaired = compare(reference, run(model, self.samples, engine="paddle"))
        if not repaired:
            raise _CheckFailedError(repaired)
        (folder / "model.x86.nb").unlink(missing_ok=True)
        check = {
            "status": "unjudged",
            "targets": {"arm": "not run: no ARM engine here"},
            "reason": f"the repaired model is right on the server, the x86 engine fails: {doubt}",
        }
        return report, replace(bundle, targets={"arm": bundle.targets["arm"]}, check=check)

    def _run_x86(self, folder: Path, bundle: Bundle) -> Run:
        """Run the x86 file, or where the bundle has none, one made to judge the repairs by."""
        with tempfile.TemporaryDirectory(prefix="paddle-edge-") as temporary:
            file = folder / "model.x86.nb"
            if not file.exists():
                file = Path(temporary, "twin.x86.nb")
                with Optimizer() as optimizer:
                    self._optimized(optimizer, self.program.stage(temporary), "x86", file)
            model = Model(
                bundle.name, bundle.source["sha256"], self.recipe.name, (file,), bundle.inputs
            )
            return run(model, self.samples, engine="lite")


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
            f"--check-shape {spec.name}=1,3,224,224, or give --samples or --image"
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


def check_labels(labels: Sequence[str] | None, outputs: Sequence[TensorSpec]) -> None:
    """Raise UsageError where there are not as many labels as the first output has classes."""
    classes = outputs[0].shape[-1] if outputs[0].shape else -1
    if labels is not None and classes > 0 and len(labels) != classes:
        raise UsageError(
            f"{len(labels)} labels for a model of {classes} classes: "
            "give the right file with --labels"
        )


def _name(files: ModelFiles) -> str:
    """The file's own name, or the folder's where every model file is called alike."""
    stem = files.model.stem
    plain = ("inference", "model", "__model__")
    return files.model.absolute().parent.name if stem in plain else stem


def _target(nb: NbFile, recipe: Recipe, sha256: str, crc32: str) -> Target:
    return Target(
        file=nb.path.name,
        sha256=sha256,
        crc32=crc32,
        bytes=nb.bytes,
        opt_version=nb.opt_version,
        ops=len(nb.ops),
        kernels={f"{t}/{p}": count for (t, p), count in nb.kernels.most_common()},
        precision=recipe.name,
    )


def _passed(report: Report, candidate: Run, bundle: Bundle) -> dict[str, Any]:
    """What the manifest says of a check that passed. No engine here runs ARM code: say so."""
    return {
        "status": "passed",
        "engine": f"{candidate.engine} {candidate.engine_version}",
        "targets": {
            name: "passed"
            if name == "x86"
            else "not run: no ARM engine here; the same repaired model passed on x86"
            for name in bundle.targets
        },
        "samples": report.samples,
        "outputs": [
            {"name": o.name, "cosine": o.cosine, "max_probability_diff": o.max_probability_diff}
            for o in report.outputs
        ],
        "warnings": list(report.warnings),
    }
