"""The command `paddle-edge`: parse, call one library function, print.

Results go to standard output, progress and errors to standard error. With --json standard output
holds one JSON object and nothing else, also for errors: {"error": "...", "exit_code": 3}.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NoReturn

import click

from py_runner.errors import PaddleEdgeError, UsageError
from py_runner.watch import Watch

if TYPE_CHECKING:
    from lite_opt.sdk.sdk import Sdk
    from py_runner.formats.bundle import Bundle
    from py_runner.tensors import Model, Sample

__all__ = ["main"]

_DONE, _FAILED, _USAGE, _FAULT, _INTERRUPTED, _TERMINATED = 0, 1, 2, 3, 130, 143


def main() -> None:
    """The entry point of the command; exits with the codes that DESIGN promises."""
    arguments = sys.argv[1:] or ["--help"]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    # `timeout` and `docker stop` send it: leave like any other end, so that nothing is left over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        _check_names(arguments)
        with suppress(click.exceptions.Exit):
            code = _paddle_edge.main(arguments, "paddle-edge", standalone_mode=False)
            sys.exit(code or _DONE)
        sys.exit(_DONE)
    except click.ClickException as error:
        text = " ".join(error.format_message().split())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f" (see {error.ctx.command_path} --help)"
        _fail(text, _USAGE, as_json=as_json)
    except click.Abort:
        _fail("interrupted", _INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        # The reader of our output is gone, as after `| head`: not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_DONE)
    except PaddleEdgeError as error:
        _fail(str(error), error.exit_code, as_json=as_json, debug=debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", _FAULT, as_json=as_json, debug=debug)
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        text += "; run again with --debug and report it"
        _fail(text, _FAULT, as_json=as_json, debug=debug)


def _check_names(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:  # Paddle and JSON take UTF-8 only
            raise UsageError(f"{argument!a}: this name is not UTF-8: rename it") from None


def _fail(text: str, code: int, *, as_json: bool, debug: bool = False) -> NoReturn:
    """End with an error in one line; with `debug` the traceback of the current one comes first."""
    if debug:
        traceback.print_exc()
    click.echo(f"paddle-edge: {text}", err=True)
    if as_json:
        _print_json({"error": text, "exit_code": code})
    sys.exit(code)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(_plain(document), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no NaN or Inf: null says that there is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _say(text: str) -> None:
    click.echo(text, err=True)


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _show(*renderables: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # A pipe or a file has no width: do not fold cells at 80 columns.
        console = Console(highlight=False, width=200)
    for renderable in renderables:
        console.print(renderable)


def _bar_display(*columns: Any) -> Any:
    """rich's bars on standard error, shown only where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress

    console = Console(stderr=True)
    everything = ("{task.description}", BarColumn(), *columns)
    return Progress(*everything, console=console, disable=not console.is_terminal)


@contextmanager
def _watching(as_json: bool = False, *, in_bytes: bool = False) -> Iterator[Watch]:
    """Lines and warnings on standard error, where that is not for a program, and progress bars that
    appear when their work begins, where it is a terminal."""
    from rich.progress import (
        DownloadColumn,
        MofNCompleteColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: tuple[Any, ...] = (
        (DownloadColumn(), TransferSpeedColumn())
        if in_bytes
        else (MofNCompleteColumn(), TimeRemainingColumn())
    )
    tasks: dict[str, Any] = {}
    with _bar_display(*columns) as progress:

        def step(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        yield Watch(step=step) if as_json else Watch(say=_say, step=step, warn=_warn)


def _new_file(name: str | None, *, force: bool) -> Path | None:
    """The file to write, which must not be there without `force`: asked before long work."""
    path = Path(name) if name else None
    if path and path.exists() and not force:
        raise UsageError(f"{path}: exists already; choose another name or pass --force")
    return path


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _shapes(pairs: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, list[tuple[int, ...]]]:
    """The shapes that --check-shape gives for each input, in order."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in pairs:
        shapes.setdefault(name, []).append(shape)
    return shapes


class _Shape(click.ParamType):  # type: ignore[type-arg]
    """`x=1,3,224,224`; `?` or -1 is a dimension that stays dynamic."""

    name = "NAME=SHAPE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, tuple[int, ...]]:
        name, _, dims = str(value).rpartition("=")
        with suppress(ValueError):
            shape = tuple(-1 if d.strip() == "?" else int(d) for d in dims.split(","))
            if name and all(d == -1 or d > 0 for d in shape):
                return name, shape
        self.fail(f"'{value}' is not of the form x=1,3,224,224", param, ctx)


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """`1,2,4`."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        with suppress(ValueError):
            numbers = tuple(int(text) for text in str(value).split(","))
            if all(n > 0 for n in numbers):
                return numbers
        self.fail(f"'{value}' is not a list of positive numbers such as 1,2,4", param, ctx)


_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _options(*options: _Decorator) -> _Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_COUNT = click.IntRange(min=1)
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
)
_DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
_FORCE = click.option("--force", is_flag=True, help="Overwrite what exists.")
_PARAMS = click.option(
    "--params",
    type=click.Path(),
    help="Parameter file or folder of MODEL, where its name does not tell.",
)
_IMAGE = click.option(
    "--image",
    metavar="SPEC",
    help="Preprocessing: an inference.yml, a preset (paddleclas, darknet53, ppocr-cls, "
    "efficientnet-lite), or KEY=VALUE,... such as resize=short:256,crop=224. "
    "Default: the inference.yml beside MODEL.",
)
_LABELS = click.option("--labels", type=click.Path(), help="Class names, one a line.")
_ENGINE = click.option(
    "--engine",
    help="lite (the x86 engine of the paddlelite wheel; default for bundles), native (liblite_run: "
    "boards, and x86) or paddle (Paddle Inference; default for models).",
)
_THREADS = click.option("--threads", type=int, default=1, show_default=True, help="CPU threads.")
_CALIBRATION = _options(
    click.option(
        "--calibration-samples",
        "count",
        type=_COUNT,
        help="Calibrate with this many, drawn by the seed.  [default: 128]",
    ),
    click.option(
        "--algorithm",
        help="Thresholds of activations: hist (default), avg, mse, emd, abs_max, or KL (slow).",
    ),
    click.option("--per-tensor", is_flag=True, help="One scale a weight, not one a channel."),
    click.option("--seed", type=int, help="Which samples calibrate.  [default: 0]"),
)
_ON_SERVER = _options(
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="cpu; for engine paddle also cpu+onednn, gpu or gpu:N; for engine native also "
        "qemu-aarch64 or qemu-arm, an emulated board.",
    ),
    click.option("--tensorrt", is_flag=True, help="Use TensorRT (engine paddle on a GPU)."),
    click.option(
        "--precision",
        default="fp32",
        show_default=True,
        help="fp32 or fp16 (engine paddle on a GPU).",
    ),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="paddle-edge", prog_name="paddle-edge")
