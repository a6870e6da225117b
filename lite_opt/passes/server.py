"""What the server engine says of parts of a program: values, and shapes."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from lite_opt.model.executor import Executor
from lite_opt.model.program import DENSE_TENSOR, FETCH, Block, Op, Program, Var
from py_runner.tensors import Sample, TensorSpec

__all__ = ["Server", "unsure"]

_ENGINE_S = 300.0
# Two batches tell what depends on the batch.
_BATCHES = (1, 2)
# What these give has a shape that depends on the data, and what reads a tensor by one of these
# slots has one if the tensor does: two inferences prove nothing.
_BY_DATA = (
    "where_index", "masked_select", "unique", "unique_with_counts", "while", "conditional_block",
    "multiclass_nms", "multiclass_nms2", "multiclass_nms3", "matrix_nms", "generate_proposals",
    "generate_proposals_v2", "distribute_fpn_proposals", "collect_fpn_proposals", "box_clip",
)  # fmt: skip
_SHAPING = re.compile(r"[Tt]ensor|Shape|Size$|^(Start|End|Step|Num|K|Paddings|RepeatTimes)$")


def _shaped_by_data(program: Program) -> bool:
    """Whether numbers that come in decide shapes: not those of `shape`, but computed ones."""
    known = set(program.params)
    for op in program.ops:
        free = {
            name for slot, names in op.inputs.items() if _SHAPING.search(slot) for name in names
        }
        inputs = set(op.reads)
        if op.type in _BY_DATA or not free <= known:
            return True
        if op.type != "feed" and (op.type == "shape" or inputs <= known):
            known.update(op.writes)
    return False


def unsure(program: Program) -> list[str]:
    """The variables of block 0 of which more than the first dimension is open, although of the
    inputs only the first is. Empty where more of an input is open, or shapes depend on data."""
    if len(program.blocks) > 1 or _shaped_by_data(program):
        return []
    if not program.inputs or any(-1 in spec.shape[1:] for spec in program.inputs):
        return []
    written = {n for op in program.ops for n in op.writes}
    return [
        name
        for name, var in program.vars.items()
        if name in written and var.kind == DENSE_TENSOR and any(d < 0 for d in var.shape[1:])
    ]


class Server:
    """Paddle's static executor on the parameters of a program. Use as a context manager.

    Raises EngineError where Paddle is not to be had, and from its methods where it refuses.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        fixed = [spec for spec in program.inputs if -1 not in spec.shape[1:]]
        largest = Sample("largest", {spec.name: _fed(spec, _BATCHES[-1]) for spec in fixed})
        self._executor = Executor(program, largest=[largest])

    def compute(self, ops: list[Op], names: list[str]) -> dict[str, Any]:
        """The values of variables that these operators write, which need no input."""
        return self._run(ops, names, {}) if names else {}

    def shapes(self, names: Collection[str]) -> dict[str, tuple[int, ...]]:
        """The shapes of variables, -1 where a dimension depends on the batch: as they are when
        batches of two sizes are fed. Those that neither explains are left out."""
        if not names:
            return {}
        asked = {}
        ops = [op for op in self._program.ops if op.type not in ("feed", "fetch")]
        for name in names:
            out = self._program.new_name(f"{name}.asked")
            asked[name] = out
            ops.append(Op("shape", {"Input": [name]}, {"Out": [out]}))
        both = []
        for batch in _BATCHES:
            feeds = {spec.name: _fed(spec, batch) for spec in self._program.inputs}
            both.append(self._run(ops, list(asked.values()), feeds))
        found = {}
        for name, out in asked.items():
            one, two = (tuple(int(d) for d in each[out]) for each in both)
            by_batch = [a * _BATCHES[1] == b * _BATCHES[0] for a, b in zip(one, two)]
            if len(one) == len(two) and all(a == b or s for a, b, s in zip(one, two, by_batch)):
                found[name] = tuple(a if a == b else -1 for a, b in zip(one, two))
        return found

    def _run(self, ops: list[Op], names: list[str], feeds: dict[str, Any]) -> dict[str, Any]:
        used = {
            n
            for op in ops
            for slots in (op.inputs, op.outputs)
            for ns in slots.values()
            for n in ns
        }
        block = Block(0, -1, {n: v for n, v in self._program.vars.items() if n in used}, list(ops))
        for name in names:
            block.vars.setdefault(name, Var(name, "int32", (-1,)))
        holder = next(var for var in self._program.vars.values() if var.kind == FETCH)
        block.vars[holder.name] = holder
        for column, name in enumerate(names):
            fetch = Op("fetch", {"X": [name]}, {"Out": [holder.name]})
            fetch.set("col", column)
            block.ops.append(fetch)
        part = Program(
            [block],
            {},
            files=self._program.files,
            version=self._program.version,
            op_versions=self._program.op_versions,
        )
        done = self._executor.run(part, feeds, time_limit_s=_ENGINE_S)
        return {name: values[0] for name, values in zip(names, done.outputs)}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.__exit__()


def _fed(spec: TensorSpec, batch: int) -> Any:
    """Numbers that no network minds: zeros where they may be indices, else small ones. `batch` is
    the first dimension where that is dynamic."""
    shape = (batch, *spec.shape[1:]) if spec.shape[:1] == (-1,) else spec.shape
    if spec.dtype.startswith("float"):
        return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)
