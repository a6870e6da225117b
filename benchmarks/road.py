"""Runs the commands of docs/road.md, one after the other, and writes below each what it printed.

    python benchmarks/road.py --work FOLDER

FOLDER is made, and gets what the page takes to be there: weights as training saves them, and
photographs. A block that names an emulated board is run where one is set up
(PADDLE_EDGE_LITE_RUN_AARCH64, PADDLE_EDGE_SYSROOT_AARCH64); otherwise it keeps what it printed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from lite_opt.demo.packages import photos

__all__ = ["PAGE", "blocks", "prepare", "walk", "with_outputs"]

PAGE = Path(__file__).parents[1] / "docs" / "road.md"
NETWORK = "SqueezeNet1_1"
_BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```\n.*?^```\n)?", re.S | re.M)
_PHOTOS, _SIDE = 48, 256
_END = "--- end of block"
# What a terminal would be told of a job, and numbers of processes.
_JOBS = re.compile(r"^\[\d+\].*\n|^.*: line \d+:.*Terminated.*\n", re.M)


def prepare(folder: Path) -> None:
    """Weights of random numbers that are settled, under the name of the trained ones, and crops of
    the demo's photographs, drawn by a seed."""
    zoo = Path(__file__).with_name("zoo.py")
    file = folder / f"{NETWORK}_pretrained.pdparams"
    subprocess.run(
        [sys.executable, zoo, "checkpoint", NETWORK, file], check=True, capture_output=True
    )
    (folder / "photos").mkdir()
    pictures = [Image.open(photo).convert("RGB") for photo in photos()]
    generator = np.random.default_rng(0)
    for index in range(_PHOTOS):
        picture = pictures[index % len(pictures)]
        side = int(min(picture.size) * generator.uniform(0.5, 1.0))
        left, top = (int(generator.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE))
        crop.save(folder / "photos" / f"{index:04d}.png")


def blocks(page: str) -> list[str]:
    """The command blocks of a page, in order."""
    return [found[1] for found in _BLOCK.finditer(page)]


def walk(folder: Path, page: str, env: Mapping[str, str]) -> dict[str, str]:
    """Run the blocks of a page in a folder, in one shell; returns what each printed.

    Blocks for an emulated board are left out where none is set up. Raises RuntimeError, with what
    was printed, where a command ends with another exit code than 0.
    """
    board = bool(env.get("PADDLE_EDGE_LITE_RUN_AARCH64"))
    printed = {}
    with _shell(folder, env) as say:
        for block in blocks(page):
            if board or "--device qemu" not in block:
                printed[block] = say(block)
    return printed


@contextmanager
def _shell(folder: Path, env: Mapping[str, str]) -> Iterator[Callable[[str], str]]:
    shell = subprocess.Popen(
        ["bash", "-e"],
        cwd=folder,
        env={**env, "COLUMNS": "98"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert shell.stdin is not None and shell.stdout is not None

    def say(block: str) -> str:
        shell.stdin.write(f"{block}\necho; echo '{_END}'\n")
        shell.stdin.flush()
        lines = []
        for line in shell.stdout:
            if line.strip() == _END:
                return _JOBS.sub("", "".join(lines)).strip("\n")
            lines.append(line)
        raise RuntimeError(f"{block}\nended with code {shell.wait()}:\n{''.join(lines)}")

    try:
        say("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT")
        yield say
    finally:
        shell.stdin.close()
        shell.stdout.close()
        shell.wait(60)


def with_outputs(page: str, printed: Mapping[str, str]) -> str:
    """The page with what its blocks printed below them; a block that was left out keeps its own."""

    def put(found: re.Match[str]) -> str:
        text = printed.get(found[1])
        if text is None:
            return found[0]
        plain = "\n".join(line.rstrip() for line in text.splitlines())
        return f"```bash\n{found[1]}```\n\n```\n{plain}\n```\n"

    return _BLOCK.sub(put, page)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="docs/road.md, run and written")
    parser.add_argument("--work", type=Path, required=True, help="a folder to make")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    prepare(options.work)
    page = PAGE.read_text(encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    printed = walk(options.work, page, {**os.environ, "PATH": path})
    PAGE.write_text(with_outputs(page, printed), encoding="utf-8")


if __name__ == "__main__":
    main()
