"""Convolutions and poolings whose window or padding a kernel for ARM takes for another.

What is wrong was found by benchmarks/kernels.py, and its cause in lite/kernels/arm.
"""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.padding import Pads, padding
from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["adaptive_by_stride", "small_depthwise"]

# conv_depthwise_3x3s2_fp32 has other code for widths up to 8 (conv3x3s2p01_depthwise_fp32.cc), and
# conv_depthwise_3x3s1_fp32 up to 5.
_NARROW = 8


@rule(
    ops=("pool2d",),
    because="lite/kernels/arm/pool_compute.cc takes an output of 3x3 for a window of 3x3, and one "
    "of the input's own size for global pooling",
)
def adaptive_by_stride(op: Op, site: Site) -> Iterator[str]:
    """Adaptive pooling gets strides that differ: nothing reads them, but the kernels for windows
    want them to be equal."""
    if not op.get("adaptive") or op.get("global_pooling") or op.get("ksize") == [1, 1]:
        return
    if op.get("strides") != [1, 2]:
        op.set("strides", [1, 2])
        yield "its strides, which nobody reads, differ"


@rule(
    ops=("conv2d", "depthwise_conv2d"),
    because="the kernels of lite/backends/arm/math/conv3x3s*p01_depthwise_fp32.cc for narrow "
    "inputs take the padding at the right and the bottom for that at the left and the top",
)
def small_depthwise(op: Op, site: Site) -> Iterator[str]:
    """A depthwise 3x3 convolution of a narrow input, padded on one side only -> a padding by two,
    which other code computes and whose last row and column no window reaches; or the input padded
    with zeros."""
    x, weight = op.inputs["Input"][0], site.program.var(op.inputs["Filter"][0]).shape
    strides = op.get("strides")
    if weight[1:] != (1, 3, 3) or weight[0] != op.get("groups", 1):
        return
    if strides not in ([1, 1], [2, 2]) or set(op.get("dilations", [1])) != {1}:
        return
    if op.get("data_format", "NCHW") not in ("NCHW", "AnyLayout"):
        return
    sides = site.program.var(x).shape[2:]
    pads = padding(op, sides, [3, 3])
    if pads is None or max(pads) > 1 or pads[0] != pads[2] or sides[1] > _NARROW:
        return
    if len(set(pads)) == 1:
        return
    if pads == (0, 1, 0, 1) and strides == [2, 2] and not any(d < 0 or d % 2 for d in sides):
        op.set("paddings", [0, 2, 0, 2])
        op.set("padding_algorithm", "EXPLICIT")
        yield "padded by [0, 2, 0, 2]"
    else:
        op.inputs["Input"] = [_padded(op, site, x, pads)]
        yield f"padded by {list(pads)} beforehand"


def _padded(op: Op, site: Site, x: str, pads: Pads) -> str:
    """Put zeros around the input of the operator at hand, which then pads nothing. Paddle
    3 has pad3d only, which `pads_by_depth` makes right for Lite."""
    var = site.program.var(x)
    n, c, high, wide = var.shape
    more = [d if d < 0 else d + a + b for d, a, b in ((high, *pads[:2]), (wide, *pads[2:]))]
    deep = site.new_var(f"{op.layer}.deep", var.dtype, (n, c, 1, high, wide))
    around = site.new_var(f"{op.layer}.around", var.dtype, (n, c, 1, more[0], more[1]))
    out = site.new_var(f"{op.layer}.padded", var.dtype, (n, c, more[0], more[1]))
    pad = Op("pad3d", {"X": [deep]}, {"Out": [around]})
    for name, value in {
        "paddings": [*pads[2:], *pads[:2], 0, 0],
        "mode": "constant",
        "value": 0.0,
        "data_format": "NCDHW",
    }.items():
        pad.set(name, value)
    op.set("paddings", [0, 0, 0, 0])
    op.set("padding_algorithm", "EXPLICIT")
    site.replace(_axis("unsqueeze2", x, deep), pad, _axis("squeeze2", around, out), op)
    return out


def _axis(type_: str, x: str, out: str) -> Op:
    op = Op(type_, {"X": [x]}, {"Out": [out]})
    op.set("axes", [2])
    return op
