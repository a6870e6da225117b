"""Ranges of activations that are chosen by what comes of them."""

from __future__ import annotations

import make_model
import numpy as np
from make_int8 import repaired

from lite_opt.judge.compare import compare
from lite_opt.judge.variants import Variants
from lite_opt.model.program import Program
from lite_opt.quant.calibrate import calibrate
from lite_opt.quant.mixed import Quantized
from lite_opt.quant.ranges import searched
from lite_opt.recipes import Calibration
from py_runner.tensors import Sample


def spiked(count: int, seed: int) -> list[Sample]:
    """Pictures with a few values that are 30 times the others."""
    generator = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        value = generator.standard_normal((1, 2, 8, 8)).astype(np.float32)
        value[0, 1, index % 8, index % 7] *= 30
        samples.append(Sample(str(index), {"x": value}))
    return samples


def two_channels(weight_of_spikes: float) -> Program:
    """A convolution whose second input channel has the spikes, and counts as it is told."""
    b = make_model.Builder(4)
    x = b.input("x", (-1, 2, 8, 8))
    weight = b.param("w", (8, 2, 3, 3))
    b.params[weight] = b.params[weight] * np.float32([1, weight_of_spikes]).reshape(1, 2, 1, 1)
    return repaired(b.program(b.conv2d(x, weight, "conv", (-1, 8, 8, 8))))


def scale_of(quantized: Quantized) -> float:
    (quantize,) = (op for op in quantized.program.ops if op.type.startswith("fake_quantize"))
    return float(quantized.program.params[quantize.inputs["InScale"][0]].item())


def sqnr(quantized: Quantized, samples: list[Sample]) -> float:
    with Variants(quantized, samples) as variants:
        return compare(variants.reference(), variants.run(())).outputs[0].sqnr_db


def test_large_values_are_cut_off_only_where_no_output_needs_them() -> None:
    seen, unseen = spiked(8, 0), spiked(8, 1)
    found = {}
    for weight in (0.01, 1.0):
        program = two_channels(weight)
        plain = Quantized.of(calibrate(program, seen, Calibration(algorithm="abs_max")), program)
        better, moved = searched(plain, seen)
        found[weight] = scale_of(better) / scale_of(plain)
        assert moved == (found[weight] != 1)
        # Only the range is another.
        for name, value in plain.program.params.items():
            same = np.array_equal(better.program.params[name], value)
            assert same or value.size == 1
        if weight < 1:
            assert sqnr(better, unseen) > sqnr(plain, unseen) + 3
    # The same numbers, of which the outputs of one network hardly know the large ones.
    assert found[0.01] < 0.5 < 0.7 < found[1.0]
