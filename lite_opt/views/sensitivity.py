"""What each layer loses alone in int8: a table and a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lite_opt.views.table import Item, percent, table
from lite_opt.views.templates import filled

if TYPE_CHECKING:
    from lite_opt.judge.sensitivity import LayerLoss

__all__ = ["drawing", "view"]

_HEADER = ("layer", "operator", "weights", "parameters", "multiply-adds", "SQNR dB", "cosine")


def view(losses: Sequence[LayerLoss], model: str) -> Iterator[Item]:
    """A row for each layer."""
    rows = [
        (
            loss.layer,
            loss.op,
            loss.weight,
            f"{loss.parameters:,}",
            percent(loss.share),
            f"{loss.sqnr_db:.1f}",
            f"{loss.cosine:.6f}",
            "-" if loss.points is None else f"{loss.points:.2f}",
        )
        for loss in losses
    ]
    measure = next((loss.measure for loss in losses if loss.measure), "no task")
    yield table(
        f"Sensitivity of {model}: each layer alone in int8, worst first",
        (*_HEADER, f"points lost ({measure})"),
        rows,
        left=3,
    )


def drawing(losses: Sequence[LayerLoss], *, title: str) -> str:
    """An SVG: a bar for each layer, as long as its SQNR; short bars are what quantization hurts.

    The longest bar is the largest finite SQNR, and at least 1 dB.
    """
    longest = max([1.0, *(loss.sqnr_db for loss in losses if math.isfinite(loss.sqnr_db))])
    bars = [
        {
            "layer": loss.layer[-38:],
            "share": min(1.0, max(0.0, loss.sqnr_db / longest)),
            "color": _color(loss.sqnr_db),
            "value": f"{loss.sqnr_db:.1f}" if math.isfinite(loss.sqnr_db) else "no difference",
        }
        for loss in losses
    ]
    return filled("sensitivity.svg", title=title, bars=bars)


def _color(sqnr_db: float) -> str:
    return "#b3261e" if sqnr_db < 20 else "#c77700" if sqnr_db < 30 else "#0a7a33"
