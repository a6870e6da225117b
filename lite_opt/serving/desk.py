"""Where both doors bring their requests: finds the model, asks its engines, keeps deadlines."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy.typing as npt

from lite_opt.serving.metrics import Metrics
from lite_opt.serving.pool import Answer
from lite_opt.serving.refusals import Refusal
from lite_opt.serving.served import Served
from lite_opt.serving.settings import Settings

__all__ = ["Desk"]

_T = TypeVar("_T")
_HANDS = 2  # threads that decode pictures and long JSON


class Desk:
    """The models that are served, and what requests to them have in common. All methods are called
    from the event loop."""

    def __init__(self, models: Mapping[str, Served], settings: Settings, metrics: Metrics) -> None:
        self.models, self.settings, self.metrics = models, settings, metrics
        self.stopping = False
        self.open_requests = self.held_bytes = self.answered = self.refused = 0
        self._hands = ThreadPoolExecutor(_HANDS, thread_name_prefix="hand")

    @property
    def ready(self) -> bool:
        """Whether all models answer, and will go on to."""
        return not self.stopping and all(served.ready for served in self.models.values())

    def served(self, name: str, version: str = "") -> Served:
        """The model of that name. Raises Refusal where there is none, or not of that version."""
        if name not in self.models:
            raise Refusal(404, f"there is no model '{name:.80}', only {', '.join(self.models)}")
        self.models[name].check_version(version)
        return self.models[name]

    def admit(self, authorization: str | None) -> None:
        """Raise Refusal for a request without the token, and where too many are under way."""
        expected = f"Bearer {self.settings.token}"
        given = (authorization or "").encode("utf-8", "replace")
        if self.settings.token and not hmac.compare_digest(given, expected.encode()):
            raise Refusal(401, "this server asks for a token: Authorization: Bearer ...")
        if self.open_requests > self.settings.at_once:
            raise Refusal(429, f"{self.settings.at_once} requests are under way", retry_after_s=1)

    def give_up(self, left_s: float | None = None) -> float:
        """When a request that begins now is late, on `time.monotonic()`; `left_s` is how long its
        client says that it waits."""
        longest = self.settings.deadline_s
        return time.monotonic() + (longest if left_s is None else min(longest, left_s))

    async def answer(
        self, served: Served, feeds: Mapping[str, npt.NDArray[Any]], give_up: float
    ) -> Answer:
        """What the edge engine answers, in time. Raises Refusal where it does not."""
        answer = await self.ask(served, "edge", feeds, give_up)
        if served.shadow is not None:
            served.shadow.take(feeds, answer)
        return answer

    async def ask(
        self, served: Served, role: str, feeds: Mapping[str, npt.NDArray[Any]], give_up: float
    ) -> Answer:
        """What an engine answers, in time: "edge" or "server". Raises Refusal where it does not."""
        served.check_ready()
        asked = served.pools[role].ask(feeds, give_up=give_up)
        try:
            answer = await asyncio.wait_for(
                asyncio.wrap_future(asked), max(0.0, give_up - time.monotonic())
            )
        except asyncio.TimeoutError:
            raise Refusal(504, "the deadline passed before an engine had answered") from None
        metrics = self.metrics
        metrics.engine_s.labels(served.name, role).observe(answer.engine_ms / 1e3)
        metrics.queue_s.labels(served.name, role).observe(answer.queue_ms / 1e3)
        metrics.rows.labels(served.name, role).observe(answer.rows)
        return answer

    async def apart(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """What takes a while and no waiting, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._hands, work, *arguments)

    def told(self, name: str, door: str, status: int, began: float) -> None:
        """Count a request that has ended."""
        if status < 400:
            self.answered += 1
        else:
            self.refused += 1
        known = name if name in self.models else ""
        self.metrics.requests.labels(known, door, str(status)).inc()
        if known:
            self.metrics.request_s.labels(known, door).observe(time.perf_counter() - began)

    def close(self) -> None:
        """End the threads."""
        self._hands.shutdown()
