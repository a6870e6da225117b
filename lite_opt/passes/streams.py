"""Streams: tensors that are computed with one place at a time, whatever the shape of the places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from lite_opt.model.program import Op, Program
from lite_opt.passes.axes import KINDS, Path, Shape, follow
from lite_opt.passes.moves import cost, moves
from lite_opt.passes.rearrange import chain_after, chain_of
from lite_opt.passes.rule import Site, place, program_rule
from lite_opt.passes.shapes import MAX_RANK, reshape

__all__ = ["shape_streams"]

_UNARY = (
    "gelu", "hard_sigmoid", "hard_swish", "leaky_relu", "mish", "relu", "relu6", "sigmoid", "swish",
    "tanh",
)  # fmt: skip
_BINARY = ("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div")


def _inner(program: Program, op: Op, rank: int) -> bool:
    """Whether an operator computes each place of tensors of so many dimensions alone: all that it
    reads and writes are such, or parameters of one dimension (or weights)."""
    last, params = (-1, rank - 1), program.params
    if op.type in _UNARY:
        return True
    if op.type == "layer_norm":
        return bool(op.get("begin_norm_axis", 1) == rank - 1)
    if op.type == "mul":
        weight = params.get(op.inputs["Y"][0])
        return weight is not None and op.get("x_num_col_dims", 1) == rank - 1
    if op.type in ("concat", "split"):
        return op.get("axis", 0) in last and len(op.inputs) == 1
    if op.type not in _BINARY or op.inputs["X"][0] in params or op.get("axis", -1) not in last:
        return False
    y = op.inputs["Y"][0]
    if y in params:
        return params[y].ndim == 1
    shapes = {program.var(name).shape for name in (*op.reads, op.layer)}
    return len(shapes) == 1


@dataclass
class _Stream:
    """Variables of one shape up to their last dimension, the operators between them, and where
    others write and read them."""

    lead: Shape
    names: list[str] = field(default_factory=list)
    ops: dict[int, Op] = field(default_factory=dict)
    entries: list[tuple[str, Op]] = field(default_factory=list)
    exits: list[tuple[str, Op]] = field(default_factory=list)


def _stream(site: Site, name: str) -> _Stream | None:
    """The stream that a variable belongs to; None where something else than operators of block 0
    writes it, or it is an output of the program."""
    program = site.program
    stream = _Stream(program.var(name).shape[:-1])
    rest = [name]
    while rest:
        at = rest.pop()
        if at in stream.names:
            continue
        made = site.producers.get(at)
        if made is None or at in site.changing:
            return None
        stream.names.append(at)
        for op in (made, *site.consumers.get(at, [])):
            if op.type == "fetch":
                return None
            tensors = _tensors(program, op, stream.lead)
            if tensors is not None:
                stream.ops[id(op)] = op
                rest += tensors
            elif op is made:
                stream.entries.append((at, op))
            else:
                stream.exits.append((at, op))
    return stream


def _tensors(program: Program, op: Op, lead: Shape) -> list[str] | None:
    """What an operator reads and writes of a stream, where it belongs to it."""
    outs = op.outputs["Y"] if op.type == "layer_norm" else op.outputs.get("Out", [])
    names = [name for name in op.reads if name not in program.params]
    for name in (*names, *outs):
        var = program.vars.get(name)
        if var is None or var.shape[:-1] != lead or var.dtype != "float32" or var.shape[-1] < 1:
            return None
    return [*names, *outs] if names and _inner(program, op, len(lead) + 1) else None


@dataclass
class _Border:
    """A path into a stream or out of it, and what it takes as it is."""

    name: str
    path: Path
    is_entry: bool

    def lead(self, program: Program) -> Shape | None:
        """The shape of places that it is cut by; None where that cuts the batch."""
        shape = program.var(self.name).shape
        order = self.path.order if self.is_entry else sorted(self.path.order)
        groups = self.path.cuts(shape, order)
        if groups is None or len(groups[0]) > 1:
            return None
        return (shape[0], *(size for group in groups[1:-1] for size in group or [1]))

    def price(self, shape: Shape) -> float | None:
        """What it takes where the variable of the stream has a shape."""
        path = self.path.ending(shape) if self.is_entry else self.path.starting(shape)
        plan = None if path is None else moves(path, math.prod(max(d, 1) for d in self.path.start))
        return None if plan is None else plan[0]


def _borders(site: Site, stream: _Stream) -> tuple[list[_Border], int]:
    """Paths into a stream and out of it, and how many of both would need a reshape."""
    found: list[_Border] = []
    others = {f">{name}" for name, op in stream.entries if op.type not in KINDS}
    others |= {f"<{name}" for name, op in stream.exits if op.type not in KINDS}
    for is_entry, sides in ((True, stream.entries), (False, stream.exits)):
        for name, op in sides:
            if op.type not in KINDS or set(op.inputs) != {"X"}:
                continue
            chain = chain_of(site, op) if is_entry else [op, *chain_after(site, op.layer)]
            path = follow(site.program, chain[0].inputs["X"][0], [(o, o.layer) for o in chain])
            if path is not None:
                found.append(_Border(name, path, is_entry))
            elif op.type != "reshape2":
                others.add(f"?{name}")
    return found, len(others)


def _gain(program: Program, borders: list[_Border], others: int, lead: Shape) -> float:
    """What is saved where a stream is given another shape of places."""
    operator = cost("reshape2", 0)
    saved = -others * operator
    for border in borders:
        shape = program.var(border.name).shape
        old, new = border.price(shape), border.price((*lead, shape[-1]))
        if old is not None:
            saved += old - new if new is not None else -operator
    return saved


def _is_fixed(op: Op) -> bool:
    """Whether a reshape takes none of its dimensions from its input."""
    return op.type != "reshape2" or 0 not in (op.get("shape") or [0])


@program_rule(because="each reshape is an operator; what computes places alone takes any shape")
def shape_streams(program: Program) -> Iterator[tuple[str, str]]:
    """Tensors of [N, places, C], each of whose places is computed alone, between reshapes of the
    places -> of the shape that most of these reshapes give or take."""
    site = Site(program, program.blocks[0])
    seen: set[str] = set()
    for op in list(program.ops):
        name = op.output("Y" if op.type == "layer_norm" else "Out") or ""
        shape = program.var(name).shape if op.type in ("layer_norm", "mul") else ()
        if name in seen or len(shape) < 3 or -1 in shape[1:]:
            continue
        if _tensors(program, op, shape[:-1]) is None:
            continue
        stream = _stream(site, name)
        if stream is None:
            continue
        seen.update(stream.names)
        sides = [side for _, side in (*stream.entries, *stream.exits)]
        borders, others = _borders(site, stream)
        leads = {lead for border in borders if (lead := border.lead(program))}
        best = max(
            (lead for lead in sorted(leads) if lead != stream.lead and len(lead) < MAX_RANK),
            key=lambda lead: _gain(program, borders, others, lead),
            default=None,
        )
        if best is None or not all(map(_is_fixed, sides)):
            continue
        if _gain(program, borders, others, best) > 1:
            _reshape(program, stream, best)
            site = Site(program, program.blocks[0])
            yield place(op), f"{len(stream.names)} tensors of {list(stream.lead)} by {list(best)}"


def _reshape(program: Program, stream: _Stream, lead: Shape) -> None:
    """Give all tensors of a stream another shape of places; what is written by others than a
    reshape, or read by such, keeps its own beside that."""
    before: dict[int, list[Op]] = {}
    behind: dict[int, list[Op]] = {}
    kept: dict[str, str] = {}
    for name, op in stream.entries:
        shape = [*lead, program.var(name).shape[-1]]
        if op.type == "reshape2":
            op.set("shape", shape)
            continue
        kept[name] = _like(program, name)
        behind[id(op)] = [*behind.get(id(op), []), reshape(name, kept[name], shape)]
    old: dict[str, str] = {}
    for name, op in stream.exits:
        if op.type == "reshape2" or name in kept:
            continue
        if name not in old:
            old[name] = _like(program, name)
            shape = list(program.var(name).shape)
            before.setdefault(id(op), []).append(reshape(name, old[name], shape))
        op.rename_inputs({name: old[name]})
    for op in stream.ops.values():
        op.rename_inputs(kept)
        for attr in ("axis", "begin_norm_axis", "x_num_col_dims"):
            if op.get(attr) == len(stream.lead):
                op.set(attr, len(lead))
        for mean in (*op.outputs.get("Mean", []), *op.outputs.get("Variance", [])):
            program.var(mean).shape = lead
    for name in stream.names:
        var = program.var(kept.get(name, name))
        var.shape = (*lead, var.shape[-1])
    program.blocks[0].ops = [
        new for op in program.ops for new in (*before.get(id(op), []), op, *behind.get(id(op), []))
    ]


def _like(program: Program, name: str) -> str:
    """A new variable like another one."""
    var = program.var(name)
    other = program.new_name(f"{name}.places")
    program.vars[other] = type(var)(other, var.dtype, var.shape)
    return other
