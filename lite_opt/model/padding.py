"""What convolutions and poolings put around the two last dimensions of their input."""

from __future__ import annotations

from collections.abc import Sequence

from lite_opt.model.program import Op

__all__ = ["Pads", "padding"]

Pads = tuple[int, int, int, int]  # top, bottom, left, right


def padding(op: Op, sides: Sequence[int], kernel: Sequence[int]) -> Pads | None:
    """How an operator pads two dimensions; None where that depends on a dynamic one."""
    given = op.get("paddings", [0, 0])
    algorithm = op.get("padding_algorithm", "EXPLICIT")
    if algorithm == "VALID":
        return (0, 0, 0, 0)
    if algorithm == "SAME":
        if min(sides) < 0:
            return None
        # lite/operators/conv_op.cc, UpdatePaddingAndDilation.
        total = [
            max((-(-side // stride) - 1) * stride + size - side, 0)
            for side, stride, size in zip(sides, op.get("strides"), kernel)
        ]
        return (total[0] // 2, -(-total[0] // 2), total[1] // 2, -(-total[1] // 2))
    if len(given) == 2:
        return (given[0], given[0], given[1], given[1])
    return (given[0], given[1], given[2], given[3])
