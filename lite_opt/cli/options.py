"""Options that several commands have, and how the values of options are written.

An option that a command passes on as it is has the name of the library's argument.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Callable

import click

from lite_opt.cli.output import forget_reader
from lite_opt.history.place import file_of
from py_runner.data.image import PRESETS
from py_runner.data.mentions import with_mentioned
from py_runner.data.task_spec import OPTIONS
from py_runner.devices import FORMS, board_words
from py_runner.files.folder import check_kept
from py_runner.files.url import Url, is_url, place, shown

__all__ = [
    "CALIBRATION",
    "COUNT",
    "DEBUG",
    "DEVICE",
    "DEVICES",
    "ENGINE",
    "ENGINES",
    "FORCE",
    "HISTORY",
    "IMAGE",
    "JSON",
    "LABELS",
    "LIMITS",
    "NAMED_NUMBER",
    "NUMBERS",
    "ON",
    "PARAMS",
    "PERCENT",
    "SHARD",
    "TASK",
    "TASK_LIMITS",
    "TRUTH",
    "Command",
    "HistoryPath",
    "MayRead",
    "Reads",
    "StageModel",
    "Writes",
    "again",
    "check_shape",
    "input_shape",
    "no_passes",
]

_ARGUMENTS = "lite_opt.arguments"  # in a context's `meta`: the words that a command was given

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


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


class _Shard(click.ParamType):  # type: ignore[type-arg]
    """`3/16`: the third of 16 parts."""

    name = "K/N"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        with suppress(ValueError):
            index, of = map(int, str(value).split("/"))
            if 1 <= index <= of:
                return index, of
        self.fail(f"'{value}' is no part such as 3/16: the third of 16", param, ctx)


class _On(click.ParamType):  # type: ignore[type-arg]
    """`local[4]`, `local`, `ray`, or `ray://HEAD:PORT`."""

    name = "local[N]|ray[://HEAD:PORT]"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        text = str(value)
        if re.fullmatch(r"local(\[[1-9][0-9]{0,2}\])?|ray(://[^\s/:]+:[0-9]{1,5})?", text):
            return text
        self.fail(
            f"'{text}' is neither local[N], N engines on this machine, nor ray or "
            "ray://HEAD:PORT, a cluster",
            param,
            ctx,
        )


class _NamedNumber(click.ParamType):  # type: ignore[type-arg]
    """`boxes=0.95`."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        with suppress(ValueError):
            return name.strip(), float(number)
        self.fail(f"'{value}' is not a name and a number such as boxes=0.95", param, ctx)


class _Percent(click.ParamType):  # type: ignore[type-arg]
    """`10%`, or `10`."""

    name = "PERCENT"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        with suppress(ValueError):
            number = float(str(value).strip().removesuffix("%"))
            if math.isfinite(number) and number >= 0:
                return number
        self.fail(f"'{value}' is no percentage such as 10%", param, ctx)


class StageModel(click.ParamType):  # type: ignore[type-arg]
    """`detection=det/`: a stage of a pipeline, and a model that the command reads."""

    name = "STAGE=MODEL"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        stage, equals, path = str(value).partition("=")
        if not equals or not stage.strip() or not path:
            self.fail(f"'{value}' is no stage and model such as detection=det/", param, ctx)
        return stage.strip(), path


