"""`paddle-edge export`: trained weights become an inference model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.exporting.export import export
from lite_opt.views import exported
from py_runner.tensors import DTYPE_NUMBERS, TensorSpec

__all__ = ["command"]


class _Input(click.ParamType):  # type: ignore[type-arg]
    """`x=1,3,224,224`, or `ids:int64=1,128`."""

    name = "NAME[:DTYPE]=SHAPE"

    def convert(self, value: Any, param: Any, ctx: Any) -> TensorSpec:
        kind, _, dims = str(value).rpartition("=")
        name, _, dtype = kind.partition(":")
        with suppress(ValueError):
            shape = tuple(-1 if d.strip() == "?" else int(d) for d in dims.split(","))
            if name and dtype in ("", *DTYPE_NUMBERS) and all(d == -1 or d > 0 for d in shape):
                return TensorSpec(name, dtype or "float32", shape)
        self.fail(f"'{value}' is not of the form x=1,3,224,224 or ids:int64=1,128", param, ctx)


class _Argument(click.ParamType):  # type: ignore[type-arg]
    """`class_num=10`: a value is JSON, or else a text."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        name, equals, text = str(value).partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"'{value}' is no argument such as class_num=10", param, ctx)
        with suppress(ValueError):
            return name, json.loads(text)
        return name, text


@click.command("export", cls=opt.Command)
@click.argument("network", type=opt.MayRead())
@click.option(
    "--weights",
    type=opt.Reads(),
    required=True,
    help="What training saved: .pdparams, or .npz.",
)
@click.option("-o", "--out", type=opt.Writes(), required=True, help="The folder to make.")
@click.option(
    "--input",
    "inputs",
    type=_Input(),
    multiple=True,
    help="What the network takes, in its order; ? is a dimension that stays open. Default, of "
    "PaddleClas' networks: one image, any batch. Repeatable.",
)
@click.option(
    "--arg",
    "arguments",
    type=_Argument(),
    multiple=True,
    help="An argument of the constructor, such as class_num=10. Repeatable.",
)
@click.option("--prefix", help="What names of the weights begin with besides, such as Student.")
@click.option(
    "--softmax/--no-softmax",
    default=True,
    show_default=True,
    help="Whether a network of PaddleClas ends in probabilities.",
)
@opt.IMAGE
@opt.LABELS
@opt.check_shape("Shape of the random tensors that are compared, where dimensions are open.")
@click.option(
    "--install",
    is_flag=True,
    help="Make an environment with PaddleClas (1 GB) where none is.",
)
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    network: str,
    out: str,
    inputs: Sequence[TensorSpec],
    arguments: Sequence[tuple[str, Any]],
    check_shape: Mapping[str, Sequence[tuple[int, ...]]],
    as_json: bool,
    **options: Any,
) -> bool:
    """Make an inference model of a network and its trained weights, and compare the two.

    NETWORK is an architecture of PaddleClas, a training config of it (.yaml), or module.py:Net, a
    class or function that makes a paddle.nn.Layer. Its Python code is run; weights are only read.

    Preprocessing and labels are written beside it, so that `convert` and `run` know them. Where the
    saved model answers otherwise than the network, it exits 1, and nothing is written.

    \b
    Examples:
      paddle-edge export SqueezeNet1_1 --weights SqueezeNet1_1_pretrained.pdparams -o inference/
      paddle-edge export ResNet50 --arg class_num=10 --weights best_model.pdparams \\
        --labels flowers.txt -o flowers/
      paddle-edge export ppcls/configs/ImageNet/DarkNet/DarkNet53.yaml \\
        --weights DarkNet53_pretrained.pdparams -o darknet/
      paddle-edge export net.py:Net --weights net.pdparams --input x=1,3,224,224 -o inference/
    """
    with watching(as_json) as watch:
        done = export(
            network,
            out,
            inputs=inputs,
            arguments=dict(arguments),
            check_shape=check_shape,
            watch=watch,
            **options,
        )
    tell(done.to_json(), exported.view(done), as_json=as_json)
    return bool(done)
