"""`paddle-edge device`: machines far away, on which bundles are run from here."""

from __future__ import annotations

from dataclasses import asdict

import click

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell, watching
from lite_opt.views import devices
from py_runner.devices.facts import Facts, unlike
from py_runner.devices.install import check_each, install
from py_runner.devices.known import known

__all__ = ["command"]


@click.group("device")
def command() -> None:
    """Boards far away: what they are, and lite_run on them.

    A device is ssh://[user@]host[:port][/folder]; ssh's own configuration, keys and known hosts are
    used. Or it is adb://SERIAL[/folder], an Android; without a serial the one that is attached. The
    folder is where lite_run and bundles are kept there, by default .paddle-edge, on an Android
    /data/local/tmp/paddle-edge.

    \b
    Examples:
      paddle-edge device check ssh://pi@raspberrypi     what it is, and what fits it
      paddle-edge device install ssh://pi@raspberrypi   put lite_run there
      paddle-edge run cat.bundle --device ssh://pi@raspberrypi -o pi.run
    """


@command.command("list", cls=opt.Command)
@opt.JSON
@opt.DEBUG
def _list(as_json: bool) -> None:
    """List the devices of a list of your own, the hosts of ssh's configuration, and what adb knows.

    The list is the file that PADDLE_EDGE_DEVICES names, by default devices.txt in the configuration
    folder of paddle-edge: a URL a line.

    \b
    Examples:
      paddle-edge device list
      PADDLE_EDGE_DEVICES=fleet.txt paddle-edge device list --json
    """
    found = [asdict(one) for one in known()]
    tell({"devices": found}, devices.listed(found), as_json=as_json)


@command.command("check", cls=opt.Command)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@opt.JSON
@opt.DEBUG
def _check(urls: tuple[str, ...], as_json: bool) -> bool:
    """Say what each device is, which build of lite_run and which recipes fit it, and why.

    Of several, those that have another version of lite_run than most, or a damaged bundle, are
    named. So are those that cannot be reached, and then the exit code is 1.

    \b
    Examples:
      paddle-edge device check ssh://pi@raspberrypi
      paddle-edge device check ssh://pi4 ssh://pi5 --json
    """
    found, failed = [], []
    for url, one in zip(urls, check_each(urls)):
        if isinstance(one, Facts):
            found.append(one)
        elif len(urls) == 1:
            raise one
        else:
            failed.append({"url": url, "error": str(one)})
    differ = unlike(found)
    document = {"devices": [one.to_json() for one in found], "failed": failed, "unlike": differ}
    shown = devices.facts(found, [one["error"] for one in failed], differ)
    tell(document, shown, as_json=as_json)
    return not failed


@command.command("install", cls=opt.Command)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@opt.JSON
@opt.DEBUG
def _install(urls: tuple[str, ...], as_json: bool) -> None:
    """Put the build of lite_run that fits on each device, and see it run there.

    The builds are the folders of `cmake --install` that PADDLE_EDGE_LITE_RUN_AARCH64,
    PADDLE_EDGE_LITE_RUN_ARM (32 bits), PADDLE_EDGE_LITE_RUN (x86-64) and, for Android,
    PADDLE_EDGE_LITE_RUN_ANDROID_ARM64 and PADDLE_EDGE_LITE_RUN_ANDROID_ARM name. Copied is what
    has changed.

    \b
    Examples:
      paddle-edge device install ssh://pi@raspberrypi
      paddle-edge device install ssh://pi@raspberrypi/opt/edge
      paddle-edge device install adb://
    """
    with watching(as_json) as watch:
        done = [asdict(install(url, watch=watch)) for url in urls]
    tell({"devices": done}, devices.installed(done), as_json=as_json)
