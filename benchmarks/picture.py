"""Writes what `paddle-edge demo` prints and draws, as pictures for the README.

docs/demo.svg        its first lines
docs/ocr-page.png    the page that it reads, edge beside server

    python benchmarks/picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parents[1] / "docs"
PICTURE, PAGE = DOCS / "demo.svg", DOCS / "ocr-page.png"
# Down to the first photographs: the rest repeats the pattern.
LINES = 55
COLOURS = 64  # of the page: it is kept small


def main() -> None:
    """Run the demo, draw its first lines, and keep the page that it drew."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "lite_opt.cli.main", "demo", "-o", "demo"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        with Image.open(Path(folder, "demo", "page", "page.png")) as page:
            page.quantize(COLOURS).save(PAGE, optimize=True)
    shown = ["$ paddle-edge demo", *done.stdout.rstrip().splitlines()[:LINES]]
    width = max(len(line.rstrip()) for line in shown)
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=width, file=nowhere)
        for line in shown:
            console.print(Text(line.rstrip()))
        console.save_svg(str(PICTURE), title="paddle-edge demo")
    print(f"wrote {PICTURE.name} and {PAGE.name}")


if __name__ == "__main__":
    main()