def _paddle_edge() -> None:
    """Takes any Paddle model to ARM devices and proves that it still gives the right answers.

    \b
    Examples:
      paddle-edge demo                                  see the whole path on real models
      paddle-edge convert inference/ -o cat.bundle      a model folder becomes a bundle
      paddle-edge run cat.bundle --data photos -o edge  what the edge engine answers
      paddle-edge run inference/ --data photos -o server
      paddle-edge compare server edge                   do they agree?

    Exit codes: 0 done, 1 a check or comparison failed, 2 usage, 3 the model, a file or an engine
    is at fault.
    """


@_paddle_edge.command(short_help="Make a bundle of a model, and check it against the server.")
@click.argument("model", type=click.Path())
@click.option("-o", "--out", type=click.Path(), required=True, help="The bundle to make.")
@click.option(
    "--recipe",
    default="fp32",
    show_default=True,
    help="The precision: fp32, fp16 (ARMv8.2), int16-weights, int8-weights (smaller, computed in "
    "float), or int8 (static: smaller and faster; needs --calibration).",
)
@click.option(
    "--target",
    default="arm,x86",
    show_default=True,
    help="Targets, comma separated. Of fp16 and int8, x86 gets an fp32 twin.",
)
@_PARAMS
@_IMAGE
@_LABELS
@click.option(
    "--calibration",
    type=click.Path(),
    help="Data that int8 is calibrated with: images, a list file, a folder, .npy.",
)
@_CALIBRATION
@click.option(
    "--max-drop",
    type=float,
    help="Keep the fewest layers in float such that int8 loses at most so many points of top-1 "
    "(without labels: of agreement), on a part of the calibration data that is held out.",
)
@click.option(
    "--float-layer",
    "float_layers",
    multiple=True,
    help="Keep this layer in float. Repeatable; `sensitivity` names them.",
)
@click.option(
    "--save-quantized",
    type=click.Path(),
    help="Write the quantized Paddle model to this folder: the server engine runs it.",
)
@click.option(
    "--samples",
    type=click.Path(),
    help="Data to check with, in the same forms. Default: what calibration left, else random "
    "tensors.",
)
@click.option(
    "--check-samples", type=_COUNT, default=4, show_default=True, help="How many the bundle keeps."
)
@click.option(
    "--input-shape", type=_Shape(), multiple=True, help="Fix an input's dimensions. Repeatable."
)
@click.option(
    "--check-shape",
    type=_Shape(),
    multiple=True,
    help="Shape of the random tensors where dimensions are dynamic. Repeat it for several shapes.",
)
@click.option("--check/--no-check", default=True, help="Compare with the server before success.")
@_FORCE
@_JSON
@_DEBUG
def convert(
    model: str,
    out: str,
    recipe: str,
    target: str,
    params: str | None,
    image: str | None,
    labels: str | None,
    calibration: str | None,
    count: int | None,
    algorithm: str | None,
    per_tensor: bool,
    seed: int | None,
    max_drop: float | None,
    float_layers: tuple[str, ...],
    save_quantized: str | None,
    samples: str | None,
    check_samples: int,
    input_shape: Sequence[tuple[str, tuple[int, ...]]],
    check_shape: Sequence[tuple[str, tuple[int, ...]]],
    check: bool,
    force: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Make a bundle for ARM of a Paddle inference model, and check it against the server.

    MODEL is a folder or file that Paddle saved: inference.json or .pdmodel with .pdiparams, or a
    folder with __model__. An inference.yml beside it gives preprocessing and labels.

    Every result is compared with the server before there is a bundle: by the x86 engine, and
    what that cannot compute rightly (int8, fp16) by its simulation on the server.

    Exits 1 where the converted model is wrong (no bundle is left), or where the x86 engine, which
    stands in for the device, fails on a model that is right on the server (the bundle then holds
    arm alone, unjudged).

    \b
    Examples:
      paddle-edge convert inference/ -o cat.bundle
      paddle-edge convert cls.pdmodel -o cls.bundle --image ppocr-cls --labels names.txt
      paddle-edge convert det/ -o det.bundle --check-shape x=1,3,320,320
      paddle-edge convert inference/ -o cat8.bundle --recipe int8 --calibration photos/
      paddle-edge convert inference/ -o cat8.bundle --recipe int8 --calibration val.txt \\
        --max-drop 0.5
    """
    from lite_opt.conversion.convert import convert as make
    from lite_opt.recipes import recipe as find_recipe

    chosen = find_recipe(
        recipe,
        samples=count,
        algorithm=algorithm,
        per_channel=False if per_tensor else None,
        seed=seed,
        max_drop=max_drop,
        float_layers=float_layers,
    )
    with _watching(as_json) as watch:
        done = make(
            model,
            out,
            recipe=chosen,
            target=[t.strip() for t in target.split(",")],
            params=params,
            image=image,
            labels=labels,
            calibration=calibration,
            samples=samples,
            check_samples=check_samples,
            input_shape=dict(input_shape),
            check_shape=_shapes(check_shape),
            check=check,
            save_quantized=save_quantized,
            force=force,
            watch=watch,
        )
    code = _DONE if done else _FAILED
    if as_json:
        _print_json(
            {
                "bundle": str(done.bundle.path) if done.bundle else None,
                "changes": [str(change) for change in done.changes],
                "check": done.bundle.check if done.bundle else None,
                "report": done.report.to_json() if done.report is not None else None,
                "float_layers": asdict(done.float_layers) if done.float_layers else None,
                "targets": {n: asdict(t) for n, t in done.bundle.targets.items()}
                if done.bundle
                else None,
            }
        )
        return code
    from lite_opt.views import report

    rules: dict[str, list[str]] = {}
    for change in done.changes:
        rules.setdefault(change.rule, []).append(f"{change.where}: {change.what}")
    if rules:
        rows = [(rule, str(len(edits)), edits[0]) for rule, edits in rules.items()]
        _show(report.table("Repairs", ("rule", "changes", "the first"), rows, left=3))
    if done.report is not None:
        header, lines = report.rows_of(done.report)["Differences"]
        judge = report.about(done.report.candidate)
        _show(report.table(f"Self-check: server against {judge}", header, lines))
        if done.report.top1_agreement is not None:
            share = report.percent(done.report.top1_agreement)
            _show(f"top-1 agreement {share} of {done.report.samples} samples")
    if done.float_layers is not None:
        _show(*report.float_layers(done.float_layers))
    if done.report is not None:
        for warning in done.report.warnings:
            _say(f"warning: {warning}")
    if done.bundle is None:
        assert done.report is not None
        hint = ""
        if samples is None and calibration is None:
            hint = " (judged on random tensors: give data like those in use with --samples)"
        _say(f"paddle-edge: {report.verdict(done.report)}; no bundle was written{hint}")
        return code
    files = [
        (*report.target_row(name, t), done.bundle.check.get("targets", {}).get(name, "not checked"))
        for name, t in done.bundle.targets.items()
    ]
    header = (*report.TARGET_HEADER, "self-check")
    _show(report.table(f"Bundle {out}", header, files))
    if not done:
        reason = done.bundle.check["reason"]
        _say(f"paddle-edge: unjudged: {reason}; compare on a device before you trust it")
    return code


@_paddle_edge.command(short_help="Which layers lose most in int8.")
@click.argument("model", type=click.Path())
@click.option(
    "--calibration", type=click.Path(), required=True, help="Data to calibrate and to measure with."
)
@_CALIBRATION
@click.option(
    "--samples",
    type=_COUNT,
    default=32,
    show_default=True,
    help="How many to measure with, held out from calibration where there are enough.",
)
@click.option("--plot", type=click.Path(), help="Draw the losses into this SVG file.")
@_PARAMS
@_IMAGE
@_LABELS
@_FORCE
@_JSON
@_DEBUG
def sensitivity(
    model: str,
    calibration: str,
    count: int | None,
    algorithm: str | None,
    per_tensor: bool,
    seed: int | None,
    samples: int,
    plot: str | None,
    params: str | None,
    image: str | None,
    labels: str | None,
    force: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Say which layers lose most when they are computed in int8.

    Each layer alone is quantized, the others stay in float; what that does to the model's first
    output is measured on the server engine. Layers come worst first: give their names to
    `convert --float-layer`, or let `convert --max-drop` choose.

    \b
    Examples:
      paddle-edge sensitivity inference/ --calibration photos/
      paddle-edge sensitivity inference/ --calibration val.txt --plot losses.svg
    """
    from lite_opt.conversion.convert import layer_losses
    from lite_opt.recipes import recipe as find_recipe
    from lite_opt.views import report

    page = _new_file(plot, force=force)
    chosen = find_recipe(
        "int8",
        samples=count,
        algorithm=algorithm,
        per_channel=False if per_tensor else None,
        seed=seed,
    )
    with _watching(as_json) as watch:
        losses = layer_losses(
            model,
            recipe=chosen,
            calibration=calibration,
            samples=samples,
            params=params,
            image=image,
            labels=labels,
            watch=watch,
        )
    if page:
        _write(page, report.losses_svg(losses, title=model))
    if as_json:
        _print_json({"model": model, "layers": [asdict(loss) for loss in losses]})
        return _DONE
    title = f"Sensitivity of {model}: each layer alone in int8, worst first"
    _show(report.table(title, report.LOSSES_HEADER, report.losses_rows(losses), left=3))
    return _DONE


@_paddle_edge.command(short_help="The first layer at which edge and server diverge.")
@click.argument("model", type=click.Path())
@click.argument("bundle", type=click.Path())
@click.option(
    "--quantized",
    type=click.Path(),
    help="Of a bundle of recipe int8: what convert --save-quantized wrote.",
)
@click.option("--samples", type=click.Path(), help="Data to run. Default: the bundle's samples.")
@click.option("--limit", type=_COUNT, default=8, show_default=True, help="At most so many samples.")
@click.option(
    "--taps", type=_COUNT, default=8, show_default=True, help="Variables to look at in a round."
)
@click.option("--all", "every", is_flag=True, help="Look at every layer in one round.")
@_PARAMS
@_JSON
@_DEBUG
def layers(
    model: str,
    bundle: str,
    quantized: str | None,
    samples: str | None,
    limit: int,
    taps: int,
    every: bool,
    params: str | None,
    as_json: bool,
    debug: bool,
) -> int:
    """Name the first layer at which the edge says something else than the server.

    MODEL is what BUNDLE was made from. Intermediate variables of both are compared, few at a time,
    because looking at one keeps the optimizer from fusing there. Exits 1 where a layer diverges.

    \b
    Examples:
      paddle-edge layers inference/ cat.bundle
      paddle-edge layers inference/ cat8.bundle --quantized quantized/ --samples photos/
    """
    from lite_opt.judge.layers import bundle_layers
    from lite_opt.views import report
    from py_runner.data.dataset import dataset
    from py_runner.formats.bundle import Bundle

    data = None
    if samples is not None:
        opened = Bundle.open(bundle)
        data = dataset(
            samples, inputs=opened.inputs, image=opened.image, labels=opened.labels, limit=limit
        )
    with _watching(as_json) as watch:
        found = bundle_layers(
            model,
            bundle,
            params=params,
            quantized=quantized,
            samples=data
            if data is not None
            else Bundle.open(bundle).read_samples()[:limit] or None,
            taps=None if every else taps,
            watch=watch,
        )
    code = _DONE if found else _FAILED
    if as_json:
        _print_json(found.to_json())
        return code
    title = f"Layers of {bundle} against the server, in the order of execution"
    _show(report.table(title, report.TAPS_HEADER, report.tap_rows(found.taps), left=2))
    if found.divergence is not None:
        title = f"{found.divergence.op} '{found.divergence.name}'"
        rows = report.divergence_rows(found.divergence)
        _show(report.table(title, report.DIVERGENCE_HEADER, rows, left=2))
    for warning in found.warnings:
        _say(f"warning: {warning}")
    _show(found.verdict)
    return code


@_paddle_edge.command(short_help="What a model, .nb file, bundle or run is.")
@click.argument("path", type=click.Path())
@click.option("--target", help="arm or x86: which operators of a model have kernels there.")
@_PARAMS
@_JSON
@_DEBUG
def inspect(path: str, target: str | None, params: str | None, as_json: bool, debug: bool) -> int:
    """Say what a model, a .nb file, a bundle or a run is, without running it.

    \b
    Examples:
      paddle-edge inspect inference/
      paddle-edge inspect inference/ --target arm
      paddle-edge inspect cat.bundle/model.arm.nb
    """
    from lite_opt.views.describe import describe

    document = describe(path, params=params, target=target)
    if as_json:
        _print_json(document)
        return _DONE
    from lite_opt.views import report

    facts = report.facts(document)
    _show(report.table(f"{document['kind']} {path}", ("", "value"), facts, left=2))
    return _DONE


@_paddle_edge.command(short_help="What an engine answers to samples, and how fast.")
@click.argument("model", metavar="BUNDLE|MODEL", type=click.Path())
@click.option("-o", "--out", type=click.Path(), required=True, help="The run to write.")
@click.option(
    "--data",
    type=click.Path(),
    help="Images, a list file `path label`, one folder a class, .npy or .npz. "
    "Default: the bundle's samples, or random tensors for a model.",
)
@_ENGINE
@_ON_SERVER
@_THREADS
@click.option("--warmup", type=int, default=1, show_default=True, help="Unmeasured inferences.")
@click.option("--repeat", type=int, default=1, show_default=True, help="Inferences a sample.")
@click.option("--limit", type=_COUNT, help="Only the first samples.")
@click.option("--skip-bad", is_flag=True, help="Skip images that cannot be read, and name them.")
@click.option("--time-limit", "time_limit_s", type=float, help="Seconds that a sample may take.")
@click.option("--top", type=_COUNT, default=1, show_default=True, help="Classes to show a sample.")
@click.option(
    "--unsafe-int8",
    is_flag=True,
    help="Run int8 kernels on engine lite all the same: they compute wrong numbers on x86.",
)
@_PARAMS
@_IMAGE
@_LABELS
@click.option("--check-shape", type=_Shape(), multiple=True, help="Shape of random tensors.")
@_FORCE
@_JSON
@_DEBUG
def run(
    model: str,
    out: str,
    data: str | None,
    engine: str | None,
    device: str,
    tensorrt: bool,
    precision: str,
    threads: int,
    warmup: int,
    repeat: int,
    limit: int | None,
    skip_bad: bool,
    time_limit_s: float | None,
    top: int,
    unsafe_int8: bool,
    params: str | None,
    image: str | None,
    labels: str | None,
    check_shape: Sequence[tuple[str, tuple[int, ...]]],
    force: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Run a bundle on the edge engine, or a source model on the server engine.

    \b
    Examples:
      paddle-edge run cat.bundle --data photos/ -o edge.run
      paddle-edge run inference/ --data photos/ -o server.run --threads 2
      paddle-edge run inference/ --data photos/ -o gpu.run --device gpu --tensorrt --precision fp16
    """
    from py_runner.files.folder import check_free
    from py_runner.inference import run as measure

    check_free(out, force=force, keep=(model, params, labels, data))
    warnings: list[str] = []
    with _opened(model, engine, device, params, image, labels) as opened:
        samples = opened.samples(data, check_shape, limit=limit, skip_bad=skip_bad)
        with _watching(as_json) as watch:
            done = measure(
                opened.model,
                samples,
                engine=opened.engine,
                device=device,
                threads=threads,
                warmup=warmup,
                repeat=repeat,
                tensorrt=tensorrt,
                precision=precision,
                time_limit_s=time_limit_s,
                unsafe_int8=unsafe_int8,
                watch=replace(watch, warn=warnings.append),
            )
    done.save(out, force=force)
    from lite_opt.views import report

    skipped = list(getattr(samples, "skipped", ()))
    answers = report.predictions(done, opened.labels, top=top)
    if as_json:
        _print_json(
            {
                "run": out,
                **done.summary(),
                "skipped": [{"id": id_, "reason": reason} for id_, reason in skipped],
                "warnings": warnings,
                "predictions": answers,
            }
        )
        return _DONE
    for text in warnings:
        _say(f"warning: {text}")
    for id_, reason in skipped:
        _say(f"skipped {id_}: {reason}")
    if answers:
        title = f"Answers (first {min(len(answers), 10)} of {len(answers)})"
        _show(report.table(title, report.ANSWER_HEADER, report.answer_rows(answers[:10]), left=3))
    rows = report.latency_rows({f"{done.engine} {done.engine_version}": done.summary()})
    _show(report.table(f"Run {out}: {len(done.samples)} samples", report.LATENCY_HEADER, rows))
    return _DONE


@_paddle_edge.command(short_help="Judge one run against another.")
@click.argument("reference", metavar="REFERENCE_RUN", type=click.Path())
@click.argument("candidate", metavar="CANDIDATE_RUN", type=click.Path())
@click.option("--cosine", type=float, help="Least cosine of the centred logits.")
@click.option("--max-abs-diff", type=float, help="Largest difference of probabilities.")
@click.option("--top1-drop", type=float, help="Largest loss of top-1 accuracy, in points.")
@click.option("--html", type=click.Path(), help="Write the report as a page, too.")
@_FORCE
@_JSON
@_DEBUG
def compare(
    reference: str,
    candidate: str,
    cosine: float | None,
    max_abs_diff: float | None,
    top1_drop: float | None,
    html: str | None,
    force: bool,
    as_json: bool,
    debug: bool,
) -> int:
    """Judge one run against another: does the edge say what the server says?

    Exits 1 where a limit is broken. The default limits follow from the candidate's precision.

    \b
    Examples:
      paddle-edge compare server.run edge.run
      paddle-edge compare server.run edge.run --top1-drop 0.5 --html report.html
      paddle-edge compare cat.bundle/reference edge.run
    """
    from lite_opt.judge.compare import compare as judge
    from lite_opt.judge.limits import limits_for
    from lite_opt.views import report
    from py_runner.formats.run import Run

    page = _new_file(html, force=force)
    edge = Run.open(candidate)
    limits = limits_for(
        edge.precision, cosine=cosine, max_abs_diff=max_abs_diff, top1_drop=top1_drop
    )
    outcome = judge(Run.open(reference), edge, limits=limits)
    if page:
        _write(page, report.html_page(outcome))
    code = _DONE if outcome else _FAILED
    if as_json:
        _print_json(outcome.to_json())
        return code
    _show(*(report.table(title, *rows) for title, rows in report.rows_of(outcome).items()))
    if outcome.disagreeing:
        names = ", ".join(outcome.disagreeing[:20])
        more = len(outcome.disagreeing) - 20
        _show(f"disagree: {names}" + (f" and {more} more" if more > 0 else ""))
    for warning in outcome.warnings:
        _say(f"warning: {warning}")
    _show(report.verdict(outcome))
    return code


@_paddle_edge.command(short_help="Measure latency, for one or more thread counts.")
@click.argument("model", metavar="BUNDLE|MODEL", type=click.Path())
@_ENGINE
@_ON_SERVER
@click.option(
    "--threads", type=_Numbers(), default="1", show_default=True, help="Thread counts to compare."
)
@click.option("--warmup", type=int, default=5, show_default=True, help="Unmeasured inferences.")
@click.option("--repeat", type=int, default=50, show_default=True, help="Measured inferences.")
@_PARAMS
@click.option("--check-shape", type=_Shape(), multiple=True, help="Shape of the random tensor.")
@_JSON
@_DEBUG
def bench(
    model: str,
    engine: str | None,
    device: str,
    tensorrt: bool,
    precision: str,
    threads: tuple[int, ...],
    warmup: int,
    repeat: int,
    params: str | None,
    check_shape: Sequence[tuple[str, tuple[int, ...]]],
    as_json: bool,
    debug: bool,
) -> int:
    """Measure the latency of one sample, for one or more thread counts.

    On an emulated board (--device qemu-aarch64, qemu-arm) latencies are the emulator's and say
    nothing: executed ARM instructions are counted instead, on one thread. They are a model of the
    cost, the same number each time, and not a latency.

    \b
    Examples:
      paddle-edge bench cat.bundle --threads 1,2,4
      paddle-edge bench inference/ --engine paddle --repeat 200
      paddle-edge bench cat.bundle --engine native --device qemu-aarch64
    """
    from py_runner.devices import BOARDS
    from py_runner.inference import run as measure

    if engine == "native" and device in BOARDS:
        with _opened(model, engine, device, params, None, None) as opened:
            sample = opened.samples(None, check_shape, limit=1, skip_bad=False)[0]
            count = BOARDS[device].count_instructions(opened.model, sample)
        if as_json:
            _print_json({"model": model, "device": device, "arm_instructions": count, "runs": []})
            return _DONE
        _show(
            f"{count / 1e6:.2f} M ARM instructions per inference of {model} ({device}): "
            "a model of the cost, not a latency"
        )
        return _DONE
    results = []
    warnings: dict[str, None] = {}  # as a set that keeps their order
    with _opened(model, engine, device, params, None, None) as opened:
        samples = opened.samples(None, check_shape, limit=1, skip_bad=False)
        with _watching(as_json) as watch:
            for done, count in enumerate(threads, start=1):
                results.append(
                    measure(
                        opened.model,
                        samples,
                        engine=opened.engine,
                        device=device,
                        threads=count,
                        warmup=warmup,
                        repeat=repeat,
                        tensorrt=tensorrt,
                        precision=precision,
                        watch=Watch(warn=lambda text: warnings.update({text: None})),
                    ).summary()
                )
                watch.step("threads", done, len(threads))
    if as_json:
        _print_json({"model": model, "runs": results, "warnings": list(warnings)})
        return _DONE
    for text in warnings:
        _say(f"warning: {text}")
    from lite_opt.views import report

    rows = report.latency_rows({f"{r['engine']}, {r['threads']} threads": r for r in results})
    _show(report.table(f"Latency of {model}", report.LATENCY_HEADER, rows))
    return _DONE


@_paddle_edge.command(short_help="The whole path on real models and images.")
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    default="paddle-edge-demo",
    show_default=True,
    help="Where bundles, runs and reports are left.",
)
@click.option("--lines", type=int, default=200, show_default=True, help="Text lines to render.")
@_FORCE
@_JSON
@_DEBUG
def demo(out: str, lines: int, force: bool, as_json: bool, debug: bool) -> int:
    """Show the whole path on real models: convert, run on edge and server, compare.

    PP-OCR's text direction classifier on rendered text lines, then EfficientNet-Lite0, trained
    on ImageNet, on photographs.
    """
    from lite_opt.demo.demo import demo as show

    with _watching(as_json) as watch:
        done = show(out, lines=lines, force=force, watch=watch)
    code = _DONE if done else _FAILED
    if as_json:
        _print_json(done.to_json())
        return code
    from lite_opt.views import report

    for title, (header, rows) in report.rows_of(done.text_lines).items():
        _show(report.table(f"Text direction: {title.lower()}", header, rows))
    _show(report.verdict(done.text_lines), "")
    _show(
        report.table(
            "Photographs: the five best classes", *report.side_by_side(done.photos), left=3
        )
    )
    _show(report.verdict(done.photo_report), "")
    _show(*(f"{what}: {path}" for what, path in done.paths.items()))
    return code


@_paddle_edge.group(short_help="Fetch the Paddle Lite SDKs for boards and phones.")
def sdk() -> None:
    """Fetch the Paddle Lite SDK that the native runner on a board or phone links.

    \b
    Examples:
      paddle-edge sdk list --version v2.13-rc           what there is, and what is here already
      paddle-edge sdk get armlinux-armv8                for a 64-bit Raspberry Pi
      paddle-edge sdk add inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz
    """


@_paddle_edge.group(short_help="Bring bundles to the Android demo app.")
def android() -> None:
    """Bring bundles to the Android app, android_demo; see docs/android.md.

    \b
    Example:
      paddle-edge android prepare cat.bundle            before `gradle -p android_demo installDebug`
    """


@android.command("prepare")
@click.argument("bundle", type=click.Path())
@click.option(
    "--app",
    type=click.Path(),
    default="android_demo",
    show_default=True,
    help="Folder of the app's Gradle project.",
)
@click.option("--name", help="Name in the app. Default: the bundle's, without .bundle.")
@_FORCE
@_JSON
@_DEBUG
def android_prepare(
    bundle: str, app: str, name: str | None, force: bool, as_json: bool, debug: bool
) -> int:
    """Put a bundle into the app's assets, without the models of other CPUs.

    \b
    Examples:
      paddle-edge android prepare cat.bundle
      paddle-edge android prepare cat.bundle --app ~/paddle-edge/android_demo --force
    """
    from lite_opt.android import prepare

    prepared = prepare(bundle, app, name=name, force=force)
    if as_json:
        _print_json(prepared.to_json())
        return _DONE
    for warning in prepared.warnings:
        _say(f"warning: {warning}")
    click.echo(str(prepared.path))
    return _DONE


_SDK_URL = click.option(
    "--url",
    help="A mirror: archives are at URL/VERSION/ARCHIVE. Default: PADDLE_EDGE_SDK_URL, or GitHub.",
)


@sdk.command("list")
@click.argument("target", required=False)
@click.option("--version", help="One release, such as v2.13-rc. Default: all.")
@_SDK_URL
@_JSON
@_DEBUG
def sdk_list(
    target: str | None, version: str | None, url: str | None, as_json: bool, debug: bool
) -> int:
    """List the official archives, for one TARGET or all, and the SDKs in the cache.

    TARGET is armlinux-armv8, armlinux-armv7hf, android-armv8 or android-armv7.

    \b
    Examples:
      paddle-edge sdk list armlinux-armv8
      paddle-edge sdk list --version v2.12 --json
    """
    from lite_opt.sdk import sdk as sdks
    from lite_opt.views import report

    listed = sdks.archives(version=version, target=target)
    here = [
        one
        for one in sdks.cached()
        if version in (None, one.version) and target in (None, one.target)
    ]
    paths = {(one.version, one.archive): str(one.path) for one in here}
    base = sdks.server(url)
    if as_json:
        _print_json(
            {
                "archives": [
                    {
                        "version": archive.version,
                        "target": archive.target,
                        "archive": archive.name,
                        "url": f"{base}/{archive.version}/{archive.name}",
                        "cached": paths.get((archive.version, archive.name)),
                    }
                    for archive in listed
                ],
                "cached": [one.to_json() for one in here],
                "cache": str(sdks.cache_folder()),
            }
        )
        return _DONE
    if listed:
        rows = [
            (a.version, a.target, a.name, "yes" if (a.version, a.name) in paths else "")
            for a in listed
        ]
        header = ("version", "target", "archive", "cached")
        _show(report.table(f"Archives at {base}", header, rows, left=4))
    else:
        _say("no archive of that kind is known; 'paddle-edge sdk get' may find one all the same")
    if here:
        places = [(one.version or "?", one.target, str(one.path)) for one in here]
        header_of_places = ("version", "target", "PADDLE_LITE_DIR")
        _show(report.table(f"In {sdks.cache_folder()}", header_of_places, places, left=3))
    return _DONE


@sdk.command("get")
@click.argument("target")
@click.option("--version", default="v2.13-rc", show_default=True, help="The release.")
@click.option(
    "--extra/--no-extra",
    default=True,
    show_default=True,
    help="With all operators: detection and OCR need them.",
)
@click.option("--fp16", is_flag=True, help="With fp16 kernels, for cores of ARMv8.2 and later.")
@click.option(
    "--stl",
    type=click.Choice(["c++_shared", "c++_static"]),
    default="c++_shared",
    show_default=True,
    help="The C++ library, on Android.",
)
@click.option("--to", type=click.Path(), help="Also copy the SDK into this new folder.")
@_SDK_URL
@_JSON
@_DEBUG
def sdk_get(
    target: str,
    version: str,
    extra: bool,
    fp16: bool,
    stl: str,
    to: str | None,
    url: str | None,
    as_json: bool,
    debug: bool,
) -> int:
    """Download the SDK for TARGET, once, and print what PADDLE_LITE_DIR has to be.

    TARGET is armlinux-armv8, armlinux-armv7hf, android-armv8 or android-armv7. An interrupted
    download goes on where it stopped. The first archive of a name is pinned by its sha256, and
    another one of that name is refused.

    \b
    Examples:
      export PADDLE_LITE_DIR=$(paddle-edge sdk get armlinux-armv8)
      paddle-edge sdk get android-armv8 --fp16 --to app/paddle_lite
      paddle-edge sdk get armlinux-armv7hf --version v2.12 --url https://mirror.example/lite
    """
    from lite_opt.sdk import sdk as sdks

    with _watching(as_json, in_bytes=True) as watch:
        found = sdks.get(
            target,
            version=version,
            extra=extra,
            fp16=fp16,
            stl=stl,
            to=to,
            url=url,
            watch=watch,
        )
    return _sdk_found(found, as_json)


@sdk.command("add")
@click.argument("file", type=click.Path())
@click.option("--version", help="The release it belongs to, where the library does not say it.")
@_JSON
@_DEBUG
def sdk_add(file: str, version: str | None, as_json: bool, debug: bool) -> int:
    """Take an archive that is here already: check it, unpack it, print its PADDLE_LITE_DIR.

    \b
    Examples:
      paddle-edge sdk add inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz
      paddle-edge sdk add my_build.tar.gz --version v2.13-rc --json
    """
    from lite_opt.sdk import sdk as sdks

    with _watching(as_json) as watch:
        found = sdks.add(file, version=version, watch=watch)
    return _sdk_found(found, as_json)


def _sdk_found(found: Sdk, as_json: bool) -> int:
    """Standard output holds the path alone, for $(...) in a shell."""
    if as_json:
        _print_json(found.to_json())
        return _DONE
    _say(f"Paddle Lite {found.version or 'of an unknown version'} for {found.target}")
    for warning in found.warnings:
        _say(f"warning: {warning}")
    click.echo(str(found.path))
    return _DONE


class _Opened:
    """A bundle or a source model, ready to run on an engine."""

    def __init__(
        self,
        model: Model,
        engine: str,
        image: Any,
        labels: Sequence[str] | None,
        bundle: Bundle | None,
    ) -> None:
        self.model, self.engine, self.labels = model, engine, labels
        self._image, self._bundle = image, bundle

    def samples(
        self,
        data: str | None,
        check_shape: Sequence[tuple[str, tuple[int, ...]]],
        *,
        limit: int | None,
        skip_bad: bool,
    ) -> Any:
        """The samples of a data set, of the bundle, or random ones: a sized iterable."""
        from lite_opt.conversion.convert import random_samples
        from py_runner.data.dataset import dataset

        if data is not None:
            return dataset(
                data,
                inputs=self.model.inputs,
                image=self._image,
                labels=self.labels,
                skip_bad=skip_bad,
                limit=limit,
            )
        own: list[Sample] = self._bundle.read_samples() if self._bundle else []
        shapes = _shapes(check_shape)
        if not own or shapes:
            own = random_samples(self.model.inputs, image=self._image, shapes=shapes)
        return own[:limit]


@contextmanager
def _opened(
    path: str,
    engine: str | None,
    device: str,
    params: str | None,
    image: str | None,
    labels: str | None,
) -> Iterator[_Opened]:
    """What BUNDLE|MODEL means, with the engine that fits it by default."""
    from py_runner.formats.bundle import Bundle

    if Path(path, "bundle.json").exists():
        bundle = Bundle.open(path)
        if engine == "paddle":
            raise UsageError(
                f"{path}: engine paddle runs the source model that a bundle was made from "
                f"({bundle.source.get('file')}): name that one"
            )
        from py_runner.data.image import image_spec
        from py_runner.data.labels import check_labels, read_labels
        from py_runner.inference import bundle_target

        names = read_labels(labels) if labels else bundle.labels
        check_labels(names, bundle.outputs)
        spec = image_spec(image) if image else bundle.image
        engine = engine or "lite"
        target = bundle_target(engine, device)
        yield _Opened(bundle.model(target), engine, spec, names, bundle)
        return
    from lite_opt.conversion.convert import Source
    from lite_opt.model.load import load
    from py_runner.files.folder import temporary_folder

    source = Source.of(load(path, params=params), image=image, labels=labels)
    with temporary_folder() as temporary:
        model = source.model(temporary)
        yield _Opened(model, engine or "paddle", source.image, source.labels, None)


if __name__ == "__main__":
    main()
