"""What a server does, as lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

__all__ = ["log", "logging_to_stderr"]

_LOG = logging.getLogger("paddle_edge.serving")
_FIELD = "fields"


def log(level: int, event: str, **fields: Any) -> None:
    """Write an event with what belongs to it."""
    _LOG.log(level, event, extra={_FIELD: fields})


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc)
        document = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, _FIELD, {}),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=True, default=str)


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Lines of JSON on standard error, our own and what the server library warns of."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    loggers = {_LOG: logging.INFO, logging.getLogger("uvicorn"): logging.WARNING}
    loggers[logging.getLogger("grpc")] = logging.ERROR
    before = {logger: (logger.level, logger.propagate) for logger in loggers}
    for logger, level in loggers.items():
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in before.items():
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
