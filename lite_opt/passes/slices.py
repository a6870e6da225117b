"""Slices, whose kernel takes tens of instructions an element, and splits."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import Site, place, program_rule, rewritten, rule
from lite_opt.passes.shapes import reshape

__all__ = ["crops_to_padding", "join_splits", "slices_to_splits", "values_by_parts"]

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


@rule(
    ops=("slice",),
    because="lite/backends/host/math/slice.cc takes 60 instructions an element, and stands between "
    "a convolution and the norm that would be fused into it",
)
def crops_to_padding(op: Op, site: Site) -> Iterator[str]:
    """A convolution whose first rows and columns are cut off -> one that pads less before them."""
    made = site.producers.get(op.input("Input") or "")
    if made is None or made.type not in _CONVOLUTIONS or len(site.readers(made)) != 1:
        return
    if set(op.inputs) != {"Input"} or op.get("decrease_axis") or len(made.outputs["Output"]) != 1:
        return
    pads, strides = made.get("paddings") or [], made.get("strides")
    pads = [p for p in pads for _ in range(2)] if len(pads) == 2 else list(pads)
    if made.get("padding_algorithm", "EXPLICIT") != "EXPLICIT" or len(pads) != 4:
        return
    if made.get("data_format", "NCHW") not in ("NCHW", "AnyLayout"):
        return
    shape = site.program.var(op.inputs["Input"][0]).shape
    sides = site.program.var(made.inputs["Input"][0]).shape
    kernel = site.program.var(made.inputs["Filter"][0]).shape
    for axis, start, end in zip(op.get("axes"), op.get("starts"), op.get("ends")):
        if axis not in (2, 3) or start < 0 or min(shape[axis], sides[axis]) < 0:
            return
        if end < shape[axis]:
            return
        before, stride = 2 * (axis - 2), strides[axis - 2]
        pads[before] -= start * stride
        if pads[before] < 0:
            return
        # What is padded behind without ever being read is left out: fewer kernels know it.
        reach = (shape[axis] - start - 1) * stride
        reach += (kernel[axis] - 1) * (made.get("dilations") or [1, 1])[axis - 2] + 1
        pads[before + 1] = min(pads[before + 1], max(reach - sides[axis] - pads[before], 0))
    made.set("paddings", pads)
    out = op.outputs["Out"][0]
    made.outputs["Output"] = [out]
    site.replace()
    yield f"{place(made)} pads {pads}"


@rule(ops=("split",), because="each split copies what it takes apart")
def join_splits(op: Op, site: Site) -> Iterator[str]:
    """A split of what another split along the same axis made -> that one makes the parts."""
    (part,) = op.inputs["X"]
    outer = site.producers.get(part)
    if outer is None or outer.type != "split" or site.consumers[part] != [op]:
        return
    if set(op.inputs) != {"X"} or set(outer.inputs) != {"X"}:
        return
    if not site.changing.isdisjoint((*outer.reads, *outer.writes, *op.writes)):
        return
    axis = op.get("axis", 0)
    parts = outer.outputs["Out"]
    at = parts.index(part)
    made = [*parts[:at], *op.outputs["Out"], *parts[at + 1 :]]
    sections = [site.program.var(name).shape[axis] for name in made]
    if axis != outer.get("axis", 0) or min(sections) < 1:
        return
    outer.outputs["Out"] = made
    outer.set("num", 0)
    outer.set("sections", sections)
    site.producers.update(dict.fromkeys(op.outputs["Out"], outer))
    site.replace()
    yield f"{place(outer)} makes {len(made)} parts"


@program_rule(because="lite/backends/host/math/slice.cc takes 60 instructions an element, split 1")
def slices_to_splits(program: Program) -> Iterator[tuple[str, str]]:
    """Slices of one tensor along one axis that do not overlap -> one split, and a reshape where an
    axis goes."""
    by_source: dict[str, list[Op]] = {}
    for op in program.ops:
        if op.type == "slice":
            by_source.setdefault(op.inputs["Input"][0], []).append(op)
    instead: dict[int, list[Op]] = {}
    for source in by_source.keys() & rewritten(program):
        del by_source[source]  # each slice sees what the source is where it stands
    for source, slices in by_source.items():
        made = _split(program, source, slices)
        if made is not None:
            instead.update({id(op): [] for op in slices})
            instead[id(slices[0])] = made
            yield place(slices[0]), f"{len(slices)} slices became a split"
    program.blocks[0].ops = [new for op in program.ops for new in instead.get(id(op), [op])]


def _split(program: Program, source: str, slices: list[Op]) -> list[Op] | None:
    """The operators in the place of all slices of a tensor; None where they cannot be."""
    var = program.var(source)
    if any(set(op.inputs) != {"Input"} or len(op.get("axes")) != 1 for op in slices):
        return None
    axes = {op.get("axes")[0] for op in slices}
    axis = axes.pop()
    size = var.shape[axis]
    if axes or size <= 0 or var.dtype not in ("float32", "int32", "int64"):
        return None
    ranges = []
    for op in slices:
        start, end = op.get("starts")[0], op.get("ends")[0]
        start = start + size if start < 0 else start
        end = end + size if end < 0 else min(end, size)
        ranges.append((start, end, op))
    sections: list[int] = []
    parts: list[str] = []
    behind: list[Op] = []
    at = 0
    for start, end, op in sorted(ranges, key=lambda each: each[0]):
        if start < at or end <= start:
            return None
        if start > at:
            _part(program, source, axis, start - at, sections, parts)
        out, part = op.outputs["Out"][0], op.outputs["Out"][0]
        if op.get("decrease_axis"):
            wanted = list(program.var(out).shape)
            if sum(d < 0 for d in wanted) > 1 or not wanted:
                return None
            part = _part(program, source, axis, end - start, sections, parts)
            behind.append(reshape(part, out, wanted))
        else:
            sections.append(end - start)
            parts.append(out)
        at = end
    if at < size:
        _part(program, source, axis, size - at, sections, parts)
    if len(sections) == 1:
        return None
    op = Op("split", {"X": [source]}, {"Out": parts})
    op.set("axis", axis)
    op.set("num", 0)
    op.set("sections", sections)
    return [op, *behind]


def _part(
    program: Program, source: str, axis: int, size: int, sections: list[int], parts: list[str]
) -> str:
    """Add a section of the split that is not an output of the program's own; its name."""
    var = program.var(source)
    name = program.new_name(f"{source}.part")
    shape = tuple(size if i == axis else d for i, d in enumerate(var.shape))
    program.vars[name] = type(var)(name, var.dtype, shape)
    sections.append(size)
    parts.append(name)
    return name


