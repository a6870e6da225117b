"""A program that is no model of anybody's, in a bundle of its own: to see what an engine makes of
a part of a network, or of a network with its layers tapped."""

from __future__ import annotations

from pathlib import Path

from lite_opt.lite.in_float import in_float
from lite_opt.lite.kernels import SINCE
from lite_opt.lite.optimizer import Optimizer
from lite_opt.model.program import Program
from lite_opt.recipes import Recipe
from py_runner.files.checksum import Checksums
from py_runner.formats.bundle import Bundle, Target
from py_runner.formats.nb import NbFile
from py_runner.tensors import Model

__all__ = ["part", "patience_s", "target_of"]

# How long an engine may take for a sample before it is said to hang: ten times what an emulated
# board needs, which is about 200 times what the server does (SqueezeNet1_1: 2.2 s, 14 ms).
_SLOWER = 2000
_LEAST_S = 120.0


def patience_s(server_ms: float) -> float:
    """How long to wait for an ARM engine that is given what takes the server so long."""
    return max(_LEAST_S, _SLOWER * server_ms / 1e3)


def target_of(out: Path, nb: NbFile, checksums: Checksums, precision: str) -> Target:
    """What a bundle says of a `.nb` file that the optimizer made."""
    return Target(
        file=out.name,
        sha256=checksums.sha256,
        crc32=checksums.crc32,
        bytes=nb.bytes,
        opt_version=nb.opt_version,
        ops=len(nb.ops),
        kernels={f"{t}/{p}": count for (t, p), count in nb.kernels.most_common()},
        calib=nb.calib_count,
        weights=dict(nb.weight_bytes_by_dtype),
        precision=precision,
        needs={op.type: SINCE[op.type] for op in nb.ops if op.type in SINCE},
        in_float=in_float(nb, precision),
    )


def part(program: Program, target: str, recipe: Recipe, folder: Path) -> Model:
    """The file of a program for a target ("arm", "x86"), in a bundle that holds nothing else, in
    `folder`. Raises what `Optimizer.run` raises."""
    out = folder / f"model.{target}.nb"
    with Optimizer() as optimizer:
        nb, checksums = optimizer.run(program, target, out, recipe=recipe)
    made = {target: target_of(out, nb, checksums, recipe.name)}
    named = {"name": recipe.name}
    inputs, outputs = tuple(program.inputs), tuple(program.outputs)
    Bundle(folder, "part", {}, named, (), made, inputs, outputs).write(folder)
    return Bundle.open(folder).model(target)
