"""The server engine beside the edge one, on a share of the requests: do they still agree?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

from lite_opt.judge.compare import Report
from lite_opt.serving.logs import log
from lite_opt.serving.metrics import Metrics
from lite_opt.serving.pool import Answer, Engines
from lite_opt.serving.refusals import Refusal
from py_runner.errors import PaddleEdgeError

__all__ = ["Shadow"]


_PATIENCE_S = 60.0  # nobody waits for these answers

# How far an edge's answer, the second, is from the server's.
Judge = Callable[[Answer, Answer], Report]


class Shadow:
    """Has a share of a model's requests answered by the server engine too, when the edge has
    answered.

    Every so many requests one is taken, not by chance. Where the server engine does not keep up
    they are skipped, and counted.
    """

    def __init__(
        self, name: str, engines: Engines, share: float, judge: Judge, metrics: Metrics
    ) -> None:
        self._name, self._engines, self._share = name, engines, share
        self._judge, self._metrics = judge, metrics
        self._owed = 0.0
        for result in ("compared", "skipped", "failed"):
            metrics.shadowed.labels(name, result)

    def take(self, feeds: Mapping[str, npt.NDArray[Any]], edge: Answer) -> None:
        """A request that the edge has answered. Returns at once. Called from one thread."""
        self._owed += self._share
        if self._owed < 1:
            return
        self._owed -= 1
        try:
            asked = self._engines.ask(feeds, give_up=time.monotonic() + _PATIENCE_S)
        except Refusal:
            self._metrics.shadowed.labels(self._name, "skipped").inc()
            return
        asked.add_done_callback(lambda done: self._compare(edge, done))

    def _compare(self, edge: Answer, done: Future[Answer]) -> None:
        """In a thread of the server's pool."""
        try:
            report = self._judge(done.result(), edge)
        except (Refusal, PaddleEdgeError) as error:
            self._metrics.shadowed.labels(self._name, "failed").inc()
            log(logging.WARNING, "shadow failed", model=self._name, text=str(error))
            return
        self.count(report)

    def count(self, report: Report) -> None:
        """Count what a comparison says."""
        metrics, name = self._metrics, self._name
        metrics.shadowed.labels(name, "compared").inc()
        metrics.agreed.labels(name, "limits").inc(bool(report))
        if report.top1_agreement is not None:
            metrics.agreed.labels(name, "best class").inc(report.top1_agreement == 1)
        metrics.difference.labels(name).observe(
            max(output.max_probability_diff for output in report.outputs)
        )
        if not report:
            why = [*report.failures, *report.unjudged]
            log(logging.WARNING, "shadow disagrees", model=name, failures=why)
