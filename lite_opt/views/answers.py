"""What a run answered: the best classes of each sample, its boxes or its text, and how fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lite_opt.views.latency import LATENCY_HEADER, latency_rows
from lite_opt.views.table import Item, Remark, Row, table, warnings

__all__ = ["SHOWN", "in_words", "rows", "side_by_side", "view"]

SHOWN = 10  # samples of which a person sees the answers


def view(document: Mapping[str, Any]) -> Iterator[Item]:
    """A run as `paddle-edge run --json` prints it: its summary (`Run.summary()`), "run" (the
    folder), "warnings", "skipped" and "predictions" (what a task decoded, of the first at least).
    """
    yield from warnings(document["warnings"])
    for sample in document["skipped"]:
        yield Remark(f"skipped {sample['id']}: {sample['reason']}")
    failed = document.get("failed", ())
    for sample in failed:
        yield Remark(f"failed {sample['id']}: {sample['reason']}")
    if failed:
        yield Remark(f"warning: {len(failed)} samples failed, and the run lacks them")
    answers = document["predictions"]
    count = document["samples"]
    count = count if isinstance(count, int) else len(count)
    if answers:
        title = f"Answers (first {min(count, SHOWN)} of {count})"
        yield table(title, *rows(answers[:SHOWN]), left=3)
    if document.get("side_by_side"):
        yield Remark(
            f"{document['side_by_side']} engines worked side by side: an engine alone is faster"
        )
    title = f"Run {document['run']}: {count} samples"
    name = f"{document['engine']} {document['engine_version']}"
    yield table(title, LATENCY_HEADER, latency_rows({name: document}))


def rows(answers: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """What a task decoded, one sample a row, and what the columns are called."""
    what = next((header for key, header in _HEADERS.items() if key in answers[0]), "answer")
    return ("sample", "label", what), [
        (a["id"], "-" if a["label"] is None else str(a["label"]), in_words(a)) for a in answers
    ]


def side_by_side(
    title: str, answers: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> Item:
    """A table of the best classes that two runs, server and edge, see in each sample, one a row."""
    classes: list[Row] = [
        (server["id"], _classes([a]), _classes([b]))
        for server, edge in answers
        for a, b in zip(server["top"], edge["top"])
    ]
    return table(title, ("image", "server", "edge"), classes, left=3)


_HEADERS = {
    "top": "best classes",
    "boxes": "boxes",
    "classes": "share of the pixels",
    "text": "text",
    "polygons": "texts",
    "points": "points",
    "nearest": "most alike",
}
_FEW = 5  # things of a sample that are named; the others are counted


def in_words(answer: Mapping[str, Any]) -> str:
    """What a sample's answer is, in a cell."""
    if "top" in answer:
        return _classes(answer["top"])
    if "text" in answer:
        text = "no dictionary" if answer["text"] is None else repr(answer["text"])
        return f"{text} {answer['score']:.3f}"
    for key, brief in (
        ("boxes", lambda b: f"{_name(b)} {b['score']:.2f}"),
        ("classes", lambda c: f"{_name(c)} {c['share']:.1%}"),
        ("polygons", lambda p: f"{p['points'][0]} {p['score']:.2f}"),
        ("points", lambda p: f"{_name(p)} ({p['x']:.1f}, {p['y']:.1f})"),
        ("nearest", lambda n: f"{n['id']} {n['cosine']:.3f}"),
    ):
        if key in answer:
            found = answer[key]
            more = f" and {len(found) - _FEW} more" if len(found) > _FEW else ""
            return (", ".join(map(brief, found[:_FEW])) or "none") + more
    return "-"


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry["index"] if entry["name"] is None else entry["name"])


def _classes(top: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{c['index'] if c['name'] is None else c['name']} {c['score']:.3f}" for c in top
    )
