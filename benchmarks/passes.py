"""Writes docs/passes.md: every repair rule and pass, from their docstrings.

python benchmarks/passes.py
"""

from __future__ import annotations

from pathlib import Path

from lite_opt.passes.repair import OPTIONAL, RULES, SETTLED
from lite_opt.passes.rule import Rule

PAGE = Path(__file__).parents[1] / "docs" / "passes.md"


def row(rule: Rule) -> str:
    """One rule of the table."""
    what = " ".join(rule.what.split()).replace("|", "\\|")
    because = " ".join(rule.because.split()).replace("|", "\\|")
    return f"| `{rule.name}` | {what} | {because} |"


def page() -> str:
    """The document."""
    head = ["| rule | what it does | because |", "|---|---|---|"]
    lines = [
        "# Repairs and passes",
        "",
        "Written by `python benchmarks/passes.py` from the docstrings in `lite_opt/passes`.",
        "Applied in this order; `convert --explain` shows what each did to a model. Paths are",
        "those of Paddle Lite's sources.",
        "",
        *head,
        *(row(rule) for rule in RULES),
        "",
        "## The passes of `optimize`",
        "",
        "Repeated until none of them finds any work.",
        "",
        *head,
        *(row(rule) for rule in SETTLED),
        "",
        "`convert --no-passes NAME` leaves one out, `--no-passes all` all of these: "
        + ", ".join(f"`{name}`" for name in OPTIONAL)
        + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
