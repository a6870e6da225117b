"""A Paddle model -> an ONNX file: Paddle2ONNX, in a process of its own because it dies silently.

It ends with code 255 and not a word, or raises from three languages. Each becomes a ConvertError.
That it ends well says nothing: it has written files with other numbers than the model's.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lite_opt.model.program import ModelFiles
from py_runner.engines import onnx as runtime
from py_runner.errors import ConvertError, EngineError
from py_runner.files.checksum import Checksums
from py_runner.files.faults import check_room
from py_runner.files.folder import temporary_folder
from py_runner.files.process import Child, how_it_ended, last_words
from py_runner.files.regular import read_bytes
from py_runner.formats.bundle import OnnxFacts, Target

__all__ = ["Form", "check_installed", "export_onnx"]

# Paddle2ONNX takes seconds; only a hang reaches this.
_TIME_LIMIT_S = 1800.0
_CHILD = Path(__file__).with_name("export_child.py")
# The memory it may map: for itself (paddle is in it), and for each byte of the model.
_OWN_BYTES, _OF_MODEL = 16 << 30, 32
_OPSET = 17  # the first with LayerNormalization as one operator
_PREFIX = "[Paddle2ONNX]"


@dataclass(frozen=True)
class Form:
    """What an ONNX file can be made from: the files of a Paddle model, and which it is in words."""

    name: str
    files: ModelFiles


def check_installed(*, runs: bool) -> None:
    """Raise EngineError where Paddle2ONNX is not to be had; with `runs`, ONNX Runtime either."""
    if importlib.util.find_spec("paddle2onnx") is None:
        raise EngineError(
            f"paddle2onnx is not installed in {sys.executable}, and makes the ONNX file: "
            "`pip install 'paddle-edge[onnx]'` on x86-64 Linux with CPython 3.10"
        )
    words = runtime.missing() if runs else ""
    if words:
        raise EngineError(f"{words}: the file is judged by it")


def export_onnx(form: Form, out: Path) -> Target:
    """Write `out`, whose name ends in .onnx, in fp32, and say what it is.

    Its batch and other dimensions are dynamic where the model's are. Raises ConvertError where
    Paddle2ONNX refuses the model, dies or hangs; OSError where the disk is full.
    """
    files = form.files
    assert files.params is not None
    with temporary_folder() as temporary:
        facts = temporary / "facts.json"
        config = {
            "model": str(files.model.absolute()),
            "params": str(files.params.absolute()),
            "out": str(out),
            "facts": str(facts),
            "opset": _OPSET,
        }
        size = files.model.stat().st_size + files.params.stat().st_size
        # It leaves its own intermediate files behind where it dies.
        with Child([sys.executable, str(_CHILD)], env={"TMPDIR": str(temporary)}) as child:
            child.limit_memory(_OWN_BYTES + _OF_MODEL * size)
            child.tell(json.dumps(config).encode())
            returncode = child.wait(_TIME_LIMIT_S)
            log = child.log().decode("utf-8", "replace")
        if returncode != 0 or not facts.is_file():
            out.unlink(missing_ok=True)
            check_room(out.parent)
            raise ConvertError(f"Paddle2ONNX {_ended(returncode, log)}")
        told: dict[str, Any] = json.loads(read_bytes(facts))
    checksums = Checksums(out).read_on()
    return Target(
        file=out.name,
        sha256=checksums.sha256,
        crc32=checksums.crc32,
        bytes=checksums.bytes,
        opt_version=told["version"],
        ops=told["ops"],
        kernels={},
        calib=0,
        weights=told["weights"],
        precision="fp32",
        onnx=OnnxFacts(told["opset"], form.name),
    )


def _ended(returncode: int | None, log: str) -> str:
    """How Paddle2ONNX ended on what it could not convert: of which operator, where it got so far,
    and with its last words if it had any."""
    unknown = sorted(set(re.findall(r"(\w+) is not registered in new ir mappers", log)))
    if unknown:
        return f"has no form in ONNX for {', '.join(unknown)}"
    steps = re.findall(r"(Start|Finish) export pd_op\.(\w+), op_id", log)
    at = f" at {steps[-1][1]}" if steps and steps[-1][0] == "Start" else ""
    if returncode is None:
        return f"took longer than {_TIME_LIMIT_S:g} s and was stopped{at}"
    # What it says of its progress is no reason; its own reasons are coloured.
    plain = re.sub(r"\x1b\[[\d;]*m", "", log)
    said = [line for line in plain.splitlines() if not line.startswith(_PREFIX)]
    ended = how_it_ended(returncode) if returncode else "ended without writing a file"
    return f"{ended}{at}; its last words: {last_words(chr(10).join(said).encode())}"
