"""Writes armlinux/src/probe.h: a .nb file whose network hands its input on, as an array in C.

python tests/native/make_probe.py

lite_run loads it to learn the version of the Paddle Lite library at hand, which only a loaded
model tells, before that library sees the user's model: old libraries crash on new files. It needs
no kernel but feed and fetch, and so loads on every target.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import make_model  # noqa: E402

from lite_opt.lite.optimizer import optimize  # noqa: E402
from lite_opt.model.load import load  # noqa: E402
from lite_opt.recipes import recipe  # noqa: E402

HEADER = """// A .nb file whose network hands its input on. Written by tests/native/make_probe.py.
#pragma once

namespace lite_run {

constexpr unsigned char kProbe[] = {
%s
};

}  // namespace lite_run
"""


def main() -> None:
    builder = make_model.Builder()
    program = builder.program(builder.input("x", (1, 1)))
    with tempfile.TemporaryDirectory() as folder:
        made = make_model.save(program, Path(folder, "probe"))
        nb = optimize(load(made), "arm", Path(folder, "probe.nb"), recipe=recipe("fp32"))
        data = bytearray(nb.path.read_bytes())
    end = data.index(0, 2)
    data[end:18] = bytes(18 - end)  # what opt leaves uninitialised behind its version
    rows = (data[i : i + 16] for i in range(0, len(data), 16))
    text = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    (ROOT / "armlinux" / "src" / "probe.h").write_text(HEADER % text)


if __name__ == "__main__":
    main()
