"""Where the edge says something else than the server: noise by layer, and the layer at fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lite_opt.views.table import Item, Row, table, warnings

if TYPE_CHECKING:
    from lite_opt.judge.layers.result import Divergence, LayersReport, Tap

__all__ = ["view"]


def view(found: LayersReport, bundle: str) -> Iterator[Item]:
    """The variables that were looked at, the numbers of the layer at fault, and the verdict."""
    if found.taps:
        yield table(
            f"Layers of {bundle} against the server, in the order of execution",
            ("layer", "operator", "as it runs dB", "alone dB", "expected dB", "layers"),
            _tap_rows(found.taps),
            left=2,
        )
    if found.divergence is not None and found.divergence.output is not None:
        yield table(
            f"{found.divergence.op} '{found.divergence.name}'",
            (
                *("variable", "shape", "SQNR dB", "cosine", "server mean", "edge mean"),
                *("server range", "edge range", "NaN"),
            ),
            _divergence_rows(found.divergence),
            left=2,
        )
    yield from warnings(found.warnings)
    yield found.verdict


def _tap_rows(taps: Sequence[Tap]) -> list[Row]:
    """The signal to noise ratio at every variable that was looked at."""
    return [
        (
            tap.name,
            tap.op,
            "-" if tap.whole is None else f"{tap.whole.sqnr_db:.1f}",
            "-" if tap.alone is None else f"{tap.alone.sqnr_db:.1f}",
            "-" if tap.expected_db is None else f"{tap.expected_db:.1f}",
            str(tap.layers),
        )
        for tap in taps
    ]


def _divergence_rows(divergence: Divergence) -> list[Row]:
    """What the layer at fault reads, what it writes, and what it writes when it is fed the
    server's values."""
    numbers = [(n.name, n) for n in divergence.inputs]
    if divergence.output is not None:
        numbers.append((f"-> {divergence.output.name}", divergence.output))
    if divergence.alone is not None:
        numbers.append((f"-> {divergence.alone.name}, alone", divergence.alone))
    return [
        (
            name,
            str(list(n.shape)),
            f"{n.sqnr_db:.1f}",
            f"{n.cosine:.6f}",
            *(f"{side.mean:.4g}" for side in (n.server, n.edge)),
            *(f"{side.minimum:.4g} to {side.maximum:.4g}" for side in (n.server, n.edge)),
            str(n.edge.not_finite),
        )
        for name, n in numbers
    ]
