"""The run that several became: how much of it each had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lite_opt.views.latency import LATENCY_HEADER, latency_rows
from lite_opt.views.table import Item, Remark, table

__all__ = ["view"]


def view(document: Mapping[str, Any]) -> Iterator[Item]:
    """A run as `paddle-edge merge --json` prints it: `Run.about()`, "run" (the folder), "samples",
    how many, and "parts", of each "run" and "samples"."""
    for sample in document.get("failed", ()):
        yield Remark(f"failed {sample['id']}: {sample['reason']}")
    rows = [(part["run"], str(part["samples"])) for part in document["parts"]]
    yield table("Parts", ("run", "samples"), rows)
    name = f"{document['engine']} {document['engine_version']}"
    title = f"Run {document['run']}: {document['samples']} samples of {len(rows)} runs"
    yield table(title, LATENCY_HEADER, latency_rows({name: document}))
