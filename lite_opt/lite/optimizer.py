"""Program -> `.nb`: Paddle Lite's optimizer, in a process of its own because it aborts.

The optimizer fails by LOG(FATAL) or CHECK, which kill the process with SIGABRT, or by a
segmentation fault. Each such death becomes a ConvertError with its last words and our advice.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from lite_opt.lite.handover import handed
from lite_opt.model.program import Program
from lite_opt.recipes import Recipe
from py_runner.engines import lite
from py_runner.errors import ConvertError, EngineError, ModelError
from py_runner.files.checksum import Checksums
from py_runner.files.faults import check_room
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child, how_it_ended, last_words
from py_runner.formats.nb import NbFile, read_nb

__all__ = ["NoKernelError", "Optimizer", "optimize"]

# The optimizer takes seconds; only a hang reaches this.
_TIME_LIMIT_S = 1800.0
_CHILD = Path(__file__).with_name("opt_child.py")
# It copies the parameters several times over. A malloc that keeps what is freed for the next copy,
# instead of having the kernel clear new pages for it, saves a quarter of the time and costs 2 % of
# memory (AlexNet, SENet154_vd). See the GNU C library's manual, "Memory Allocation Tunables".
_MALLOC = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"

# The memory it may map: for itself, and for each byte of the model.
_OWN_BYTES, _OF_PARAMS = 4 << 30, 32

# How the optimizer says that it has no kernel at all for operators.
_NO_KERNEL = re.compile(r"unsupported ops are: '([^']+)'|[Nn]o kernels? found for (\w+)")
# A pattern in the optimizer's last words -> what it means and what to do.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"[Nn]o kernels? (?:found|can be picked)|Error! op\s+(\S+)|is not supported",
        "Paddle Lite has no kernel for an operator of this model on this target: "
        "replace that layer in the network and export again",
    ),
    (
        r"No attributes? called (\S+) found",
        "the exporter left out an attribute that Paddle Lite reads: export with Paddle 2.4, which "
        "writes all of them, or replace that layer in the network",
    ),
    (
        r"required type is \S+ not match",
        "an attribute has another type than Paddle Lite reads: export with Paddle 2.4, or replace "
        "that layer in the network",
    ),
    (
        r"[Cc]an't find a '\w+' kernel to trans",
        "an operator takes another element type than the one before it gives (bool and int64 have "
        "few kernels): cast to float32 between them in the network and export again",
    ),
    (
        r"[Uu]nknown (?:var )?type",
        "an element type of this model is unknown to Paddle Lite: cast to float32, int32 or int64 "
        "in the network and export again",
    ),
    (r"partial data|ReachEnd", "the parameters are not those of this model"),
    (r"[Mm]emory|bad_alloc", "there was not enough memory: close other programs and try again"),
    (
        r"by SIGKILL",
        "something stopped it, most likely the kernel for want of memory: close other programs "
        "and try again",
    ),
)

_UNKNOWN = (
    "this graph is beyond it: replace the layer that it names, or leave layers out until it goes "
    "through, and export again"
)


class NoKernelError(ConvertError):
    """A target has no kernel for operators of these types, whatever their attributes."""

    def __init__(self, target: str, types: list[str]) -> None:
        self.target, self.types = target, types
        super().__init__(f"Paddle Lite has no kernel for {', '.join(types)} on {target}")


class Optimizer:
    """The optimizer in a child that is started at once and told what to do later.

    Importing paddlelite takes about as long as reading a model, so start it before that. It serves
    one call of `run`. Use as a context manager; leaving ends the child.

    Raises EngineError where paddlelite is not to be had.
    """

    def __init__(self) -> None:
        tunables = os.environ.get("GLIBC_TUNABLES", _MALLOC)
        self._child = Child([lite.interpreter(), str(_CHILD)], env={"GLIBC_TUNABLES": tunables})

    def run(
        self,
        program: Program,
        target: str,
        out: Path,
        *,
        recipe: Recipe,
        time_limit_s: float = _TIME_LIMIT_S,
    ) -> tuple[NbFile, Checksums]:
        """Write `out` (a new file whose name ends in .nb) for a target, and read it back.

        Its checksums are computed while it is written: the optimizer appends, and never goes back
        (BinaryFileWriter in Paddle Lite's lite/core/model/base/io.cc).

        Raises NoKernelError where operators have none; ConvertError where the optimizer dies,
        hangs, writes nothing, or another target's file; OSError where the disk is full.
        """
        checksums = Checksums(out)
        with temporary_folder() as folder, handed(program, folder) as files:
            config = {
                "model": str(files.model),
                "params": str(files.params or ""),
                "folder": str(folder) if files.params == folder else "",
                "target": target,
                "out": str(out.with_suffix("")),
                "fp16": recipe.fp16,
                "quant_type": recipe.quant_type,
            }
            size = program.param_bytes + files.model.stat().st_size
            self._child.limit_memory(_OWN_BYTES + _OF_PARAMS * size)
            self._child.tell(json.dumps(config).encode())
            returncode = self._child.wait(time_limit_s, meanwhile=checksums.read_on)
        log = self._child.log()
        if returncode is None:
            raise ConvertError(
                f"the optimizer for {target} took longer than {time_limit_s:g} s and was "
                f"stopped; its last words: {last_words(log)}"
            )
        if returncode != 0 or not out.is_file():
            check_room(out.parent)
            ended = f"{how_it_ended(returncode)}: {last_words(log)}"
            explained = lite.explain(ended)
            if explained != ended:
                raise EngineError(f"{explained}: {last_words(log)}")
            without = _NO_KERNEL.search(log.decode("utf-8", "replace"))
            if without is not None:
                types = re.findall(r"\w+", without[1] or without[2])
                raise NoKernelError(target, sorted(set(types)))
            raise ConvertError(_why(target, returncode, log))
        try:
            made = read_nb(out)
        except ModelError:
            check_room(out.parent)  # the optimizer does not look whether its writing succeeds
            raise
        if made.target not in (target, "host"):
            raise ConvertError(
                f"the optimizer was asked for {target} and made a file for {made.target}"
            )
        return made, checksums.read_on()

    def __enter__(self) -> Optimizer:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()


def optimize(program: Program, target: str, out: Path, *, recipe: Recipe) -> NbFile:
    """`Optimizer.run` in a child started for it."""
    with Optimizer() as optimizer:
        return optimizer.run(program, target, out, recipe=recipe)[0]


def _why(target: str, returncode: int, log: bytes) -> str:
    words = last_words(log)
    ended = how_it_ended(returncode) if returncode else "ended without writing a file"
    told = f"{ended}: {words}"
    advice = next((text for pattern, text in _ADVICE if re.search(pattern, told)), None)
    return (
        f"Paddle Lite's optimizer for {target} {ended}; its last words: {words.rstrip('.')}"
        f"; {advice or _UNKNOWN}"
    )
