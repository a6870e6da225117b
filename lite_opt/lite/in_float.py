"""What a file of fewer bits still computes, or stores, in float."""

from __future__ import annotations

from py_runner.formats.bundle import InFloat
from py_runner.formats.nb import NbFile

__all__ = ["in_float"]

# Products of two tensors: the optimizer's names for them.
_PRODUCTS = ("matmul", "matmul_v2", "bmm", "fused_attention")
# What multiplies by stored weights, or looks them up.
_WEIGHTED = (
    *("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose", "conv3d"),
    *("sparse_conv2d", "deformable_conv", "sequence_conv", "var_conv_2d", "match_matrix_tensor"),
    *("fc", "mul", "rnn", "lstm", "gru", "gru_unit", "lookup_table", "lookup_table_v2"),
)
_FEWER_BITS = ("int8", "int8-weights", "int16-weights")


def in_float(nb: NbFile, precision: str) -> dict[str, InFloat]:
    """By operator: how many layers static int8 computes in float, or the other recipes of fewer
    bits leave the weights of in float, and the bytes of those weights. Nothing for fp32 and fp16.

    It is read from the file that was made: what the optimizer can do is nobody's promise.
    """
    found: dict[str, InFloat] = {}
    if precision not in _FEWER_BITS:
        return found
    sizes = {p.name: p.bytes for p in nb.params if p.dtype == "float32" and len(p.shape) > 1}
    for op in nb.ops:
        weights = {name for names in op.inputs.values() for name in names if name in sizes}
        if op.type in _PRODUCTS and not weights:
            of_interest = precision == "int8" and op.precision != "int8"
        else:
            of_interest = bool(weights) and op.type in (*_WEIGHTED, *_PRODUCTS)
        if of_interest:
            before = found.get(op.type, InFloat(0, 0))
            size = sum(sizes[name] for name in weights)
            found[op.type] = InFloat(before.layers + 1, before.bytes + size)
    return found
