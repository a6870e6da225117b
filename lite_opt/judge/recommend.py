"""Of several candidates, which are dominated by none, and which one to ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Offer", "frontier", "recommended"]

_RANK = {"passed": 0, "unsure": 1}


@dataclass(frozen=True)
class Offer:
    """What a candidate gives and costs.

    `status` is its evidence's. `loss` is the share of answers that are lost, `cost` is of one
    inference in `unit`, `bytes` the file's; None where nobody said. The lower, the better.
    """

    status: str
    loss: float | None
    cost: float | None
    unit: str
    bytes: int | None


def frontier(offers: Sequence[Offer]) -> list[int]:
    """The places of those that hold their limits and that no other such one equals or betters in
    all that both say, and betters in one: Pareto's."""
    good = [place for place, offer in enumerate(offers) if offer.status in _RANK]
    return [
        place
        for place in good
        if not any(_betters(offers[o], offers[place]) for o in good if o != place)
    ]


def recommended(offers: Sequence[Offer]) -> tuple[int, str] | None:
    """The place of the one to ship, and why; None where none holds its limits.

    Of those that are best proven the cheapest is taken, by cost, then size, then loss. Costs count
    only where all of those have one, in the same unit, as sizes do.
    """
    good = [offer for offer in offers if offer.status in _RANK]
    if not good:
        return None
    best = min(_RANK[offer.status] for offer in good)
    proven = [place for place, offer in enumerate(offers) if _RANK.get(offer.status, 9) == best]
    by_cost = _all_have([offers[p].cost for p in proven]) and (
        len({offers[p].unit for p in proven}) == 1
    )
    by_size = _all_have([offers[p].bytes for p in proven])

    def key(place: int) -> tuple[float, float, float]:
        offer = offers[place]
        return (
            (offer.cost or 0.0) if by_cost else 0.0,
            (offer.bytes or 0.0) if by_size else 0.0,
            offer.loss or 0.0,
        )

    place = min(proven, key=key)
    among = "the only one that holds its limits" if len(good) == 1 else None
    if among is None and len(proven) == 1:
        among = "the only one whose file was seen to run on ARM, with nothing left open"
    if among is None:
        how = (
            f"costs least ({offers[place].cost:,.4g} {offers[place].unit})" if by_cost
            else f"is the smallest ({(offers[place].bytes or 0) / 1e6:.2f} MB)" if by_size
            else "loses least"
        )  # fmt: skip
        among = f"of the {len(proven)} that hold their limits and are best proven it {how}"
    return place, among


def _all_have(values: Sequence[float | None]) -> bool:
    return all(value is not None for value in values)


def _betters(one: Offer, other: Offer) -> bool:
    pairs = [(one.loss, other.loss), (one.bytes, other.bytes)]
    if one.unit == other.unit:
        pairs.append((one.cost, other.cost))
    said = [(a, b) for a, b in pairs if a is not None and b is not None]
    return all(a <= b for a, b in said) and any(a < b for a, b in said)
