"""What is known of quantized operators: which layers have weights, and where."""

from __future__ import annotations

import make_model
import numpy as np
import pytest

from lite_opt.model.program import Op, Program
from lite_opt.quant.mixed import quantized_layers
from lite_opt.quant.operators import INT8, LAYERS, OPERATORS, is_quantized, steps, stored_weight


def program_of(*ops: Op) -> Program:
    """A program of these operators, with the parameter "w"; nobody runs it."""
    program = make_model.classifier()
    program.blocks[0].ops = list(ops)
    program.params = {}
    program.set_param("w", np.ones((3, 4), np.float32))
    return program


def layer(kind: str, weight: str, x: str = "x") -> Op:
    """A layer whose weights are the variable of that name."""
    slots = LAYERS[kind]
    return Op(kind, {slots.input: [x], slots.weight: [weight]}, {slots.output: ["y"]})


@pytest.mark.parametrize("kind", LAYERS)
def test_only_what_int8_kernels_compute_has_weights(kind: str) -> None:
    op = layer(kind, "w")
    program = program_of(op)
    assert stored_weight(program, op, program.producers()) == ("w" if kind in INT8 else None)
    assert not is_quantized(program) and quantized_layers(program) == ()


def test_weights_are_stored_whatever_represents_them() -> None:
    quantize = Op("fake_channel_wise_quantize_abs_max", {"X": ["w"]}, {"Out": ["w.quantized"]})
    back = Op("fake_channel_wise_dequantize_max_abs", {"X": ["w.quantized"]}, {"Out": ["w.back"]})
    activation = Op("fake_quantize_abs_max", {"X": ["x"]}, {"Out": ["x.quantized"]})
    op = layer("conv2d", "w.back", "x.quantized")
    program = program_of(quantize, back, activation, op)
    assert stored_weight(program, op, program.producers()) == "w"
    (found,) = quantized_layers(program)
    assert (found.layer, found.op, found.weight, found.parameters) == ("y", "conv2d", "w", 12)


def test_products_of_activations_have_no_weights() -> None:
    relu = Op("relu", {"X": ["w"]}, {"Out": ["computed"]})
    quantize = Op("fake_quantize_abs_max", {"X": ["x"]}, {"Out": ["x.quantized"]})
    for second in ("computed", "x", "x.quantized"):
        op = layer("mul", second)
        program = program_of(relu, quantize, op)
        assert stored_weight(program, op, program.producers()) is None
    empty = Op("mul", {"X": ["x"], "Y": []}, {"Out": ["y"]})
    assert stored_weight(program, empty, program.producers()) is None


def test_one_operator_makes_a_model_quantized() -> None:
    for kind in OPERATORS:
        assert is_quantized(program_of(Op(kind, {"X": ["x"]}, {"Out": ["y"]})))


def test_steps_of_a_quantizer() -> None:
    assert (steps(8), steps(16)) == (127, 32767)