class _Place(click.Path):
    """A path. A file:// URL is the path that it names; another one is a Url where `urls` are taken,
    else refused: nothing takes a name for a path that is none."""

    def __init__(self, *, urls: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.urls = urls

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not is_url(value):
            return value if isinstance(value, Url) else super().convert(value, param, ctx)
        if not self.urls and not value.lower().startswith("file:"):
            self.fail(f"'{shown(value)}' is a URL, and a path here is what this takes", param, ctx)
        found = place(value)
        return found if isinstance(found, Url) else super().convert(str(found), param, ctx)


class Reads(_Place):
    """A file or folder that the command reads."""


class MayRead(click.types.StringParamType):
    """A text that may name a file which the command reads."""


class Writes(_Place):
    """A file or folder that the command makes, or replaces."""


class HistoryPath(click.Path):
    """A history: a file that the command reads and adds to, or the folder that it is in."""


class Command(click.Command):
    """A command that is not called where what it writes would take the place of what it reads.

    Which that is, the types of its parameters say; tests/test_cli.py sees that each has a type.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        values = [(param.type, ctx.params.get(param.name or "")) for param in self.params]
        written = [value for type_, value in values if isinstance(type_, Writes) and value]
        here = [value for value in written if not isinstance(value, Url)]
        if len(here) < len(written) or any(map(os.path.exists, here)):
            read = [
                path
                for type_, value in values
                if isinstance(type_, (Reads, MayRead))
                for path in (value if isinstance(value, tuple) else (value,))
            ]
            read += [
                path
                for type_, value in values
                if isinstance(type_, StageModel)
                for _, path in value or ()
            ]
            kept = with_mentioned(read)
            kept += [file_of(v) for type_, v in values if isinstance(type_, HistoryPath) and v]
            for value in written:
                check_kept(value, kept)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would exit with 1
            forget_reader()
            ctx.exit(0)


def again(options: Sequence[str], without: Collection[str]) -> str:
    """The command line that is running, with these options added and those left out, and without
    credentials."""
    return shlex.join(["paddle-edge", *map(shown, again_words(without)), *options])


def again_words(without: Collection[str]) -> list[str]:
    """The words of the command that is running, without those options."""
    ctx = click.get_current_context()
    flags = {
        name
        for param in ctx.command.params
        if isinstance(param, click.Option) and param.is_flag
        for name in (*param.opts, *param.secondary_opts)
    }
    kept: list[str] = []
    words = iter(ctx.meta[_ARGUMENTS])
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in without:
            kept.append(word)
        elif not equals and name not in flags:
            next(words, None)
    return [ctx.command.name or "", *kept]


_Shapes = Sequence[tuple[str, tuple[int, ...]]]


def check_shape(help: str) -> _Decorator:
    """--check-shape, as the shapes that are given for each input, in order."""

    def by_input(_: Any, __: Any, pairs: _Shapes) -> dict[str, list[tuple[int, ...]]]:
        shapes: dict[str, list[tuple[int, ...]]] = {}
        for name, shape in pairs:
            shapes.setdefault(name, []).append(shape)
        return shapes

    return click.option("--check-shape", type=_Shape(), multiple=True, callback=by_input, help=help)


def input_shape(help: str) -> _Decorator:
    """--input-shape, as one shape for each input, the last one given."""

    def by_input(_: Any, __: Any, pairs: _Shapes) -> dict[str, tuple[int, ...]]:
        return dict(pairs)

    return click.option("--input-shape", type=_Shape(), multiple=True, callback=by_input, help=help)


def no_passes(names: Sequence[str]) -> _Decorator:
    """--no-passes, as names of passes; `names` are those that "all" means."""

    def split(_: Any, __: Any, text: str) -> list[str]:
        found = [name.strip() for name in text.split(",") if name.strip()]
        return list(names) if found == ["all"] else found

    return click.option(
        "--no-passes",
        "without",
        default="",
        callback=split,
        help="Leave out these passes of the graph optimizer, comma separated, or all: to find the "
        "one at fault.",
    )


def _several(*options: _Decorator) -> _Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _as_one(name: str, keys: Mapping[str, str], **options: _Decorator) -> _Decorator:
    """Options by the name of their value: the command gets all of them as a dict, under `name`;
    `keys` are the keys that differ from those names."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def gathered(**given: Any) -> Any:
            together = {keys.get(value, value): given.pop(value) for value in options}
            return function(**given, **{name: together})

        return _several(*options.values())(gathered)

    return decorate


COUNT = click.IntRange(min=1)
NAMED_NUMBER = _NamedNumber()
NUMBERS = _Numbers()
SHARD = _Shard()
ON = _On()
PERCENT = _Percent()
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
)
# It is main() that looks for it.
DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
FORCE = click.option("--force", is_flag=True, help="Overwrite what exists.")
HISTORY = click.option(
    "--history",
    type=HistoryPath(),
    help="Add what was compared to this history: a file, or the folder that it is in; see "
    "`paddle-edge history`.",
)
PARAMS = click.option(
    "--params",
    type=Reads(),
    help="Parameter file or folder of MODEL, where its name does not tell.",
)
IMAGE = click.option(
    "--image",
    type=MayRead(),
    metavar="SPEC",
    help="Preprocessing: an inference.yml, infer_cfg.yml or deploy.yaml, a preset "
    f"({', '.join(PRESETS)}), or KEY=VALUE,... such as resize=short:256,crop=224. "
    "Default: such a file beside MODEL.",
)
LABELS = click.option(
    "--labels", type=Reads(), help="Class names, or the characters of a dictionary, one a line."
)
TASK = click.option(
    "--task",
    metavar="NAME[,KEY=VALUE...]",
    help=f"What the model does: {', '.join(OPTIONS)}; with options such as threshold=0.5. "
    "Default: what the inference.yml, infer_cfg.yml or deploy.yaml beside MODEL says.",
)
TRUTH = click.option(
    "--truth",
    type=Reads(),
    help="Labels of whole samples: boxes (COCO's .json, a folder of VOC's .xml), COCO's keypoints, "
    "PaddleSeg's masks, PaddleOCR's lines or polygons, or a list NAME CLASS.",
)
TASK_LIMITS = click.option(
    "--task-limit",
    "task_limits",
    type=NAMED_NUMBER,
    multiple=True,
    metavar="NAME=VALUE",
    help="A limit of the task, such as boxes=0.95 or map_drop=1; several options for several.",
)
_ENGINES = (
    "lite (the x86 engine of the paddlelite wheel; default for bundles), native (liblite_run: "
    "boards, and x86), onnx (ONNX Runtime, on target onnx) or paddle (Paddle Inference; default "
    "for models)."
)
ENGINE = click.option("--engine", help=_ENGINES)
ENGINES = click.option("--engine", help=f"{_ENGINES} Several, comma separated, are compared.")
CALIBRATION = _as_one(
    "calibrating",
    {"count": "samples"},
    count=click.option(
        "--calibration-samples",
        "count",
        type=COUNT,
        help="Calibrate with this many, drawn by the seed.  [default: 128]",
    ),
    algorithm=click.option(
        "--algorithm",
        help="Thresholds of activations: hist (default), avg, mse, emd, abs_max, or KL (slow).",
    ),
    per_channel=click.option(
        "--per-tensor",
        "per_channel",
        is_flag=True,
        callback=lambda _, __, per_tensor: False if per_tensor else None,
        help="One scale a weight, not one a channel.",
    ),
    equalise=click.option(
        "--equalise/--no-equalise",
        default=None,
        help="Bring channels to like magnitudes before calibration.  [default: equalise]",
    ),
    centre=click.option(
        "--centre/--no-centre",
        default=None,
        help="Move what is never negative to where all steps are used.  [default: centre]",
    ),
    align=click.option(
        "--align/--no-align",
        default=None,
        help="Move and stretch the channels of inputs, by an operator.  [default: align]",
    ),
    correct_bias=click.option(
        "--correct-bias/--no-correct-bias",
        default=None,
        help="Take the mean error from each channel by its bias.  [default: correct-bias]",
    ),
    effort=click.option(
        "--effort",
        help="How long to look for what loses least: fast, good (default), or best.",
    ),
    seed=click.option("--seed", type=int, help="Which samples calibrate.  [default: 0]"),
)
LIMITS = _as_one(
    "limits",
    {},
    cosine=click.option("--cosine", type=float, help="Least cosine of the centred logits."),
    max_abs_diff=click.option(
        "--max-abs-diff", type=float, help="Largest difference of probabilities."
    ),
    top1_drop=click.option(
        "--top1-drop",
        "--max-top1-drop",
        type=float,
        help="Largest loss of top-1 accuracy, in points.",
    ),
)
_DEVICES = (
    "cpu; for engine paddle also cpu+onednn, gpu or gpu:N; for engine native also qemu-aarch64 or "
    "qemu-arm, an emulated board, or one by name: "
    + "; ".join(text for text in board_words() if ":" in text)
    + f"; or {' or '.join(FORMS)}, see `paddle-edge device`."
)
DEVICE = click.option("--device", default="cpu", show_default=True, help=_DEVICES)


def _several_devices(what: str) -> _Decorator:
    """`what` several are for."""
    return click.option(
        "--device",
        "devices",
        multiple=True,
        default=["cpu"],
        help=f"{_DEVICES} {what}  [default: cpu]",
    )


DEVICES = _several_devices("Several emulated boards, each with a --device, are compared.")
FLEET = _several_devices("Several, each with a --device, work side by side.")
COMMON = click.option(
    "--common",
    is_flag=True,
    help="Judge the samples that both have, also where the candidate lacks some.",
)


def on_server(*, several: bool = False) -> _Decorator:
    """What engine paddle has on a GPU; `several` precisions are compared."""
    more = ", or both, comma separated" if several else ""
    return _several(
        click.option("--tensorrt", is_flag=True, help="Use TensorRT (engine paddle on a GPU)."),
        click.option(
            "--precision",
            default="fp32",
            show_default=True,
            help=f"fp32 or fp16 (engine paddle on a GPU){more}.",
        ),
    )
