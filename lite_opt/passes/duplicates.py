"""What is computed twice."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Op, Program
from lite_opt.passes.rule import place, program_rule, rewritten

__all__ = ["is_pure", "share_results"]

# Operators that give other numbers each time, or do more than compute their outputs.
_IMPURE = (
    "feed", "fetch", "while", "conditional_block", "print", "seed", "dropout", "gaussian_random",
    "uniform_random", "sampling_id", "randint", "randperm", "multinomial", "bernoulli",
    "write_to_array", "read_from_array", "create_array", "select_input", "select_output",
)  # fmt: skip


def is_pure(op: Op) -> bool:
    """Whether an operator only computes its outputs, and the same ones of the same inputs."""
    has_block = any(attr.type in ("BLOCK", "BLOCKS") for attr in op.attrs.values())
    return op.type not in _IMPURE and not has_block


@program_rule(because="Lite computes them as often as they stand there")
def share_results(program: Program) -> Iterator[tuple[str, str]]:
    """Operators of one type, with the same inputs and attributes -> one."""
    changing = rewritten(program)
    fetched = {n for op in program.ops if op.type == "fetch" for n in op.inputs["X"]}
    first: dict[str, Op] = {}
    instead: dict[str, str] = {}
    ops = []
    for op in program.ops:
        op.rename_inputs(instead)
        outputs = op.writes
        names = {*op.reads, *outputs}
        key = repr((op.type, sorted(op.inputs.items()), sorted(op.attrs.items()), _slots(op)))
        other = first.get(key)
        if not is_pure(op) or names & changing or fetched.intersection(outputs):
            ops.append(op)
        elif other is None:
            first[key] = op
            ops.append(op)
        else:
            instead.update(
                (mine, its)
                for slot in op.outputs
                for mine, its in zip(op.outputs[slot], other.outputs[slot])
            )
            yield place(op), f"is {place(other)}"
    program.blocks[0].ops = ops
    for block in program.blocks[1:]:
        for op in block.ops:
            op.rename_inputs(instead)


def _slots(op: Op) -> list[tuple[str, int]]:
    return sorted((slot, len(names)) for slot, names in op.outputs.items() if names)
