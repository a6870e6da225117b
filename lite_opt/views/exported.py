"""What an export made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lite_opt.exporting.export import MOST_DIFFERENCE
from lite_opt.views.table import Item, Remark, table, warnings

if TYPE_CHECKING:
    from lite_opt.exporting.export import Exported

__all__ = ["view"]


def view(done: Exported) -> Iterator[Item]:
    """It in a table, and whether it is right."""
    yield from warnings(done.warnings)
    rows = [
        ("inputs", ", ".join(f"{spec.name} {spec}" for spec in done.inputs)),
        ("outputs", ", ".join(str(spec) for spec in done.outputs)),
        ("parameters", f"{done.parameters:,}"),
        ("names of the weights", f"begin with '{done.prefix}'" if done.prefix else "as they are"),
        ("preprocessing", _preprocessing(done)),
        ("labels", str(done.labels) if done.labels else "none: give --labels"),
        ("difference", f"{done.difference:.1e} of {MOST_DIFFERENCE:.0e} of the largest value"),
    ]
    yield table(done.network, ("", f"Paddle {done.paddle}"), rows, left=2)
    if done:
        yield Remark(f"paddle-edge: {done.path} answers as the network does")
        return
    yield Remark(
        f"paddle-edge: FAILED: what Paddle saved of {done.network} does not answer as the network "
        "does; nothing was written"
    )


def _preprocessing(done: Exported) -> str:
    spec = done.image
    if spec is None:
        return "none: give --image"
    crop = f", crop {spec.crop[0]} x {spec.crop[1]}" if spec.crop else ""
    return f"{spec.color}, resize {spec.resize} {spec.size}{crop}"
