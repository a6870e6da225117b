"""`paddle-edge serve`: bundles answer requests over HTTP and gRPC."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.serving.logs import logging_to_stderr
from lite_opt.serving.settings import Settings, read_token
from lite_opt.views.table import Remark
from py_runner.errors import UsageError

__all__ = ["command"]

# The extra `serve`; grpcio has no wheels for some boards, and is left alone without gRPC.
_PACKAGES = ("starlette", "uvicorn", "prometheus_client", "python_multipart")
_NUMBER = click.FloatRange(min=0, min_open=True)


@click.command("serve", cls=opt.Command)
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=opt.Reads())
@click.option("--engine", help="lite, native or onnx. Default: native on ARM, lite elsewhere.")
@click.option("--threads", type=opt.COUNT, default=1, show_default=True, help="Of each engine.")
@click.option(
    "--engines", type=opt.COUNT, default=1, show_default=True, help="Engines for each model."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=int, default=8000, show_default=True, help="For HTTP; 0: a free one.")
@click.option(
    "--grpc-port", type=int, default=8001, show_default=True, help="For gRPC; 0: a free one."
)
@click.option("--no-grpc", is_flag=True, help="HTTP only.")
@click.option(
    "--queue", type=opt.COUNT, default=32, show_default=True, help="Requests that may wait a model."
)
@click.option(
    "--max-batch",
    type=opt.COUNT,
    default=1,
    show_default=True,
    help="Rows that run at once, where the batch is free.",
)
@click.option(
    "--batch-delay-ms", type=float, default=2.0, show_default=True, help="To wait for a batch."
)
@click.option(
    "--deadline", "deadline_s", type=_NUMBER, default=30.0, show_default=True,
    help="Seconds that a request may take.",
)  # fmt: skip
@click.option(
    "--time-limit", "time_limit_s", type=_NUMBER, default=60.0, show_default=True,
    help="Seconds after which an engine is taken for hung, and replaced.",
)  # fmt: skip
@click.option(
    "--body-timeout", "body_s", type=_NUMBER, default=10.0, show_default=True,
    help="Seconds in which a request has to arrive.",
)  # fmt: skip
@click.option(
    "--grace", "grace_s", type=_NUMBER, default=30.0, show_default=True,
    help="Seconds for what is under way when the server stops.",
)  # fmt: skip
@click.option(
    "--max-body-mb", type=_NUMBER, default=16.0, show_default=True, help="Largest request, in MB."
)
@click.option(
    "--max-pixels-mp", type=_NUMBER, default=50.0, show_default=True,
    help="Largest picture, in millions of pixels.",
)  # fmt: skip
@click.option("--memory-limit", "memory_limit_gb", type=float, help="GB that an engine may take.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    type=opt.Reads(),
    help="A model that a bundle was made from: the page and /predict can ask it too.",
)
@click.option(
    "--shadow",
    type=click.Choice(["server"]),
    help="Have the server engine answer a share of the requests as well, and count agreement.",
)
@click.option(
    "--shadow-share", type=float, default=0.1, show_default=True, help="Which share of them."
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Of the server engine: cpu, cpu+onednn, gpu or gpu:N.",
)
@opt.on_server()
@click.option("--token-file", type=opt.Reads(), help="Requests have to bear what is in this file.")
@click.option("--tls-cert", type=opt.Reads(), help="Certificate chain, PEM.")
@click.option("--tls-key", type=opt.Reads(), help="Its key, PEM, without a passphrase.")
@click.option("--no-check", is_flag=True, help="Do not hold bundles to their references first.")
@opt.JSON
@opt.DEBUG
def command(
    bundles: tuple[str, ...],
    host: str,
    port: int,
    grpc_port: int,
    no_grpc: bool,
    shadow: str | None,
    shadow_share: float,
    token_file: str | None,
    no_check: bool,
    as_json: bool,
    **options: Any,
) -> bool:
    """Serve bundles by the Open Inference Protocol, over HTTP and gRPC, and a page to try them.

    It is ready when each bundle has answered its own samples as the server did. What it does is
    written to standard error, a line of JSON each. SIGTERM or Ctrl-C: it answers what has come, and
    ends.

    \b
    Examples:
      paddle-edge serve cat.bundle                       then open http://127.0.0.1:8000/
      paddle-edge serve cat.bundle det.bundle --engines 2
      paddle-edge serve cat.bundle --shadow server --server inference/ --shadow-share 0.1
      paddle-edge serve cat.bundle --host 0.0.0.0 --token-file token \\
          --tls-cert chain.pem --tls-key key.pem
    """
    try:
        for package in _PACKAGES if no_grpc else (*_PACKAGES, "grpc"):
            import_module(package)
        from lite_opt.serving.metrics import Metrics
        from lite_opt.serving.opening import Choices, opened_models
        from lite_opt.serving.server import serve
    except ImportError as error:
        raise UsageError(f"serving needs {error.name}: pip install 'paddle-edge[serve]'") from None
    metrics = Metrics()
    settings = Settings(
        host=host,
        port=port,
        grpc_port=None if no_grpc else grpc_port,
        max_body_bytes=int(options.pop("max_body_mb") * 1e6),
        max_pixels=int(options.pop("max_pixels_mp") * 1e6),
        token=read_token(token_file) if token_file else "",
        tls_cert=_path(options.pop("tls_cert")),
        tls_key=_path(options.pop("tls_key")),
        **{name: options.pop(name) for name in ("deadline_s", "body_s", "grace_s")},
    )
    choices = Choices(share=shadow_share if shadow else 0.0, **options)
    with (
        opened_models(bundles, choices, metrics, max_pixels=settings.max_pixels) as models,
        logging_to_stderr(),
    ):
        done = serve(models, settings, metrics, check=not no_check)
    text = f"stopped: {done['answered']} requests were answered, {done['refused']} refused"
    remarks = [Remark(note) for note in (done["failed"], text) if note]
    tell(done, remarks, as_json=as_json)
    return done["failed"] is None


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
