"""Control flow without control flow: branches become a choice, loops are unrolled.

Both sides of a branch can be computed, since nothing in the graph has a side effect: what was not
taken is thrown away, element by element. A branch on a constant goes, and so does a loop whose
number of rounds does not depend on data. The operators of arrays are lists here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lite_opt.model.pir.kinds import UnsupportedError
from lite_opt.model.pir.read import PirOp, Region, TensorType, result_type
from lite_opt.model.pir.translator import Translator, Value

__all__ = ["CONTROL"]

# More than these are no graph that anybody wants to load.
_MAX_ROUNDS, _MAX_OPS = 1024, 100_000
_CHOSEN = ("float32", "int32", "int64")  # what Paddle Lite's `where` has kernels for


def _inline(t: Translator, op: PirOp, ops: list[PirOp]) -> list[Value]:
    """Translate the operators of a block here; returns what it yields."""
    if not ops or ops[-1].name != "yield":
        t.fail(op, "a block of it does not end in a yield")
    for inner in ops[:-1]:
        t.translate(inner)
    return [t.value(ops[-1], index) for index in range(len(ops[-1].operands))]


def _define_all(t: Translator, op: PirOp, values: list[Value]) -> None:
    if len(values) != len(op.results):
        t.fail(op, f"a block of it yields {len(values)} values for {len(op.results)} results")
    for index, value in enumerate(values):
        t.define(op, value, index)


def _if(t: Translator, op: PirOp) -> None:
    if len(op.regions) != 2:
        t.fail(op, f"has {len(op.regions)} blocks")
    condition = t.value(op, 0)
    if condition.const is not None and condition.const.size == 1:
        taken = op.regions[0 if condition.const.all() else 1]
        _define_all(t, op, _inline(t, op, taken.ops))
        return
    yes, no = (_inline(t, op, region.ops) for region in op.regions)
    if len(yes) != len(no):
        t.fail(op, "its blocks yield unlike numbers of values")
    mask = _one_number(t, op, condition)
    _define_all(t, op, [_choose(t, op, mask, a, b) for a, b in zip(yes, no)])


def _one_number(t: Translator, op: PirOp, condition: Value) -> str:
    """The condition as a tensor of shape [1]."""
    name = t.tensor(op, condition)
    if condition.type.shape == (1,):
        return name
    if condition.type.shape != () and any(d != 1 for d in condition.type.shape):
        raise UnsupportedError(f"{op}: its condition is {condition.type}, not one truth value")
    number = t.cast(name, t.type_of(name), "int32")
    flat = t.add_var(f"reshape2_{op.key}.tmp_0", TensorType("int32", (1,)))
    t.emit("reshape2", {"X": [number]}, {"Out": [flat]}, shape=("INTS", [1]))
    return t.cast(flat, TensorType("int32", (1,)), "bool")


def _equal(yes: Value, no: Value) -> bool:
    """Whether both are constants, and the same."""
    a, b = yes.const, no.const
    return a is not None and b is not None and yes.type == no.type and a.tobytes() == b.tobytes()


def _choose(t: Translator, op: PirOp, mask: str, yes: Value, no: Value) -> Value:
    """where(mask, yes, no): both are of one type, or equal constants."""
    if yes is no or _equal(yes, no):
        return yes
    if yes.items is not None or no.items is not None or yes.type.dtype != no.type.dtype:
        raise UnsupportedError(f"{op}: its branches give values of different kinds")
    if len(yes.type.shape) != len(no.type.shape) or any(
        a != b and a >= 0 and b >= 0 for a, b in zip(yes.type.shape, no.type.shape)
    ):
        raise UnsupportedError(
            f"{op}: its branches give tensors of different shapes ({yes.type} and {no.type}), "
            "and Paddle Lite gets both and chooses between them"
        )
    pairs = zip(yes.type.shape, no.type.shape)
    type_ = TensorType(yes.type.dtype, tuple(max(pair) for pair in pairs))
    names = [t.tensor(op, value) for value in (yes, no)]
    held = type_.dtype if type_.dtype in _CHOSEN else "int32"
    if held != type_.dtype:
        names = [t.cast(name, type_, held) for name in names]
    chosen = replace(type_, dtype=held)
    out = t.add_var(f"where_{op.key}.tmp_0", chosen)
    t.emit("where", {"Condition": [mask], "X": [names[0]], "Y": [names[1]]}, {"Out": [out]})
    return Value(type_, out if held == type_.dtype else t.cast(out, chosen, type_.dtype))


def _while(t: Translator, op: PirOp) -> None:
    if len(op.regions) != 1 or len(op.regions[0].args) != len(op.operands) - 1:
        t.fail(op, "its block does not take what the loop is given")
    condition, values = t.value(op, 0), [t.value(op, i + 1) for i in range(len(op.operands) - 1)]
    rounds = 0
    while True:
        if condition.const is None or condition.const.size != 1:
            after = f" after {rounds} rounds" if rounds else ""
            raise UnsupportedError(
                f"{op}: how often this loop runs depends on data{after}, and only loops of a fixed "
                "number of rounds can be unrolled: loop over a Python range, mask what is too "
                "much, or keep the loop outside the network"
            )
        if not condition.const.all():
            break
        rounds += 1
        if rounds > _MAX_ROUNDS or len(t.ops) > _MAX_OPS:
            raise UnsupportedError(
                f"{op}: unrolled, this loop is more than {_MAX_ROUNDS} rounds or {_MAX_OPS} "
                "operators: keep it outside the network"
            )
        region = _renumbered(t, op.regions[0], {})
        for key, value in zip(region.args, values):
            t.values[key] = value
        condition, *values = _inline(t, op, region.ops)
    _define_all(t, op, values)


def _renumbered(t: Translator, region: Region, names: dict[int, int]) -> Region:
    """A copy of a block whose values have ids of their own: `names` maps the old ones."""
    args = [names.setdefault(key, t.new_key()) for key in region.args]
    ops = []
    for op in region.ops:
        operands = [names.get(key, key) for key in op.operands]
        inner = [_renumbered(t, each, dict(names)) for each in op.regions]
        for key, _ in op.results:
            if key:
                names[key] = t.new_key()
        results = [(names.get(key, key), type_) for key, type_ in op.results]
        ops.append(replace(op, operands=operands, results=results, regions=inner))
    return Region(args, ops)


def _create_array(t: Translator, op: PirOp) -> None:
    t.define(op, Value(items=[]))


def _index(t: Translator, op: PirOp, operand: int) -> tuple[list[Value], int]:
    """An array, and the place in it that an operator names."""
    array, place = t.value(op, 0).items, t.value(op, operand).const
    if array is None:
        t.fail(op, "its operand is not an array")
    if place is None or place.size != 1:
        raise UnsupportedError(f"{op}: the place in its array depends on data")
    return array, int(place.ravel()[0])


def _array_write(t: Translator, op: PirOp) -> None:
    array, place = _index(t, op, 2)
    if not 0 <= place <= len(array):
        raise UnsupportedError(f"{op}: writes element {place} of an array of {len(array)}")
    written = [*array[:place], t.value(op, 1), *array[place + 1 :]]
    t.values[op.operands[0]] = Value(items=written)  # it is written in place
    t.define(op, Value(items=written))


def _array_read(t: Translator, op: PirOp) -> None:
    array, place = _index(t, op, 1)
    if not 0 <= place < len(array):
        raise UnsupportedError(f"{op}: reads element {place} of an array of {len(array)}")
    t.define(op, array[place])


def _array_length(t: Translator, op: PirOp) -> None:
    items = t.value(op, 0).items
    if items is None:
        t.fail(op, "its operand is not an array")
    type_ = result_type(op)
    const = np.full(type_.shape, len(items), type_.dtype)
    t.define(op, Value(type_, const=const, known=const.ravel().tolist()))


def _array_to_tensor(t: Translator, op: PirOp) -> None:
    """concat or stack of all elements."""
    items, type_ = t.value(op, 0).items, result_type(op)
    if not items:
        raise UnsupportedError(f"{op}: of an empty array")
    axis, stacked = op.attr("axis", "int"), op.attr("use_stack", "bool", False)
    names = [t.tensor(op, item) for item in items]
    kind, slot = ("stack", "Y") if stacked else ("concat", "Out")
    out = t.add_var(f"{kind}_{op.key}.tmp_0", type_)
    t.emit(kind, {"X": names}, {slot: [out]}, axis=("INT", axis))
    t.define(op, Value(type_, out))
    if len(op.results) > 1 and op.results[1][0]:
        t.define(op, Value(reason=f"the sizes that {op} joined"), 1)


CONTROL: dict[str, Callable[[Translator, PirOp], None]] = {
    "if": _if,
    "while": _while,
    "create_array": _create_array,
    "array_write": _array_write,
    "array_read": _array_read,
    "array_length": _array_length,
    "array_to_tensor": _array_to_tensor,
}
