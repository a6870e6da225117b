"""Serve bundles until somebody says stop: engines, checks, doors, and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lite_opt.serving.connection import HttpServer
from lite_opt.serving.desk import Desk
from lite_opt.serving.grpc_door import grpc_server
from lite_opt.serving.http import application
from lite_opt.serving.logs import log
from lite_opt.serving.metrics import Metrics
from lite_opt.serving.served import Served
from lite_opt.serving.settings import Settings
from py_runner.errors import UsageError

__all__ = ["serve"]


def serve(
    models: Sequence[Served], settings: Settings, metrics: Metrics, *, check: bool = True
) -> dict[str, Any]:
    """Serve models until SIGTERM or SIGINT, then answer what has come, and return what was done.

    The doors are open from the start; ready it is when every model has shown, on the samples of its
    bundle, that it answers as the server did. Called in the main thread.

    Returns {"answered", "refused", "failed", "address", "grpc"}; "failed" says which bundle does
    not answer as its reference, for which the server ends; None where nobody failed.

    Raises EngineError where an engine does not start, UsageError where an address is not to be had.
    """
    desk = Desk({served.name: served for served in models}, settings, metrics)
    try:
        return asyncio.run(_serve(desk, check))
    finally:
        for served in models:
            for pool in served.pools.values():
                pool.close()
        desk.close()


async def _serve(desk: Desk, check: bool) -> dict[str, Any]:
    settings = desk.settings
    try:
        http = HttpServer(application(desk), settings)
    except OSError as error:
        raise UsageError(f"{settings.host}:{settings.port}: {error.strerror or error}") from None
    grpc, grpc_port = None, None
    if settings.grpc_port is not None:
        try:
            grpc, grpc_port = grpc_server(desk)
        except RuntimeError:
            http.close()
            raise UsageError(
                f"{settings.host}:{settings.grpc_port}: is taken, or cannot be listened at"
            ) from None
    stop = _told_to_stop()
    running = asyncio.create_task(http.run_until_stopped())
    if grpc is not None:
        await grpc.start()
    address = {"address": http.address, "grpc": f"{settings.host}:{grpc_port}" if grpc else None}
    log(logging.INFO, "listening", **address)
    if not settings.loopback and not settings.token:
        log(logging.WARNING, "anybody who reaches this address may ask: give --token-file")
    failed = None
    try:
        failed = await _until(stop, asyncio.create_task(_start(desk, check)), running)
    finally:
        desk.stopping = True
        log(logging.INFO, "stopping", open_requests=desk.open_requests)
        ends = [http.stop(desk)] + ([grpc.stop(settings.grace_s)] if grpc is not None else [])
        await asyncio.gather(*ends)
        await running
    log(logging.INFO, "stopped", answered=desk.answered, refused=desk.refused)
    return {"answered": desk.answered, "refused": desk.refused, "failed": failed, **address}


def _told_to_stop() -> asyncio.Event:
    """Set when the process is told to end; told twice, it ends at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(which: signal.Signals) -> None:
        if stop.is_set():
            signal.signal(which, signal.SIG_DFL)
            signal.raise_signal(which)
        stop.set()

    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, told, which)
    return stop


async def _until(
    stop: asyncio.Event, starting: asyncio.Task[str | None], running: asyncio.Task[None]
) -> str | None:
    """Wait until the process is told to stop, or a model has failed its check, which is returned.

    Raises what starting the models, or the HTTP server, ended with.
    """
    told = asyncio.create_task(stop.wait())
    waited: set[asyncio.Task[Any]] = {told, starting, running}
    while not told.done():
        done, waited = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if starting in done and starting.result():
            return starting.result()
        if running in done:
            running.result()
    if not starting.done():
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
    return None


async def _start(desk: Desk, check: bool) -> str | None:
    """Start and check one model after the other; returns which failed its check, and why."""
    loop = asyncio.get_running_loop()
    for served in desk.models.values():
        served.why = await loop.run_in_executor(None, _started, served, check)
        served.state = "failed" if served.why else "ready"
        if served.why:
            log(logging.ERROR, "failed", model=served.name, text=served.why)
            return f"{served.bundle.path}: {served.why}"
        log(logging.INFO, "ready", **_about(served), checked=check)
    return None


def _started(served: Served, check: bool) -> str:
    for pool in served.pools.values():
        pool.start()
    return served.check() if check else ""


def _about(served: Served) -> Mapping[str, Any]:
    return {"model": served.name, "version": served.version, "engines": served.about()["engines"]}
