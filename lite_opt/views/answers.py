"""What a run answered: the best classes of each sample, and how fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lite_opt.views.latency import LATENCY_HEADER, latency_rows
from lite_opt.views.table import Item, Remark, Row, table, warnings

__all__ = ["side_by_side", "view"]

_SHOWN = 10


def view(document: Mapping[str, Any]) -> Iterator[Item]:
    """A run as `paddle-edge run --json` prints it: its summary (`Run.summary()`), "run" (the
    folder), "warnings", "skipped" and "predictions" (what a task decoded).
    """
    yield from warnings(document["warnings"])
    for sample in document["skipped"]:
        yield Remark(f"skipped {sample['id']}: {sample['reason']}")
    answers = document["predictions"]
    if answers:
        title = f"Answers (first {min(len(answers), _SHOWN)} of {len(answers)})"
        rows = [
            (a["id"], "-" if a["label"] is None else str(a["label"]), _classes(a["top"]))
            for a in answers[:_SHOWN]
        ]
        yield table(title, ("sample", "label", "best classes"), rows, left=3)
    title = f"Run {document['run']}: {len(document['samples'])} samples"
    name = f"{document['engine']} {document['engine_version']}"
    yield table(title, LATENCY_HEADER, latency_rows({name: document}))


def side_by_side(
    title: str, answers: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> Item:
    """A table of the best classes that two runs, server and edge, see in each sample, one a row."""
    rows: list[Row] = []
    for server, edge in answers:
        for a, b in zip(server["top"], edge["top"]):
            rows.append((server["id"], _classes([a]), _classes([b])))
    return table(title, ("image", "server", "edge"), rows, left=3)


def _classes(top: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{c['index'] if c['name'] is None else c['name']} {c['score']:.3f}" for c in top
    )
