"""The gRPC door: the protocol's service, over the same desk as HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lite_opt.serving import protocol
from lite_opt.serving.desk import Desk
from lite_opt.serving.http import version_of_kit
from lite_opt.serving.logs import log
from lite_opt.serving.messages import METHODS, SERVICE, messages
from lite_opt.serving.refusals import Refusal

if TYPE_CHECKING:
    import grpc

__all__ = ["grpc_server"]

_OPEN = ("ServerLive", "ServerReady")  # without a token
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ROOM_BYTES = 1 << 16  # that a message has beside its tensors
# Where the elements of a tensor stand that are not sent as bytes.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def grpc_server(desk: Desk) -> tuple[grpc.aio.Server, int]:
    """The service, bound to its port and not started, and that port. Raises RuntimeError where the
    port is taken."""
    import grpc

    settings = desk.settings
    most = settings.max_body_bytes + _ROOM_BYTES
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=settings.at_once,
    )
    kinds, door = messages(), _Door(desk)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            door.guarded(name),
            request_deserializer=kinds[f"{name}Request"].FromString,
            response_serializer=kinds[f"{name}Response"].SerializeToString,
        )
        for name in METHODS
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    if settings.tls_cert is None or settings.tls_key is None:
        return server, server.add_insecure_port(address)
    from py_runner.files.regular import read_bytes

    pair = (read_bytes(settings.tls_key), read_bytes(settings.tls_cert))
    return server, server.add_secure_port(address, grpc.ssl_server_credentials([pair]))


class _Door:
    """A method of the service each, by its name."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kinds = messages()

    def guarded(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """A method with what is refused as the status that gRPC has for it."""
        method = getattr(self, name)

        async def guarded(request: Any, context: Any) -> Any:
            import grpc

            began, status, text = time.perf_counter(), 200, ""
            self._desk.open_requests += 1
            try:
                if name not in _OPEN:
                    metadata = dict(context.invocation_metadata() or ())
                    self._desk.admit(metadata.get("authorization"))
                return await method(request, context)
            except Refusal as refusal:
                status, text = refusal.status, refusal.text
            except Exception as error:
                logging.getLogger("paddle_edge.serving").exception("internal error")
                status, text = 500, f"internal error: {type(error).__name__}"
            finally:
                self._desk.open_requests -= 1
                self._told(name, request, status, began, text)
            code = getattr(grpc.StatusCode, _CODES.get(status, "INTERNAL"))
            await context.abort(code, text)

        return guarded

    def _told(self, method: str, request: Any, status: int, began: float, text: str) -> None:
        model = getattr(request, "model_name", "") or getattr(request, "name", "")
        self._desk.told(model, "grpc", status, began)
        ms = round((time.perf_counter() - began) * 1e3, 3)
        fields = {"error": text} if text else {}
        level = logging.INFO if status < 500 else logging.WARNING
        log(level, "request", door="grpc", method=method, model=model[:80], status=status, ms=ms,
            **fields)  # fmt: skip

    async def ServerLive(self, *_: Any) -> Any:  # noqa: N802  as the protocol calls it
        return self._kinds["ServerLiveResponse"](live=True)

    async def ServerReady(self, *_: Any) -> Any:  # noqa: N802
        return self._kinds["ServerReadyResponse"](ready=self._desk.ready)

    async def ModelReady(self, request: Any, _: Any) -> Any:  # noqa: N802
        served = self._desk.served(request.name, request.version)
        return self._kinds["ModelReadyResponse"](ready=served.ready)

    async def ServerMetadata(self, *_: Any) -> Any:  # noqa: N802
        return self._kinds["ServerMetadataResponse"](
            name="paddle-edge", version=version_of_kit(), extensions=protocol.EXTENSIONS
        )

    async def ModelMetadata(self, request: Any, _: Any) -> Any:  # noqa: N802
        about = self._desk.served(request.name, request.version).metadata()
        sides = {side: protocol.specs_json(about[side]) for side in ("inputs", "outputs")}
        return self._kinds["ModelMetadataResponse"](**{**about, **sides})

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        give_up = self._desk.give_up(context.time_remaining())
        served = self._desk.served(request.model_name, request.model_version)
        served.check_ready()
        feeds = protocol.checked_feeds(_given(request), served.bundle.inputs)
        wanted = protocol.Wanted([(output.name, True) for output in request.outputs], True)
        answer = await self._desk.answer(served, feeds, give_up)
        response = self._kinds["ModelInferResponse"](
            model_name=served.name, model_version=served.version, id=request.id
        )
        for name, value, _ in protocol.wanted_outputs(served.named(answer), wanted):
            datatype = protocol.datatype(value.dtype.name)
            response.outputs.add(name=name, datatype=datatype, shape=value.shape)
            response.raw_output_contents.append(protocol.little_endian(value))
        return response


def _given(request: Any) -> dict[str, Any]:
    """The tensors of a request. Raises Refusal for what is wrong with them."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refusal(400, f"{len(request.inputs)} inputs, and {len(raw)} raw_input_contents")
    given: dict[str, Any] = {}
    for number, entry in enumerate(request.inputs):
        name, kind, shape = entry.name, entry.datatype, list(entry.shape)
        if name in given:
            raise Refusal(400, f"input '{name:.80}' stands there twice")
        if raw:
            given[name] = protocol.array_of_bytes(name, kind, shape, raw[number])
            continue
        held = _CONTENTS.get(kind)
        if held is None:
            raise Refusal(400, f"input '{name:.80}': {kind:.40} is sent as raw_input_contents")
        contents = list(getattr(entry.contents, held))
        given[name] = protocol.array_of_numbers(name, kind, shape, contents)
    return given
