"""What operators are translated with: values, variables, and the operators made so far."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from lite_opt.model.pir.kinds import KINDS, MalformedError, UnsupportedError
from lite_opt.model.pir.read import PirOp, TensorType
from lite_opt.model.pir.table import Argument, Row
from lite_opt.model.program import FEED, FETCH, VALUE_LISTS, Attr, Block, Op, Var
from py_runner.tensors import DTYPE_NUMBERS

__all__ = ["ARITHMETIC", "MAX_FOLD", "Finish", "Translator", "Value"]

# A constant of more elements than this is never spelled out as an attribute.
MAX_FOLD = 1 << 16
# Operators that broadcast: a constant without dimensions may as well be of shape [1], which Paddle
# Lite needs (its tensors have at least one dimension).
_BROADCASTING = re.compile(
    r"elementwise_|logical_|bitwise_|(not_)?equal$|(less|greater)_(than|equal)$|where$|atan2$"
)
# Attributes that a constant operand would have set, where an input slot carries the value instead.
_UNSET: dict[str, Any] = {"int": 0, "long": 0, "float": 1.0, "ints": [], "longs": [], "bounds": []}
# The older operators whose integer constants are computed here and now.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "elementwise_add": np.add,
    "elementwise_sub": np.subtract,
    "elementwise_mul": np.multiply,
    "elementwise_floordiv": np.floor_divide,
}
# Operators through which shapes are computed, on 32-bit twins of their operands where possible.
_SHAPE_OPS = ("slice", "scale", *ARITHMETIC)
_NO_TYPE = TensorType("float32", ())  # of a vector, or of what cannot be read


@dataclass
class Value:
    """What an id of the file stands for: a tensor, a constant, or a vector of values.

    A constant has no variable until an operator needs it as a tensor. `known` holds the elements
    of a shape as far as they are known: a number, or the value and axis that it is the size of;
    `parts` are the one-element tensors that it was put together from. A complex value is a `pair`
    of its real and its imaginary part.
    """

    type: TensorType = _NO_TYPE
    name: str | None = None
    const: np.ndarray[Any, Any] | None = None
    known: list[int | tuple[Value, int]] | None = None
    items: list[Value] | None = None
    parts: list[Value] | None = None
    pair: tuple[Value, Value] | None = None
    reason: str = ""  # why it cannot be read, for outputs that are not translated


class Translator:
    """Translates operators in order. `values` maps an id of the file to what it stands for.

    `finish`: older operator's type -> what completes one that was made by its row.
    `translate`: translates any operator of the file, for those that have others inside.
    `largest_key`: the largest id of a value in the file.
    """

    def __init__(
        self,
        finish: Mapping[str, Finish],
        translate: Callable[[Translator, PirOp], None],
        largest_key: int = 0,
    ) -> None:
        self._finish = finish
        self._translate = translate
        self._largest_key = largest_key
        self.values: dict[int, Value] = {0: Value(reason="a null operand")}
        self.vars: dict[str, Var] = {}
        self.feeds: list[Op] = []
        self.ops: list[Op] = []
        self.fetches: dict[int, tuple[str, Value]] = {}
        # 64-bit integer variable -> one of 32 bits with the same numbers, or its constant.
        self._narrow: dict[str, str] = {}
        self._wide_constants: dict[str, Value] = {}

    def fail(self, op: PirOp, what: str) -> NoReturn:
        raise MalformedError(f"{op}: {what}")

    def value(self, op: PirOp, index: int) -> Value:
        """An operand, which must be there and defined by an operator before this one."""
        if len(op.operands) <= index:
            self.fail(op, f"has {len(op.operands)} operands")
        value = self.values.get(op.operands[index])
        if value is None:
            self.fail(op, f"operand %{op.operands[index]} is not defined before it is used")
        if value.reason:
            raise UnsupportedError(f"{op}: cannot be translated: operand {index} is {value.reason}")
        return value

    def new_key(self) -> int:
        """An id for a value that the file does not have."""
        self._largest_key += 1
        return self._largest_key

    def translate(self, op: PirOp) -> None:
        """Translate one operator of the file."""
        self._translate(self, op)

    def type_of(self, name: str) -> TensorType:
        return TensorType(self.vars[name].dtype, self.vars[name].shape)

    def define(self, op: PirOp, value: Value, index: int = 0) -> None:
        key = op.results[index][0] if len(op.results) > index else 0
        if key == 0 or key in self.values:
            self.fail(op, f"result %{key} is defined twice or not at all")
        self.values[key] = value

    def add_var(self, stem: str, type_: TensorType, **flags: Any) -> str:
        name, n = stem, 0
        while name in self.vars:
            n += 1
            name = f"{stem}_{n}"
        self.vars[name] = Var(name, type_.dtype, type_.shape, **flags)
        return name

    def emit(
        self,
        type_: str,
        inputs: dict[str, list[str]],
        outputs: dict[str, list[str]],
        **attrs: tuple[str, Any],
    ) -> Op:
        op = Op(type_, inputs, outputs, {name: Attr(*attr) for name, attr in attrs.items()})
        self.ops.append(op)
        return op

    def tensor(self, op: PirOp, value: Value, *, at_least_1d: bool = False) -> str:
        """The variable that holds a value; a constant gets one where it is first needed."""
        if value.const is not None:
            shape = value.type.shape or ((1,) if at_least_1d else ())
            if value.name is None or self.vars[value.name].shape != shape:
                value.name = self._constant(value.const.reshape(shape), value.type.dtype)
                if value.type.dtype == "int64":
                    self._wide_constants[value.name] = value
            return value.name
        if value.pair is not None:
            raise UnsupportedError(
                f"{op}: cannot compute with complex numbers: take their real, imag or abs before"
            )
        if value.name is None:
            self.fail(op, "an operand is a vector where one tensor is expected")
        return value.name

    def widen(self, name: str) -> str:
        """A 64-bit variable with the numbers of a 32-bit one, which the translation prefers."""
        wide = self.cast(name, self.type_of(name), "int64")
        self._narrow[wide] = name
        return wide

    def narrow(self, op: PirOp, value: Value) -> str:
        """The variable that holds a value as 32-bit integers, which is how Lite reads shapes."""
        if value.type.dtype != "int64":
            return self.tensor(op, value, at_least_1d=True)
        if value.const is not None:
            limits = np.iinfo(np.int32)
            const = value.const.clip(limits.min, limits.max).astype(np.int32)
            type_ = TensorType("int32", value.type.shape)
            return self.tensor(op, Value(type_, const=const), at_least_1d=True)
        name = self.tensor(op, value)
        if name not in self._narrow:
            self._narrow[name] = self.cast(name, value.type, "int32")
        return self._narrow[name]

    def _twin(self, op: PirOp, made: Op) -> None:
        """Beside an operator that computes with shapes, the same in 32 bits; one of both is kept.

        Paddle 3 computes shapes in 64 bits, Paddle 2 and Lite do so in 32.
        """
        out = made.output("Out")
        names = made.reads
        if out is None or self.vars[out].dtype != "int64" or not self._narrow.keys() & set(names):
            return
        narrow = {n: self._narrow[n] for n in names if n in self._narrow}
        for name in set(names) - narrow.keys():
            if name not in self._wide_constants:
                return
            narrow[name] = self.narrow(op, self._wide_constants[name])
        self._narrow[out] = self.add_var(out, TensorType("int32", self.vars[out].shape))
        twin = Op(made.type, {}, {"Out": [self._narrow[out]]}, made.attrs)
        twin.inputs = {slot: [narrow[n] for n in names] for slot, names in made.inputs.items()}
        self.ops.append(twin)

    def _constant(self, const: np.ndarray[Any, Any], dtype: str) -> str:
        shape = list(const.shape)
        first = const.flat[0].item() if const.size else 0
        is_uniform = not any(const.strides) or bool((const == first).all())
        if is_uniform and (const.dtype.kind in "fb" or abs(first) <= 1 << 24):
            name = self.add_var(
                f"fill_constant_{len(self.ops)}.tmp_0", TensorType(dtype, const.shape)
            )
            text = str(float(first) if const.dtype.kind == "f" else int(first))
            self.emit(
                "fill_constant",
                {},
                {"Out": [name]},
                shape=("LONGS", shape),
                dtype=("INT", DTYPE_NUMBERS[dtype]),
                value=("FLOAT", float(first)),
                str_value=("STRING", text),
                force_cpu=("BOOLEAN", False),
                place_type=("INT", -1),
            )
            return name
        # Where assign_value has no list for the type: cast from the nearest one.
        held = dtype if dtype in VALUE_LISTS else "float32" if const.dtype.kind == "f" else "int32"
        name = self.add_var(f"assign_value_{len(self.ops)}.tmp_0", TensorType(held, const.shape))
        attr, kind = VALUE_LISTS[held]
        values = const.astype("int32" if held == "bool" else held).ravel().tolist()
        self.emit(
            "assign_value",
            {},
            {"Out": [name]},
            shape=("INTS", shape),
            dtype=("INT", DTYPE_NUMBERS[held]),
            **{attr: (kind, values)},
        )
        if held == dtype:
            return name
        return self.cast(name, TensorType(held, const.shape), dtype)

    def cast(self, name: str, type_: TensorType, dtype: str) -> str:
        out = self.add_var(f"cast_{len(self.ops)}.tmp_0", TensorType(dtype, type_.shape))
        self.emit(
            "cast",
            {"X": [name]},
            {"Out": [out]},
            in_dtype=("INT", DTYPE_NUMBERS[type_.dtype]),
            out_dtype=("INT", DTYPE_NUMBERS[dtype]),
        )
        return out

    def by_row(self, op: PirOp, row: Row) -> None:
        if len(op.operands) > len(row.operands):
            self.fail(op, f"has {len(op.operands)} operands, {len(row.operands)} are expected")
        inputs: dict[str, list[str]] = {}
        attrs: dict[str, Attr] = {}
        at_least_1d = bool(_BROADCASTING.match(row.type)) and any(
            self.values[key].type.shape for key in op.operands if key in self.values
        )
        for index, argument in enumerate(row.operands):
            if argument.name == "_" or (
                argument.is_optional and op.operands[index : index + 1] in ([], [0])
            ):
                continue
            value = self.value(op, index)
            if argument.kind:
                self._constant_operand(op, row, argument, value, inputs, attrs)
            elif argument.is_vector:
                if value.items is None:
                    self.fail(op, f"operand '{argument.name}' should be a vector")
                inputs[argument.name] = [self.tensor(op, item) for item in value.items]
            else:
                inputs[argument.name] = [self.tensor(op, value, at_least_1d=at_least_1d)]
        for argument in row.attrs:
            kind = argument.kind
            found = op.attr(argument.source, kind, argument.default)
            attrs[argument.name] = Attr(KINDS[kind][0], found)
        made = Op(row.type, inputs, self._outputs(op, row), attrs)
        finish = self._finish.get(row.type)
        if finish is not None:
            finish(self, op, made)
        self.ops.append(made)
        if made.type in _SHAPE_OPS:
            self._twin(op, made)

    def _constant_operand(
        self,
        op: PirOp,
        row: Row,
        argument: Argument,
        value: Value,
        inputs: dict[str, list[str]],
        attrs: dict[str, Attr],
    ) -> None:
        """An operand that is an attribute of the older operator, or a slot if not constant."""
        kind, convert = KINDS[argument.kind]
        plain: Any = None
        if value.const is not None and value.const.size <= MAX_FOLD:
            plain = value.const.ravel().tolist()
        elif row.type in ("reshape2", "expand_v2"):
            plain = self._static_shape(op, row.type, value)
        if plain is not None:
            try:
                if argument.kind in ("int", "long", "float"):
                    if len(plain) != 1:
                        raise MalformedError(f"{len(plain)} elements where one is expected")
                    plain = plain[0]
                    if type(plain) is float and plain.is_integer() and argument.kind != "float":
                        plain = int(plain)
                plain = convert(plain)
            except MalformedError as error:
                self.fail(op, f"operand '{argument.name}': {error}")
            attrs[argument.name] = Attr(kind, plain)
        elif argument.list_slot and value.parts is not None:
            known = [-1 if item.const is None else item.const.item() for item in value.parts]
            attrs[argument.name] = Attr(kind, convert(known))
            inputs[argument.list_slot] = [self.narrow(op, item) for item in value.parts]
        elif argument.slot:
            attrs[argument.name] = Attr(kind, _UNSET[argument.kind])
            name = self.tensor(op, value) if argument.kind == "longs" else self.narrow(op, value)
            inputs[argument.slot] = [name]
        else:
            raise UnsupportedError(f"{op}: operand '{argument.name}' must be a constant")

    def _static_shape(self, op: PirOp, type_: str, value: Value) -> list[int] | None:
        """The shape attribute that says the same as a computed shape, if there is one."""
        result = op.results[0][1] if op.results else None
        dynamic = 0 if type_ == "expand_v2" else 1  # a reshape may leave one dimension open
        if isinstance(result, TensorType) and 0 not in result.shape:
            shape = list(result.shape)
            if sum(d < 0 for d in shape) <= dynamic:
                return shape
        if value.known is None or type_ != "reshape2":
            return None
        # 0 copies the dimension of X at that place.
        x = self.value(op, 0)
        shape = [
            d if type(d) is int else 0 if d[0] is x and d[1] == axis else -1  # type: ignore[index]
            for axis, d in enumerate(value.known)
        ]
        return shape if sum(d < 0 for d in shape) <= 1 else None

    def _outputs(self, op: PirOp, row: Row) -> dict[str, list[str]]:
        outputs: dict[str, list[str]] = {}
        for index, (key, type_) in enumerate(op.results):
            argument = row.outputs[index] if index < len(row.outputs) else None
            if argument is None or argument.name == "_" or type_ is None:
                if key:
                    self.define(op, Value(reason=f"output {index} of {op}, unread so far"), index)
                continue
            if isinstance(type_, list) != argument.is_vector:
                self.fail(op, f"output '{argument.name}' is of another kind")
            items = []
            for n, item in enumerate(type_ if isinstance(type_, list) else [type_]):
                if item is None:
                    raise UnsupportedError(f"{op}: output '{argument.name}' is not a dense tensor")
                stem = f"{row.type}_{op.key}.tmp_{index + n}"
                items.append(Value(item, self.add_var(stem, item)))
            outputs[argument.name] = [item.name for item in items if item.name]
            self.define(op, Value(items=items) if argument.is_vector else items[0], index)
        if row.outputs[0].name not in outputs:
            self.fail(op, "has no output")
        return outputs

    def block(self) -> Block:
        """The finished block: feed operators, then those that an output needs, then fetch."""
        if not self.fetches:
            raise MalformedError("no fetch operator: this is not an inference model")
        for name, kind in (("feed", FEED), ("fetch", FETCH)):
            if name in self.vars:
                raise MalformedError(f"a tensor is called '{name}'")
            self.vars[name] = Var(name, kind=kind, persistable=True, other=bytes([8, kind]))
        fetched = [self.fetches[column] for column in sorted(self.fetches)]
        names: dict[str, str] = {}  # variable -> the name that Paddle gives this output
        fetches: list[Op] = []
        inner = {n for op in self.ops for outputs in op.outputs.values() for n in outputs}
        for column, (wanted, value) in enumerate(fetched):
            name = value.name or ""
            if name in names or name not in inner or self.vars[name].persistable:
                copy = self.add_var(f"assign_{len(self.ops)}.tmp_0", value.type)
                self.emit("assign", {"X": [name]}, {"Out": [copy]})
                name = copy
            names[name] = wanted if wanted not in self.vars else name
            fetches.append(
                Op("fetch", {"X": [name]}, {"Out": ["fetch"]}, {"col": Attr("INT", column)})
            )
        taken: set[str] = set()
        for name, wanted in names.items():
            if wanted in taken:
                names[name] = name
            taken.add(names[name])
        ops = [*self.feeds, *_live(self.ops, names), *fetches]
        for op in ops:
            op.rename_inputs(names)
            for outputs in op.outputs.values():
                outputs[:] = [names.get(n, n) for n in outputs]
        used = {
            n for op in ops for slots in (op.inputs, op.outputs) for a in slots.values() for n in a
        }
        variables: dict[str, Var] = {}
        for var in self.vars.values():
            var.name = names.get(var.name, var.name)
            if var.persistable or var.name in used:
                variables[var.name] = var
        return Block(0, -1, variables, ops)


def _live(ops: list[Op], outputs: Iterable[str]) -> list[Op]:
    """The operators that the given variables depend on, in order."""
    needed = set(outputs)
    kept = []
    for op in reversed(ops):
        if any(name in needed for name in op.writes):
            kept.append(op)
            needed.update(op.reads)
    return kept[::-1]


Finish = Callable[[Translator, PirOp, Op], None]
