"""The layers that static int8 leaves in float by itself.

Depthwise layers are cheaper in float. Of the others, a network's first ones and those that put out
the small difference of large numbers often make most of what all layers together lose, and have one
or two of a hundred multiply-adds. So those that lose most for their multiply-adds stay in float as
well, within a budget so small that neither time nor size notices.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lite_opt.judge.metric import Metric
from lite_opt.judge.numbers import noise_of
from lite_opt.judge.sensitivity import FloatLayers, float_share, shares_of
from lite_opt.judge.variants import Variants
from lite_opt.model.program import Op, Program
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.operators import INT8
from py_runner.tensors import Sample
from py_runner.watch import QUIET, Watch

__all__ = ["SPARED", "cheap_layers", "cheaper_in_float", "spared_layers"]

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
    """Which layers to keep in float: those that are cheaper so; and those that help the first
    output most for their multiply-adds, of at most SPARED percent of these and of the weights. None
    where there is none.

    `samples` are those of the calibration: few are looked at, and nothing is judged by them.
    Raises DataError where the float model answers NaN or Inf.
    """
    every, cheap = [layer.layer for layer in quantized.layers], cheap_layers(quantized)
    count = max(1, min(_SAMPLES, _PASSES * len(samples) // (len(every) - len(cheap))))
    with Variants(quantized, samples[:count]) as variants:
        reference, shares = variants.reference(), shares_of(variants)
        weights = sum(layer.parameters for layer in quantized.layers)
        sizes = {layer.layer: layer.parameters / weights for layer in quantized.layers}
        small = [
            name
            for name in sizes
            if name not in cheap and max(shares[name], sizes[name]) <= SPARED / 100
        ]

        def sqnr_db(layers: Collection[str]) -> float:
            return _PLAIN.report(reference, variants.run(layers)).outputs[0].sqnr_db

        alone = {}
        for done, name in enumerate(small, start=1):
            alone[name] = noise_of(sqnr_db(set(every) - {name}))
            watch.step("looking for layers to spare", done, len(small))
        least = _NOTICED * noise_of(sqnr_db(cheap))
        left, room, kept = SPARED / 100, SPARED / 100, list(cheap)
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


def cheap_layers(quantized: Quantized) -> list[str]:
    """The layers that are cheaper in float; none where all are: int8 was asked for."""
    ops = quantized.program.producers()
    every = [layer.layer for layer in quantized.layers]
    cheap = [layer for layer in every if cheaper_in_float(quantized.program, ops[layer])]
    return cheap if len(cheap) < len(every) else []


def cheaper_in_float(program: Program, op: Op) -> bool:
    """Whether a layer takes fewer ARM instructions in float than in int8: a depthwise one of 3x3 or
    5x5, as benchmarks/depthwise.py counts them.

    It multiplies each value a few times only, and an int8 kernel has to widen it before and to
    scale, round and narrow the sum behind. And for some paddings, strides and widths Paddle Lite
    has kernels in float only (lite/kernels/arm/conv_compute.cc, conv_depthwise.cc)."""
    if op.type not in INT8 or not op.type.endswith("conv2d"):
        return False
    filter_shape = program.params[op.inputs["Filter"][0]].shape
    depthwise = int(op.get("groups", 1)) == filter_shape[0] > 1 and filter_shape[1] == 1
    plain = list(op.get("dilations", [1, 1])) == [1, 1]
    return depthwise and plain and filter_shape[2:] in ((3, 3), (5, 5))
