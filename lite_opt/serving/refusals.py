"""What a request is told that gets no answer."""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818  most of them are no errors of ours
    """Why a request gets no answer.

    Args:
        status: of HTTP; gRPC's is made of it.
        text: one line for whoever sent the request.
        retry_after_s: when it may be sent again, where waiting helps.
    """

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s
