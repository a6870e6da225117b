"""Operators of quantization that only observe: they note a scale and hand their input on."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import place, program_rule

__all__ = ["drop_constant_observers"]

# Operators that give a parameter another form: what they give is a constant, too.
_SHAPERS = (
    "reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range", "transpose2", "cast",
)  # fmt: skip
_OBSERVERS = ("quantize_linear", "dequantize_linear")


@program_rule(
    because="quant_dequant_op_fuser.cc aborts (is_weight) where one reads a parameter, and a bias "
    "behind one is not fused"
)
def drop_constant_observers(program: Program) -> Iterator[tuple[str, str]]:
    """quantize_linear and dequantize_linear with only_observer on a bias, reshaped or not, as
    PostTrainingQuantization(onnx_format=True) puts them -> nothing: the scale of a constant serves
    nobody, and its numbers pass through unchanged."""
    constants = set(program.params)
    instead: dict[str, str] = {}
    ops: list[Op] = []
    for op in program.ops:
        op.rename_inputs(instead)
        x = op.input("X") or ""
        if op.type in _OBSERVERS and op.get("only_observer", False) and x in constants:
            instead[op.outputs["Y"][0]] = x
            yield place(op), f"'{x}' is a constant"
            continue
        if op.type in _SHAPERS and x in constants:
            constants.update(op.outputs["Out"])
        ops.append(op)
    program.blocks[0].ops = ops
