"""What the documents promise: default limits, names, and nothing of the machine they came from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from click.testing import CliRunner

from lite_opt.cli.main import paddle_edge
from lite_opt.judge.limits import LIMITS

ROOT = Path(__file__).parents[1]


def test_the_table_of_limits_is_the_code() -> None:
    text = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    rows = {m[1]: m[0] for m in re.finditer(r"^\| ([a-z0-9-]+) \| (\S+) \|.*$", text, re.M)}
    for name, limits in LIMITS.items():
        cells = [cell.strip() for cell in rows[name].strip("|").split("|")]
        assert float(cells[1]) == limits.cosine
        assert (float(cells[2]) if cells[2] else None) == limits.max_abs_diff
        assert (float(cells[3].split()[0]) if cells[3] else None) == limits.top1_drop


def test_commands_in_documents_exist_with_their_options() -> None:
    """Every `paddle-edge ...` line parses as far as its options go."""
    lines = []
    for file in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for block in re.findall(r"```bash\n(.*?)```", file.read_text(encoding="utf-8"), re.S):
            lines += [line for line in block.splitlines() if line.startswith("paddle-edge ")]
    assert len(lines) >= 6
    for line in lines:
        name, *arguments = line.split()[1:]
        result = CliRunner().invoke(paddle_edge, [name, *arguments, "--help"])
        assert result.exit_code == 0, line
        for option in [a for a in arguments if a.startswith("-")]:
            assert option in result.output, line


def test_documents_link_to_files_that_exist() -> None:
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_nothing_names_a_machine() -> None:
    """No absolute paths of the place where it was written."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    pattern = re.compile("/(?:ro" + "ot|ho" + "me|wo" + r"rk)/[a-z]")
    for name in filter(None, listed):
        file = ROOT / name
        if file.suffix in (".py", ".md", ".toml", ".svg", ".yml", "") and file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")  # the fuzz corpus is binary
            assert not pattern.search(text), name
