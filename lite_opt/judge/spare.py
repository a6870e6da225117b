"""The few small layers that static int8 leaves in float by itself.

A network's first depthwise layers often make most of what all layers together lose, and have one
or two of a hundred multiply-adds: their inputs have the 7 bits that a ReLU leaves of 8, and what
they put out is the small difference of large numbers. So the layers that lose most for their
multiply-adds stay in float, within a budget so small that neither time nor size notices.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lite_opt.judge.metric import Metric
from lite_opt.judge.numbers import noise_of
from lite_opt.judge.sensitivity import FloatLayers, float_share, shares_of
from lite_opt.judge.variants import Variants
from lite_opt.model.padding import padding
from lite_opt.model.program import Op, Program
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.operators import INT8
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["SPARED", "faster_in_float", "spared_layers"]

# Percent of the multiply-adds, and of the weights.
SPARED = 3.0
# A layer that alone makes a smaller part of the noise than this gains nothing that is noticed.
_NOTICED = 0.02
# How many samples, at most; and of fewer, as many as take no longer than calibration does, which
# feeds each sample twice.
_SAMPLES = 8
_PASSES = 2

_PLAIN = Metric()


def spared_layers(
    quantized: Quantized,
    samples: Sequence[Sample],
    *,
    watch: Watch = QUIET,
) -> FloatLayers | None:
    """Which layers to keep in float: those that are faster so; and those that help the first output
    most for their multiply-adds, of at most SPARED percent of these and of the weights. None where
    there is none.

    `samples` are those of the calibration: few are looked at, and nothing is judged by them.
    Raises DataError where the float model answers NaN or Inf.
    """
    count = max(1, min(_SAMPLES, _PASSES * len(samples) // len(quantized.layers)))
    with Variants(quantized, samples[:count]) as variants:
        reference, shares = variants.reference(), shares_of(variants)
        every = {layer.layer for layer in quantized.layers}
        weights = sum(layer.parameters for layer in quantized.layers)
        sizes = {layer.layer: layer.parameters / weights for layer in quantized.layers}
        ops = quantized.program.producers()
        slow = [name for name in sizes if faster_in_float(quantized.program, ops[name])]
        small = [
            name
            for name in sizes
            if name not in slow and max(shares[name], sizes[name]) <= SPARED / 100
        ]

        def sqnr_db(layers: Collection[str]) -> float:
            return _PLAIN.report(reference, variants.run(layers)).outputs[0].sqnr_db

        alone = {}
        for done, name in enumerate(small, start=1):
            alone[name] = noise_of(sqnr_db(every - {name}))
            watch.step("looking for layers to spare", done, len(small))
        least = _NOTICED * noise_of(sqnr_db(slow))
        left, room, kept = SPARED / 100, SPARED / 100, list(slow)
        for name in sorted(small, key=lambda name: -alone[name] / max(shares[name], 1e-9)):
            if shares[name] <= left and sizes[name] <= room and alone[name] >= least:
                left, room = left - shares[name], room - sizes[name]
                kept.append(name)
        if not kept:
            return None
        return FloatLayers(
            layers=tuple(kept),
            share=float_share(quantized, shares, kept),
            drop=None,
            drop_int8=None,
            sqnr_db=sqnr_db(kept),
            sqnr_db_int8=sqnr_db(()),
            measure="",
            samples=count,
        )


def faster_in_float(program: Program, op: Op) -> bool:
    """Whether Paddle Lite has a kernel for ARM in float for a layer, and none of the kind in int8:
    depthwise ones of 3x3 or 5x5 whose paddings differ."""
    if op.type not in INT8 or not op.type.endswith("conv2d"):
        return False
    filter_shape = program.params[op.inputs["Filter"][0]].shape
    kernel, groups = filter_shape[2:], int(op.get("groups", 1))
    depthwise = groups == filter_shape[0] > 1 and filter_shape[1] == 1
    alike = kernel in ((3, 3), (5, 5)) and op.get("strides") in ([1, 1], [2, 2])
    if not depthwise or not alike or op.get("dilations", [1, 1]) != [1, 1]:
        return False
    pads = padding(op, program.var(op.inputs["Input"][0]).shape[2:], kernel)
    return pads is not None and len(set(pads)) > 1
