"""A chain of operators that takes the place of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lite_opt.model.program import Op, Var
from lite_opt.passes.rule import Site

__all__ = ["Chain"]


@dataclass
class Chain:
    """The operators that will stand in place of one, in order.

    Each call adds an operator and gives the name of its output, which is of the shape and the
    element type of the output that is replaced unless it is said otherwise; the last one's
    becomes that output.

    Example, x - tanh(x):
        >>> chain = Chain(op, site)                                          # doctest: +SKIP
        >>> chain("elementwise_sub", x, chain("tanh", x)); chain.end()       # doctest: +SKIP
    """

    op: Op
    site: Site
    slot: str = "Out"
    ops: list[Op] = field(default_factory=list)

    @property
    def out(self) -> Var:
        """The variable that the operator writes."""
        return self.site.program.var(self.op.outputs[self.slot][0])

    def var(self, slot: str = "X") -> Var:
        """The variable that the operator reads in a slot."""
        return self.site.program.var(self.op.inputs[slot][0])

    def __call__(
        self,
        type_: str,
        x: str,
        y: str | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
        slots: tuple[str, str, str] = ("X", "Y", "Out"),
        **attrs: Any,
    ) -> str:
        out = self.out
        name = self.site.new_var(
            f"{out.name}.{type_}", dtype or out.dtype, out.shape if shape is None else shape
        )
        made = Op(type_, {slots[0]: [x]}, {slots[2]: [name]})
        if y is not None:
            made.inputs[slots[1]] = [y]
        if type_.startswith("elementwise_"):
            made.set("axis", -1)
        for key, value in attrs.items():
            made.set(key, value)
        self.ops.append(made)
        return name

    def scale(self, x: str, by: float, add: float = 0.0, **more: Any) -> str:
        """x * by + add."""
        return self("scale", x, scale=by, bias=add, bias_after_scale=True, **more)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """x in another shape, of which one dimension may be -1."""
        name = self("reshape2", x, shape=shape)
        self.ops[-1].set("shape", list(shape))
        return name

    def transpose(self, x: str, order: list[int]) -> str:
        """x with its axes in another order."""
        shape = self.site.program.var(x).shape
        return self("transpose2", x, shape=tuple(shape[i] for i in order), axis=order)

    def slice(self, x: str, axis: int, start: int, end: int) -> str:
        """x from start up to end along an axis."""
        shape = list(self.site.program.var(x).shape)
        shape[axis] = end - start
        name = self(
            "slice", x, shape=tuple(shape), slots=("Input", "", "Out"), axes=[axis],
            starts=[start], ends=[end], infer_flags=[1],
        )  # fmt: skip
        self.ops[-1].set("decrease_axis", [], "INTS")
        return name

    def concat(self, parts: list[str], axis: int) -> str:
        """Tensors one behind the other along an axis."""
        shapes = [self.site.program.var(part).shape for part in parts]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        name = self("concat", parts[0], shape=tuple(shape), axis=axis)
        self.ops[-1].inputs["X"] = list(parts)
        return name

    def end(self) -> None:
        """Put the chain in the operator's place."""
        last = self.ops[-1]
        (slot,) = last.outputs
        last.outputs[slot] = [self.out.name]
        self.site.replace(*self.ops)
