"""What a search for the first difference finds: plain data, and the sentences that say it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lite_opt.judge.limits import LayerLimits
from lite_opt.judge.numbers import Energies, Gaps

__all__ = ["Divergence", "LayersReport", "Numbers", "Side", "Tap", "numbers", "reason"]

_Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Side:
    """The values of a variable on one side, over all samples: of those that are finite the mean,
    least and largest (0 where none is), and how many are NaN or Inf."""

    mean: float
    minimum: float
    maximum: float
    not_finite: int


@dataclass(frozen=True)
class Numbers:
    """One variable on both sides, over all samples.

    `sqnr_db` is 10 log10(sum of server^2 / sum of (server - edge)^2): inf where both are equal,
    -inf where the edge has a NaN, an Inf or a shape that the server has not. `cosine` is the
    cosine similarity; it does not see a wrong scale, so nothing is judged by it. `max_diff` is the
    largest difference relative to the largest magnitude on the server. `shape` is that of the first
    sample on the server; `note` says what else is wrong.
    """

    name: str
    shape: tuple[int, ...]
    sqnr_db: float
    cosine: float
    max_diff: float
    server: Side
    edge: Side
    note: str = ""


@dataclass(frozen=True)
class Tap:
    """A tapped layer: its variable, the type of its main operator, and what was measured there.

    `alone` covers the `layers` layers since the taps before it, and `expected_db` is the ratio of
    these layers on the server with their weights (int8, fp16: and their inputs) rounded as the
    recipe says; inf for one that does not round. What was not measured is None.
    """

    name: str
    op: str
    whole: Numbers | None
    alone: Numbers | None
    expected_db: float | None
    layers: int


@dataclass(frozen=True)
class Divergence:
    """The first layer, in the order of execution, that goes wrong.

    Args:
        name: its output variable, under which the source model knows it as well.
        op: the type of the operator at fault, as far as its operators can be told apart.
        ops: the types of all operators of the layer, in order.
        cause: "layer": fed the server's values, it gives others;
            "scale": it gives the server's values within the limits, but its input is quantized by
            a scale that does not fit them, unlike those of the other layers;
            "together": its parts are right one by one and wrong as they are optimized together;
            "accumulated": no layer is wrong alone, and the sum of their rounding is too much here;
            "fused": nothing is wrong as long as layers are tapped, and without taps it is;
            "dead": the engine refuses it, dies of it, or does not come back.
        inputs: what it reads, in the network as it runs; good, if the cause is "layer". None are
            listed for "fused" and "dead".
        output: what it makes of them, in the network as it runs; None for "dead".
        alone: what it makes of the server's values; None for "accumulated", "fused" and "dead".
        reason: the verdict in one line.
    """

    name: str
    op: str
    ops: tuple[str, ...]
    cause: str
    inputs: tuple[Numbers, ...]
    output: Numbers | None
    alone: Numbers | None
    reason: str


@dataclass(frozen=True)
class LayersReport:
    """The outcome of `first_difference`. `bool(report)` is whether nothing diverges.

    `layers` of the `operators` operators' groups can be compared (the others have no counterpart
    of the same name and rank on the server, or are not float32); `taps` are those that were, in
    the order of execution; `rounds` is how often the network was run on the edge.
    """

    divergence: Divergence | None
    engine: str
    device: str
    recipe: str
    limits: LayerLimits
    operators: int
    groups: int
    layers: int
    rounds: int
    samples: tuple[str, ...]
    taps: tuple[Tap, ...]
    warnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.divergence is None

    def to_json(self) -> dict[str, Any]:
        """All of it, with the verdict as "passed"."""
        return {"passed": bool(self), **asdict(self)}

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        if self.divergence is not None:
            return self.divergence.reason
        where = self.engine + (f" on {self.device}" if self.device != "cpu" else "")
        alone = [t.alone.sqnr_db for t in self.taps if t.alone is not None]
        whole = [t.whole.sqnr_db for t in self.taps if t.whole is not None]
        return (
            f"no layer diverges: {len(self.taps)} of {self.layers} layers tapped; the noisiest "
            f"alone has {min(alone):.0f} dB, and {min(whole):.0f} dB is the least in the network "
            f"as it runs ({self.recipe} on engine {where}, {len(self.samples)} samples)"
        )


def numbers(name: str, server: Sequence[_Array], edge: Sequence[_Array]) -> Numbers:
    """Compare a variable's values on the server with those on the edge, one array a sample each."""
    energies, gaps = Energies(), Gaps()
    wrong, note = 0, ""
    for left, right in zip(server, edge):
        if left.shape != right.shape:
            note = note or f"shape {list(right.shape)} instead of {list(left.shape)}"
            continue
        a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
        finite = np.isfinite(a) & np.isfinite(b)
        # An infinity that both have is no difference: masks of attention are made of them.
        wrong += int(np.count_nonzero(~finite & ~((a == b) | (np.isnan(a) & np.isnan(b)))))
        energies.add(a[finite], b[finite])
        gaps.add(a[finite], b[finite])
    if wrong:
        note = note or f"{wrong} values are NaN or Inf on one side only"
    return Numbers(
        name=name,
        shape=tuple(server[0].shape),
        sqnr_db=-math.inf if note else energies.sqnr_db,
        cosine=energies.cosine,
        max_diff=gaps.relative,
        server=_side(server),
        edge=_side(edge),
        note=note,
    )


def _side(values: Sequence[_Array]) -> Side:
    flat = np.concatenate([value.astype(np.float64).ravel() for value in values])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return Side(0.0, 0.0, 0.0, flat.size)
    return Side(
        float(finite.mean()), float(finite.min()), float(finite.max()), flat.size - finite.size
    )


def reason(
    name: str,
    op: str,
    operators: int,
    cause: str,
    inputs: Sequence[Numbers],
    output: Numbers,
    alone: Numbers | None,
    note: str,
) -> str:
    good = min((n.sqnr_db for n in inputs), default=math.inf)
    what = output.note or f"{output.sqnr_db:.1f} dB"
    if cause == "layer" and alone is not None:
        own = alone.note or f"{alone.sqnr_db:.1f} dB"
        return (
            f"{op} '{name}' is the first layer that diverges: inputs {good:.1f} dB, output {what}; "
            f"fed the server's values, {own}" + (f"; {note}" if note else "")
        )
    if cause == "scale" and alone is not None:
        return (
            f"{op} '{name}' is the first layer with a scale that does not fit: {note}; fed the "
            f"server's values, {alone.sqnr_db:.1f} dB"
        )
    if cause == "together" and alone is not None:
        own = alone.note or f"{alone.sqnr_db:.1f} dB"
        return (
            f"the {operators} operators that end in '{name}' are right one by one and wrong "
            f"together ({own}): the way they are fused is at fault, or one magnifies the rounding "
            "of another"
        )
    if cause == "fused":
        return (
            f"{op} '{name}' is right as long as layers are looked at, and without that {what}: the "
            "way that layers are fused is at fault"
        )
    return (
        f"no layer is wrong alone, but their rounding adds up to {what} at '{name}' "
        f"(inputs {good:.1f} dB)"
    )