@rule(
    ops=("set_value",),
    because="lite/kernels/host/set_value_compute.cc takes 150 instructions an element, the kernels "
    "that take tensors apart and join them 3",
)
def values_by_parts(op: Op, site: Site) -> Iterator[str]:
    """x with some places of one axis replaced, as of ReXNet, -> what is before them, what replaces
    them and what is behind, joined."""
    if set(op.inputs) != {"Input", "ValueTensor"} or op.get("steps") != [1]:
        return
    if op.get("decrease_axes") or op.get("none_axes") or len(op.get("axes")) != 1:
        return
    x, value = op.inputs["Input"][0], op.inputs["ValueTensor"][0]
    shape, axis = list(site.program.var(x).shape), op.get("axes")[0]
    size = shape[axis]
    start, end, _ = slice(op.get("starts")[0], op.get("ends")[0]).indices(max(size, 0))
    sizes = [start, end - start, size - end]
    taken = (*shape[:axis], sizes[1], *shape[axis + 1 :])
    if size < 1 or sizes[1] < 1 or sizes[1] == size or site.program.var(value).shape != taken:
        return
    dtype, out = site.program.var(x).dtype, op.outputs["Out"][0]
    parts = [
        site.new_var(f"{out}.part", dtype, (*shape[:axis], n, *shape[axis + 1 :])) for n in sizes
    ]
    split = Op("split", {"X": [x]}, {"Out": [part for n, part in zip(sizes, parts) if n]})
    split.set("axis", axis)
    split.set("sections", [n for n in sizes if n])
    split.set("num", 0)
    parts[1] = value
    joined = Op("concat", {"X": [p for n, p in zip(sizes, parts) if n]}, {"Out": [out]})
    joined.set("axis", axis)
    site.replace(split, joined)
    yield "became parts that are joined"
