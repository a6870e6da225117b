"""`paddle-edge convert`: a model becomes a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.conversion.convert import convert
from lite_opt.lite.kernels import RELEASES
from lite_opt.passes.repair import OPTIONAL
from lite_opt.recipes import recipe as find_recipe
from lite_opt.views import conversion

__all__ = ["command"]


class _Release(click.ParamType):  # type: ignore[type-arg]
    """2.12 and v2.12 alike."""

    name = "release"

    def convert(self, value: str, param: object, ctx: object) -> str:
        found = value if value.startswith("v") else f"v{value}"
        return RELEASES[-1] if RELEASES[-1].startswith(f"{found}-") else found


@click.command("convert", cls=opt.Command)
@click.argument("model", type=opt.Reads())
@click.option("-o", "--out", type=opt.Writes(), required=True, help="The bundle to make.")
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
    help="arm, x86 and onnx, comma separated. Of fp16 and int8, x86 gets an fp32 twin, and so does "
    "onnx of any other recipe than fp32.",
)
@opt.PARAMS
@opt.IMAGE
@opt.LABELS
@opt.TASK
@click.option(
    "--calibration",
    type=opt.Reads(),
    help="Data that int8 is calibrated with, and that weights of int8-weights can be rounded for: "
    "images, a list file, a folder, .npy.",
)
@opt.CALIBRATION
@click.option(
    "--max-drop",
    type=float,
    help="Keep the fewest multiply-adds in float such that int8 loses at most so many points of "
    "what the task is measured by (top-1, mAP, mIoU ...; without labels: of agreement), on a part "
    "of the calibration data that is held out.",
)
@click.option(
    "--max-float",
    type=float,
    help="Keep at most this percentage of the multiply-adds in float, where it helps most "
    "(default: a few small layers that lose most; 0: none).",
)
@click.option(
    "--float-layer",
    "float_layers",
    multiple=True,
    help="Keep this layer in float. Repeatable; `sensitivity` names them.",
)
@click.option(
    "--save-quantized",
    type=opt.Writes(),
    help="Write the quantized Paddle model, or the one that rounds as fp16 does, to this folder: "
    "the server engine runs it.",
)
@click.option(
    "--samples",
    type=opt.Reads(),
    help="Data to check with, in the same forms; where 16 or more are left, int8-weights rounds "
    "weights for those. Default: what calibration left, else random tensors.",
)
@opt.TRUTH
@click.option(
    "--check-samples",
    type=opt.COUNT,
    default=4,
    show_default=True,
    help="How many the bundle keeps.",
)
@opt.input_shape("Fix an input's dimensions. Repeatable.")
@opt.check_shape(
    "Shape of the random tensors where dimensions are dynamic. Repeat it for several shapes."
)
@opt.no_passes(OPTIONAL)
@click.option(
    "--lite",
    default=RELEASES[-1],
    show_default=True,
    type=_Release(),
    help="The release of Paddle Lite on the device: what needs a later one is refused.",
)
@click.option("--explain", is_flag=True, help="Show what each repair and pass did to the graph.")
@click.option("--check/--no-check", default=True, help="Compare with the server before success.")
@click.option(
    "--device",
    help="Where the file for arm is judged: ssh://... or adb://..., see `paddle-edge device`, or "
    "an emulated board. Default: this machine or a board, where one is set up.",
)
@opt.LIMITS
@opt.TASK_LIMITS
@opt.FORCE
@opt.JSON
@opt.DEBUG
def command(
    model: str,
    out: str,
    recipe: str,
    target: str,
    calibrating: dict[str, Any],
    max_drop: float | None,
    max_float: float | None,
    float_layers: tuple[str, ...],
    explain: bool,
    task_limits: Sequence[tuple[str, float]],
    as_json: bool,
    **options: Any,
) -> bool:
    """Make a bundle for ARM of a Paddle inference model, and check it against the server.

    MODEL is a folder or file that Paddle saved: inference.json or .pdmodel with .pdiparams, or a
    folder with __model__. An inference.yml (infer_cfg.yml, deploy.yaml) beside it gives
    preprocessing, labels and task.

    Every result is compared with the server before there is a bundle: by the x86 engine, and
    what that cannot compute rightly (int8, fp16) by its simulation on the server. ONNX Runtime
    judges the ONNX file, which is made from the repaired model, or else from MODEL as it is.

    Exits 1 where the converted model is wrong (no bundle is left; command lines that pass are told
    where a recipe misses its limits), or where the x86 engine, which
    stands in for the device, fails on a model that is right on the server (the bundle then holds
    arm alone, unjudged).

    \b
    Examples:
      paddle-edge convert inference/ -o cat.bundle
      paddle-edge convert cls.pdmodel -o cls.bundle --image ppocr-cls --labels names.txt
      paddle-edge convert det/ -o det.bundle --image ppocr-det --task text-detection
      paddle-edge convert inference/ -o cat8.bundle --recipe int8 --calibration photos/
      paddle-edge convert inference/ -o cat8.bundle --recipe int8 --calibration val.txt \\
        --max-drop 0.5
      paddle-edge convert inference/ -o cat.bundle --target arm,x86,onnx
      paddle-edge convert inference/ -o cat.bundle --device ssh://pi@raspberrypi
      paddle-edge convert inference/ -o cat.bundle --explain --no-passes fold_affine
    """
    budgets = {"max_drop": max_drop, "max_float": max_float, "float_layers": float_layers}
    chosen = find_recipe(recipe, **calibrating, **budgets)
    targets = [name.strip() for name in target.split(",")]
    with watching(as_json) as watch:
        done = convert(
            model,
            out,
            recipe=chosen,
            target=targets,
            task_limits=dict(task_limits),
            watch=watch,
            **options,
        )
    random = options["samples"] is None and options["calibration"] is None
    commands = (
        [opt.again(w.options, w.without) for w in done.ways_out.ways] if done.ways_out else []
    )
    view = conversion.view(done, out, random=random, explain=explain, commands=commands)
    tell(conversion.document(done, commands), view, as_json=as_json)
    return bool(done)
