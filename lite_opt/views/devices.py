"""Devices far away: which there are, what they are, what was installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lite_opt.views.table import Item, Remark, size, table

if TYPE_CHECKING:
    from py_runner.devices.facts import Facts

__all__ = ["facts", "fleet", "installed", "listed"]


def listed(found: Sequence[Mapping[str, str]]) -> Iterator[Item]:
    """Their URLs."""
    if not found:
        yield Remark("no device is known: add a host to ~/.ssh/config, or give a URL")
        return
    yield table("Devices", ("device", "named in"), [tuple(one.values()) for one in found], left=2)


def facts(
    found: Sequence[Facts],
    failed: Iterable[str] = (),
    unlike: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Item]:
    """A row for each property, a column for each device; then what fits each, what the others
    failed by, and which are unlike the rest."""
    rows: dict[str, Callable[[Facts], str]] = {
        "machine": lambda one: one.machine,
        "board": lambda one: one.model,
        "system": lambda one: one.system,
        "programs": lambda one: f"{one.bits} bits" if one.bits else "",
        "C library": lambda one: one.libc,
        "pages": lambda one: f"{one.page_bytes} bytes" if one.page_bytes else "",
        "cores": _cores,
        "governor": lambda one: ", ".join(one.governors),
        "features": lambda one: ", ".join(one.features),
        "the engine uses": lambda one: ", ".join(one.engine_features or ()),
        "memory, free": lambda one: _of(one.memory_bytes, one.free_memory_bytes),
        "disk, free": lambda one: size(one.free_disk_bytes) if one.free_disk_bytes else "",
        "temperature": lambda one: ", ".join(
            f"{name} {value:.0f} C" for name, value in one.sensors["celsius"].items()
        ),
        "lite_run": lambda one: one.lite_run or "not installed",
    }
    cells = [(name, *(show(one) or "not said" for one in found)) for name, show in rows.items()]
    yield table(
        "What the devices are", ("", *(one.url for one in found)), cells, left=1 + len(found)
    )
    for one in found:
        for sentence in one.advice():
            yield Remark(f"{one.url}: {sentence}")
    for error in failed:
        yield Remark(error)
    if unlike:
        rows_ = [(url, "; ".join(words)) for url, words in unlike.items()]
        yield table("Unlike the others", ("device", "what"), rows_, left=2)


def fleet(document: Mapping[str, Any]) -> Iterator[Item]:
    """A row for each device of a run on several, and the outcome in one line."""
    rows = [
        (
            one["device"],
            one["lite_run"] or "-",
            str(one["samples"]),
            "-" if one["p50_ms"] is None else f"{one['p50_ms']:.2f}",
            one["answers"],
            "; ".join(one["unlike"]),
        )
        for one in document["devices"]
    ]
    header = ("device", "lite_run", "samples", "p50 ms", "answers", "unlike the others")
    yield table(f"Runs in {document['folder']}", header, rows, left=1)
    named = [one["device"] for one in document["devices"] if one["unlike"] or not one["passed"]]
    outcome = "PASSED" if document["passed"] else "FAILED"
    yield f"{outcome}: " + (f"unlike the others: {', '.join(named)}" if named else "all alike")


def installed(done: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    """What was copied where."""
    for one in done:
        yield (
            f"{one['url']}: lite_run {one['version']} ({one['build']}) runs there; copied "
            f"{one['copied']} of {one['files']} files, {size(one['sent_bytes'])}"
        )


def _cores(one: Facts) -> str:
    speeds = ", ".join(f"{one.mhz.count(mhz)} at {mhz:.0f} MHz" for mhz in sorted(set(one.mhz)))
    about = "; ".join(filter(None, (", ".join(one.parts), speeds)))
    return f"{one.cores}" + (f" ({about})" if about else "")


def _of(whole: int | None, free: int | None) -> str:
    return " of ".join(size(value) for value in (free, whole) if value is not None)
