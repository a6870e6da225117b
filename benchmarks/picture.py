"""Writes docs/demo.svg: what `paddle-edge demo` prints, as a picture for the README.

python benchmarks/picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
# Down to the first photographs: the rest repeats the pattern.
LINES = 36


def main() -> None:
    """Run the demo and draw its first lines."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "lite_opt.cli.main", "demo", "-o", "demo"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    shown = ["$ paddle-edge demo", *done.stdout.rstrip().splitlines()[:LINES]]
    width = max(len(line.rstrip()) for line in shown)
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=width, file=nowhere)
        for line in shown:
            console.print(Text(line.rstrip()))
        console.save_svg(str(PICTURE), title="paddle-edge demo")
    print(f"wrote {PICTURE.name}")


if __name__ == "__main__":
    main()
