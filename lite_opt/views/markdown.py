"""A comparison as Markdown: the comment of a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lite_opt.views.latency import LATENCY_HEADER, latency_rows
from lite_opt.views.outcome import Outcome
from lite_opt.views.text import one_line

__all__ = ["code", "markdown"]

_SIGNS = {"passed": "\N{LARGE GREEN CIRCLE}", "unsure": "\N{LARGE YELLOW CIRCLE}",
          "failed": "\N{LARGE RED CIRCLE}"}  # fmt: skip
_WORDS = {
    "passed": "It holds its limits",
    "unsure": "No limit is broken, and not enough was seen",
    "failed": "It does not hold its limits",
}
_SHOWN = 20  # of the samples that disagree


def markdown(outcome: Outcome) -> str:
    """The verdict, the checks in a table, latencies, and which samples disagree. Names stand in
    code, where nothing is a mention, a link or HTML."""
    texts = dict.fromkeys([*outcome.reasons, *outcome.unseen])
    lines = [
        f"### {_SIGNS[outcome.status]} {_WORDS[outcome.status]}, on {outcome.units}",
        "",
        code(outcome.headline),
        "",
        *(f"- {code(text)}" for text in texts),
        *([""] if texts else []),
        *_table(("figure", "value", "limit", ""), [
            (check.name, check.found, check.limit,
             {True: "pass", False: "**FAIL**", None: ""}[check.passed])
            for check in outcome.checks
        ], plain=3),
        *(_table(LATENCY_HEADER, latency_rows(outcome.latencies)) if outcome.latencies else []),
    ]  # fmt: skip
    if outcome.differing:
        shown = ", ".join(code(id_) for id_ in outcome.differing[:_SHOWN])
        more = len(outcome.differing) - _SHOWN
        lines.append(f"Disagree: {shown}" + (f" and {more} more" if more > 0 else ""))
    return "\n".join(lines).rstrip() + "\n"


def code(text: str) -> str:
    """A text as code in a line or a cell of a table, whatever it holds."""
    text = one_line(text).replace("\t", r"\t").replace("|", r"\|")
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or text[:1] in (" ", "") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], plain: int = 99) -> list[str]:
    """A table whose first `plain` columns are somebody else's text; empty cells stay empty."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [code(c) if c and place < plain else c for place, c in enumerate(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
