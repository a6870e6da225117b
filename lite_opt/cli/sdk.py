"""`paddle-edge sdk`: Paddle Lite's SDKs for boards and phones."""

from __future__ import annotations

from typing import Any

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.sdk.archives import archives, server
from lite_opt.sdk.cache import cache_folder, cached
from lite_opt.sdk.sdk import add, get
from lite_opt.views import sdks

__all__ = ["command"]

_URL = click.option(
    "--url",
    help="A mirror: archives are at URL/VERSION/ARCHIVE. Default: PADDLE_EDGE_SDK_URL, or GitHub.",
)


@click.group("sdk")
def command() -> None:
    """Fetch the Paddle Lite SDK that the native runner on a board or phone links.

    \b
    Examples:
      paddle-edge sdk list --version v2.13-rc           what there is, and what is here already
      paddle-edge sdk get armlinux-armv8                for a 64-bit Raspberry Pi
      paddle-edge sdk add inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz
    """


@command.command("list", cls=opt.Command)
@click.argument("target", required=False)
@click.option("--version", help="One release, such as v2.13-rc. Default: all.")
@_URL
@opt.JSON
@opt.DEBUG
def _list(target: str | None, version: str | None, url: str | None, as_json: bool) -> None:
    """List the official archives, for one TARGET or all, and the SDKs in the cache.

    TARGET is armlinux-armv8, armlinux-armv7hf, android-armv8 or android-armv7.

    \b
    Examples:
      paddle-edge sdk list armlinux-armv8
      paddle-edge sdk list --version v2.12 --json
    """
    listed = archives(version=version, target=target)
    here = [
        one for one in cached() if version in (None, one.version) and target in (None, one.target)
    ]
    base = server(url)
    document = sdks.document(listed, here, server=base, cache=cache_folder())
    tell(document, sdks.view(document, base), as_json=as_json)


@command.command("get", cls=opt.Command)
@click.argument("target")
@click.option("--version", default="v2.13-rc", show_default=True, help="The release.")
@click.option(
    "--extra/--no-extra",
    default=True,
    show_default=True,
    help="With all operators: detection and OCR need them.",
)
@click.option("--fp16", is_flag=True, help="With fp16 kernels, for cores of ARMv8.2 and later.")
@click.option(
    "--stl",
    type=click.Choice(["c++_shared", "c++_static"]),
    default="c++_shared",
    show_default=True,
    help="The C++ library, on Android.",
)
@click.option("--to", type=opt.Writes(), help="Also copy the SDK into this new folder.")
@_URL
@opt.JSON
@opt.DEBUG
def _get(target: str, as_json: bool, **options: Any) -> None:
    """Download the SDK for TARGET, once, and print what PADDLE_LITE_DIR has to be.

    TARGET is armlinux-armv8, armlinux-armv7hf, android-armv8 or android-armv7. An interrupted
    download goes on where it stopped. The first archive of a name is pinned by its sha256, and
    another one of that name is refused.

    \b
    Examples:
      export PADDLE_LITE_DIR=$(paddle-edge sdk get armlinux-armv8)
      paddle-edge sdk get android-armv8 --fp16 --to app/paddle_lite
      paddle-edge sdk get armlinux-armv7hf --version v2.12 --url https://mirror.example/lite
    """
    with watching(as_json, in_bytes=True) as watch:
        found = get(target, watch=watch, **options)
    tell(found.to_json(), sdks.found(found), as_json=as_json)


@command.command("add", cls=opt.Command)
@click.argument("file", type=opt.Reads())
@click.option("--version", help="The release it belongs to, where the library does not say it.")
@opt.JSON
@opt.DEBUG
def _add(file: str, version: str | None, as_json: bool) -> None:
    """Take an archive that is here already: check it, unpack it, print its PADDLE_LITE_DIR.

    \b
    Examples:
      paddle-edge sdk add inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz
      paddle-edge sdk add my_build.tar.gz --version v2.13-rc --json
    """
    with watching(as_json) as watch:
        found = add(file, version=version, watch=watch)
    tell(found.to_json(), sdks.found(found), as_json=as_json)
