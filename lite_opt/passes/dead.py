"""Operators that nothing needs."""

from __future__ import annotations

from collections.abc import Iterator

from lite_opt.model.program import Program
from lite_opt.passes.rule import program_rule

__all__ = ["drop_dead_code"]

# Operators whose effect is not their outputs, or whose outputs are used by name in other blocks.
_KEPT = ("feed", "fetch", "while", "conditional_block", "write_to_array", "print")


@program_rule(because="Lite would compute them, and refuses those that it has no kernel for")
def drop_dead_code(program: Program) -> Iterator[tuple[str, str]]:
    """Operators of block 0 whose outputs nobody reads."""
    before = len(program.ops)
    while True:
        read = set(program.consumers())
        live = [op for op in program.ops if op.type in _KEPT or any(n in read for n in op.writes)]
        if len(live) == len(program.ops):
            break
        program.blocks[0].ops = live
    if before > len(live):
        yield f"{before - len(live)} operators", "nobody reads them"
