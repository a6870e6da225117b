"""What Prometheus reads of a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lite_opt.serving.pool import Engines

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
_DIFFERENCES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0)


class Metrics:
    """Counters and histograms, in a registry of their own. Labels are names of models, of engines
    ("edge", "server"), of doors ("http", "grpc") and statuses, never what a client sends."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()
        self._gauge: Any = prometheus.Gauge
        self._text = prometheus.generate_latest

        def new(kind: Any, name: str, about: str, labels: Iterable[str], **more: Any) -> Any:
            full = f"paddle_edge_{name}"
            return kind(full, about, tuple(labels), registry=self.registry, **more)

        counter, histogram = prometheus.Counter, prometheus.Histogram
        of = ("model", "engine")
        self.requests = new(
            counter, "requests", "Requests by how they ended.", ("model", "door", "status")
        )
        self.request_s = new(
            histogram, "request_seconds", "From the head of a request to its answer.",
            ("model", "door"), buckets=_SECONDS,
        )  # fmt: skip
        self.engine_s = new(
            histogram, "engine_seconds", "Inference, as the engine's child measures it.", of,
            buckets=_SECONDS,
        )  # fmt: skip
        self.queue_s = new(
            histogram, "queue_seconds", "How long requests waited for an engine.", of,
            buckets=_SECONDS,
        )  # fmt: skip
        self.rows = new(
            histogram, "batch_rows", "Rows that ran at once, a request each time.", of,
            buckets=_ROWS,
        )  # fmt: skip
        self.deaths = new(counter, "engine_deaths", "Engines that ended and were replaced.", of)
        self.waiting = new(self._gauge, "queue_requests", "Requests that wait for an engine.", of)
        self.alive = new(self._gauge, "engines", "Engines that are there.", of)
        self.shadowed = new(
            counter, "shadow_requests",
            "Requests that the server engine was to answer too: compared, skipped, failed.",
            ("model", "result"),
        )  # fmt: skip
        self.agreed = new(
            counter, "shadow_agreed",
            "Compared requests that edge and server answered alike, within the limits of the "
            "bundle's precision, or with the same best class.", ("model", "by"),
        )  # fmt: skip
        self.difference = new(
            histogram, "shadow_difference",
            "Largest difference of probabilities (of other outputs: of the largest magnitude).",
            ("model",), buckets=_DIFFERENCES,
        )  # fmt: skip

    def watch(self, engines: Engines, model: str, role: str) -> None:
        """Show how many of these engines are there, and how many requests wait for them."""
        self.waiting.labels(model, role).set_function(lambda: engines.waiting)
        self.alive.labels(model, role).set_function(lambda: engines.alive)
        self.deaths.labels(model, role)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return bytes(self._text(self.registry))
