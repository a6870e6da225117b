"""`paddle-edge android`: bundles for the Android demo app."""

from __future__ import annotations

import click

from lite_opt.android import prepare
from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.views.table import Item, Verbatim, warnings

__all__ = ["command"]


@click.group("android")
def command() -> None:
    """Bring bundles to the Android app, android_demo; see docs/android.md.

    \b
    Example:
      paddle-edge android prepare cat.bundle            before `gradle -p android_demo installDebug`
    """


@command.command("prepare", cls=opt.Command)
@click.argument("bundle", type=opt.Reads())
@click.option(
    "--app",
    type=opt.Reads(),
    default="android_demo",
    show_default=True,
    help="Folder of the app's Gradle project.",
)
@click.option("--name", help="Name in the app. Default: the bundle's, without .bundle.")
@opt.FORCE
@opt.JSON
@opt.DEBUG
def _prepare(bundle: str, app: str, name: str | None, force: bool, as_json: bool) -> None:
    """Put a bundle into the app's assets, without the models of other CPUs.

    \b
    Examples:
      paddle-edge android prepare cat.bundle
      paddle-edge android prepare cat.bundle --app ~/paddle-edge/android_demo --force
    """
    prepared = prepare(bundle, app, name=name, force=force)
    shown: list[Item] = [*warnings(prepared.warnings), Verbatim(str(prepared.path))]
    tell(prepared.to_json(), shown, as_json=as_json)
