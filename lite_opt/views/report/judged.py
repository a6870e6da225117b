"""A candidate of a report, what it offers, and which one to ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lite_opt.judge.compare import Report
from lite_opt.judge.evidence import Evidence, emulated, evidence
from lite_opt.judge.rates import Rate
from lite_opt.judge.recommend import Offer, recommended
from lite_opt.views.report.names import place
from lite_opt.views.report.sources import Known
from py_runner.formats.run import Run

__all__ = ["NOTHING", "Judged", "agreement", "loss", "offers", "points_lost", "recommendation"]

NOTHING = Known(None, None, {})


@dataclass(frozen=True)
class Judged:
    """A candidate: its run, the report on it, the folder that it was read from, and what else is
    known of it."""

    run: Run
    report: Report
    folder: str = ""
    known: Known = NOTHING

    @property
    def seen(self) -> Evidence:
        """What its verdict rests on."""
        return evidence(self.report)

    def offer(self, board: str | None) -> Offer:
        """What it gives and costs: instructions on the board, where they were counted, else its
        median latency, unless that is an emulator's."""
        about = self.report.candidate
        cost, unit = about["latency"].get("p50_ms"), f"ms on {place(about)}"
        if about["engine"] == "paddle":  # no latency of what ships: not to be compared with one
            unit = f"ms of the server's engine on {place(about)}"
        if board is not None and board in self.known.instructions:
            cost, unit = self.known.instructions[board] / 1e6, f"M instructions on {board}"
        elif emulated(about):
            cost = None
        return Offer(self.seen.status, loss(self.report)[0], cost, unit, self.known.bytes)


def recommendation(judged: Sequence[Judged]) -> tuple[int, str] | None:
    """Which candidate to ship, and why; None where none holds its limits."""
    return recommended(offers(judged))


def offers(judged: Sequence[Judged]) -> list[Offer]:
    """What each gives and costs, on the board that most of them were counted on: of several such
    on the one that most of them ran on, else the first."""
    boards = [board for one in judged for board in one.known.instructions]
    ran = [one.report.candidate["device"] for one in judged]
    board = max(boards, key=lambda name: (boards.count(name), ran.count(name)), default=None)
    return [one.offer(board) for one in judged]


def agreement(report: Report) -> Rate | None:
    """The first of the shares that both say alike."""
    return next((rate for rate in report.rates if not rate.at_most), None)


def points_lost(report: Report) -> Rate | None:
    """What is lost by the labels, where there are any."""
    return next((rate for rate in report.rates if rate.name.endswith("points lost")), None)


def loss(report: Report) -> tuple[float | None, str]:
    """The share of answers that are lost, and what it is of: by labels, else by agreement, else by
    the cosine."""
    lost, alike = points_lost(report), agreement(report)
    if lost is not None:
        return lost.value / 100, f"share lost ({lost.name.partition(',')[0]})"
    if alike is not None:
        return 1 - alike.value, f"answers that differ ({alike.name})"
    return 1 - min(output.cosine for output in report.outputs), "1 - cosine"
