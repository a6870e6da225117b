"""Paddle Lite's archives and the SDKs on this disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lite_opt.views.table import Item, Remark, Verbatim, table, warnings

if TYPE_CHECKING:
    from lite_opt.sdk.archives import Archive
    from lite_opt.sdk.library import Sdk

__all__ = ["document", "found", "view"]


def document(
    archives: Sequence[Archive], sdks: Sequence[Sdk], *, server: str, cache: Path
) -> dict[str, Any]:
    """The archives of a server, and the SDKs that are unpacked in the folder `cache`, as JSON."""
    paths = {(sdk.version, sdk.archive): str(sdk.path) for sdk in sdks}
    return {
        "archives": [
            {
                "version": archive.version,
                "target": archive.target,
                "archive": archive.name,
                "url": f"{server}/{archive.version}/{archive.name}",
                "cached": paths.get((archive.version, archive.name)),
            }
            for archive in archives
        ],
        "cached": [sdk.to_json() for sdk in sdks],
        "cache": str(cache),
    }


def view(listed: Mapping[str, Any], server: str) -> Iterator[Item]:
    """A `document` of that server in tables."""
    archives, cached = listed["archives"], listed["cached"]
    if archives:
        rows = [
            (a["version"], a["target"], a["archive"], "yes" if a["cached"] else "")
            for a in archives
        ]
        header = ("version", "target", "archive", "cached")
        yield table(f"Archives at {server}", header, rows, left=4)
    else:
        yield Remark(
            "no archive of that kind is known; 'paddle-edge sdk get' may find one all the same"
        )
    if cached:
        places = [(one["version"] or "?", one["target"], one["path"]) for one in cached]
        header_of_places = ("version", "target", "PADDLE_LITE_DIR")
        yield table(f"In {listed['cache']}", header_of_places, places, left=3)


def found(sdk: Sdk) -> Iterator[Item]:
    """One SDK; standard output holds its path alone, for $(...) in a shell."""
    yield Remark(f"Paddle Lite {sdk.version or 'of an unknown version'} for {sdk.target}")
    yield from warnings(sdk.warnings)
    yield Verbatim(str(sdk.path))
