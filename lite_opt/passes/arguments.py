"""Arguments that come as tensors: those that are known become attributes."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op
from lite_opt.passes.rule import Site, rule

__all__ = ["constant_arguments", "static_reshapes"]

# Operator -> (slot of a tensor or of a list of numbers, attribute that says the same). An
# attribute with a bracket is a list; slots of the same attribute are the old and the newer form.
_ARGUMENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "expand_v2": (("Shape", "shape[]"), ("expand_shapes_tensor", "shape[]")),
    "fill_constant": (
        ("ShapeTensor", "shape[]"), ("ShapeTensorList", "shape[]"),
    ),
    "reshape2": (("Shape", "shape[]"), ("ShapeTensor", "shape[]")),
    "slice": (
        ("StartsTensor", "starts[]"), ("StartsTensorList", "starts[]"),
        ("EndsTensor", "ends[]"), ("EndsTensorList", "ends[]"),
    ),
    "split": (("AxisTensor", "axis"), ("SectionsTensorList", "sections[]")),
    "strided_slice": (
        ("StartsTensor", "starts[]"), ("StartsTensorList", "starts[]"),
        ("EndsTensor", "ends[]"), ("EndsTensorList", "ends[]"),
        ("StridesTensor", "strides[]"), ("StridesTensorList", "strides[]"),
    ),
    "tile": (("RepeatTimes", "repeat_times[]"), ("repeat_times_tensor", "repeat_times[]")),
    "top_k_v2": (("K", "k"),),
}  # fmt: skip
_RESHAPES = ("reshape2", "unsqueeze2", "squeeze2", "flatten_contiguous_range")


@rule(
    ops=_ARGUMENTS,
    because="Lite would read them at every inference, and no pass of its own sees through them",
)
def constant_arguments(op: Op, site: Site) -> Iterator[str]:
    """Shapes, axes, starts and ends that are parameters -> attributes."""
    for slot, attribute in _ARGUMENTS[op.type]:
        names = op.inputs.get(slot) or []
        params = [site.program.params.get(name) for name in names]
        numbers = [int(v) for p in params if p is not None for v in p.ravel()]
        name = attribute.removesuffix("[]")
        if not names or any(p is None for p in params):
            continue
        if name == attribute and len(numbers) != 1:
            continue
        op.set(name, numbers if name != attribute else numbers[0])
        del op.inputs[slot]
        if "infer_flags" in op.attrs and not any("Tensor" in s for s in op.inputs):
            op.set("infer_flags", [1] * len(op.get("axes")))
        yield f"{name} is {op.get(name)}"


@rule(
    ops=_RESHAPES,
    because="Lite would compute the shape at every inference, and knows no two forms as one",
)
def static_reshapes(op: Op, site: Site) -> Iterator[str]:
    """reshape2, squeeze2, unsqueeze2 and flatten to a shape of which all but one dimension are
    known -> reshape2 by that shape with one -1: what computed it is then dead."""
    x, out = op.input("X"), op.output("Out")
    if x is None or out is None:
        return
    shape = _wanted(op, site, out)
    if not shape or sum(d < 0 for d in shape) > 1 or 0 in shape:
        return
    if op.type == "reshape2" and set(op.inputs) == {"X"} and op.get("shape") == shape:
        return
    if site.program.vars[x].dtype == "bool" or _is_of_a_linear_layer(op, site):
        return
    op.type, op.inputs, op.attrs = "reshape2", {"X": [x]}, {}
    op.set("shape", shape)
    yield f"reshape2 to {shape}"


def _is_of_a_linear_layer(op: Op, site: Site) -> bool:
    """Whether flatten_fc_fuser.cc makes one of a flatten and what reads it."""
    readers = site.readers(op)
    is_flat = op.type == "flatten_contiguous_range" and len(readers) == 1
    return is_flat and readers[0].type in ("mul", "matmul", "matmul_v2")


def _wanted(op: Op, site: Site, out: str) -> list[int]:
    """The shape that an operator gives, -1 where a dimension is dynamic: what the exporter knew,
    and numbers that became known since."""
    shape = list(site.program.var(out).shape)
    tensors = op.inputs.get("ShapeTensor") or []
    if len(tensors) == len(shape):
        for axis, name in enumerate(tensors):
            value = site.program.params.get(name)
            if shape[axis] < 0 and value is not None and value.size == 1:
                shape[axis] = int(value.ravel()[0])
    return shape
