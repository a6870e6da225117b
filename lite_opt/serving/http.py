"""The HTTP door: the protocol's addresses, pictures, metrics and the page."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from lite_opt.serving import protocol
from lite_opt.serving.bodies import body_of, kind_of, picture_of
from lite_opt.serving.desk import Desk
from lite_opt.serving.guard import Guard
from lite_opt.serving.refusals import Refusal
from lite_opt.serving.served import Served
from lite_opt.views.templates import filled

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["application", "version_of_kit"]

_NAME = "paddle-edge"
_LONG_JSON = 1 << 15  # bytes, from which on it is read in a thread
_JSON_KINDS = ("", "application/json", "application/octet-stream")
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_MOST_TOP = 1000


def application(desk: Desk) -> Guard:
    """What is served over HTTP, as an ASGI application."""
    from starlette.routing import Route, Router

    doors = _Doors(desk)
    model, version = "/v2/models/{name}", "/versions/{version}"
    routes = [
        Route("/", doors.page),
        Route("/metrics", doors.metrics),
        Route("/v2", doors.server),
        Route("/v2/health/live", doors.live),
        Route("/v2/health/ready", doors.ready),
        Route("/v2/models", doors.models),
        Route("/predict/{name}", doors.predict, methods=["POST"]),
    ]
    for path in (model, model + version):
        routes += [
            Route(path, doors.model),
            Route(f"{path}/ready", doors.model_ready),
            Route(f"{path}/infer", doors.infer, methods=["POST"]),
        ]
    return Guard(Router(routes, redirect_slashes=False), desk)


def version_of_kit() -> str:
    """The version of this package."""
    from importlib.metadata import version

    return version(_NAME)


class _Doors:
    """What is behind each address."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def page(self, _: Request) -> Response:
        from starlette.responses import HTMLResponse

        text, policy = _page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    async def metrics(self, _: Request) -> Response:
        from starlette.responses import Response

        return Response(self._desk.metrics.text(), headers={"Content-Type": _METRICS})

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        return _json({"ready": self._desk.ready}, 200 if self._desk.ready else 503)

    async def server(self, _: Request) -> Response:
        extensions = list(protocol.EXTENSIONS)
        return _json({"name": _NAME, "version": version_of_kit(), "extensions": extensions})

    async def models(self, _: Request) -> Response:
        return _json({"models": [served.about() for served in self._desk.models.values()]})

    async def model(self, request: Request) -> Response:
        about = self._served(request).metadata()
        sides = {side: protocol.specs_json(about[side]) for side in ("inputs", "outputs")}
        return _json({**about, **sides})

    async def model_ready(self, request: Request) -> Response:
        served = self._served(request)
        document = {"name": served.name, "ready": served.ready}
        return _json(document, 200 if served.ready else 503)

    async def infer(self, request: Request) -> Response:
        give_up = self._desk.give_up()
        served = self._served(request)
        kind = kind_of(request)
        if kind not in _JSON_KINDS:
            raise Refusal(415, f"the body is sent as {_JSON_KINDS[1]}, not as {kind:.80}")
        served.check_ready()
        length = request.headers.get(protocol.LENGTH_HEADER)
        async with body_of(request, self._desk) as body:
            text = len(body) if length is None else min(len(body), _digits(length))
            asked = (body, length, served.bundle.inputs)
            if text > _LONG_JSON:
                feeds, wanted = await self._desk.apart(protocol.parse_infer, *asked)
            else:
                feeds, wanted = protocol.parse_infer(*asked)
        answer = await self._desk.answer(served, feeds, give_up)
        about = {"model_name": served.name, "model_version": served.version}
        return await self._answered(about, served.named(answer), wanted)

    async def _answered(self, about: Any, outputs: Any, wanted: protocol.Wanted) -> Response:
        from starlette.responses import Response

        size = sum(value.nbytes for value in outputs.values())
        told = (about, outputs, wanted)
        if size > _LONG_JSON:
            body, length = await self._desk.apart(protocol.infer_body, *told)
        else:
            body, length = protocol.infer_body(*told)
        if length is None:
            return Response(body, media_type="application/json")
        headers = {protocol.LENGTH_HEADER: str(length)}
        return Response(body, media_type="application/octet-stream", headers=headers)

    async def predict(self, request: Request) -> Response:
        give_up = self._desk.give_up()
        served = self._served(request)
        draw, both, top = _asked(request)
        if both and "server" not in served.pools:
            raise Refusal(400, f"{served.name}: no server engine is here (--server)")
        served.check_ready()
        began = time.perf_counter()
        async with body_of(request, self._desk) as body:
            data = await picture_of(request, body)
            picture, feeds = await self._desk.apart(served.picture, data)
        document: dict[str, Any] = {
            "model_name": served.name,
            "model_version": served.version,
            "task": served.task,
            "prepare_ms": (time.perf_counter() - began) * 1e3,
        }
        if both:
            ask, roles = self._desk.ask, ("edge", "server")  # one after the other: for honest times
            answers = {role: await ask(served, role, feeds, give_up) for role in roles}
        else:
            answers = {"edge": await self._desk.answer(served, feeds, give_up)}
        for role, answer in answers.items():
            told = (served.told, role, answer, picture, draw, top)
            document[role] = await self._desk.apart(*told)
        if both:
            document["agreement"] = await self._desk.apart(_agreement, served, answers)
        return _json(document)

    def _served(self, request: Request) -> Served:
        params = request.path_params
        return self._desk.served(params["name"], params.get("version", ""))


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that it comes with: its own style and script and nothing else, and
    requests to the server that it is from."""
    text = filled("serving.html")
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    return text, (
        "default-src 'none'; img-src blob: data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; "
        f"script-src {allowed['script']}; style-src {allowed['style']}"
    )


def _agreement(served: Served, answers: Any) -> dict[str, Any]:
    report = served.agreement(answers["server"], answers["edge"])
    largest = max(output.max_probability_diff for output in report.outputs)
    return {
        "passed": bool(report),
        "top1": report.top1_agreement,
        "max_difference": largest if math.isfinite(largest) else None,
        "failures": [*report.failures, *report.unjudged],
    }


def _digits(text: str) -> int:
    return int(text[:20]) if text.isascii() and text.isdigit() else 0


def _asked(request: Request) -> tuple[bool, bool, int]:
    """Whether to draw, whether to ask the server engine too, and how many classes to tell."""
    asked = dict(request.query_params)
    flags = []
    for name in ("draw", "server"):
        text = asked.pop(name, "false").lower()
        if text not in ("true", "false", "1", "0"):
            raise Refusal(400, f"'{name}' is true or false")
        flags.append(text in ("true", "1"))
    top = asked.pop("top", "5")
    if not (top.isascii() and top.isdigit() and 0 < int(top[:9]) <= _MOST_TOP):
        raise Refusal(400, f"'top' is 1 to {_MOST_TOP}")
    if asked:
        raise Refusal(400, "there are 'draw', 'server' and 'top' to ask for")
    return flags[0], flags[1], int(top)


def _json(document: Any, status: int = 200) -> Response:
    """An answer as JSON. Raises Refusal for NaN and infinite numbers, which it has not."""
    from starlette.responses import Response

    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:
        raise Refusal(500, "the answer holds NaN or infinite numbers") from None
    return Response(text, status, media_type="application/json")
