"""`paddle-edge completion`: commands and options that the shell completes at the Tab key."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lite_opt.cli import options as opt
from lite_opt.cli.output import tell
from lite_opt.views.table import Verbatim

__all__ = ["command"]

_VARIABLE = "_PADDLE_EDGE_COMPLETE"  # which click looks for


@click.command("completion", cls=opt.Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@opt.JSON
@opt.DEBUG
@click.pass_context
def command(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the lines that teach a shell to complete commands, options and file names.

    \b
    Examples:
      paddle-edge completion bash > ~/.local/share/bash-completion/completions/paddle-edge
      echo 'eval "$(paddle-edge completion zsh)"' >> ~/.zshrc
      paddle-edge completion fish > ~/.config/fish/completions/paddle-edge.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # one of click's own
    root = ctx.find_root()
    script = kind(root.command, {}, "paddle-edge", _VARIABLE).source()
    tell({"shell": shell, "script": script}, [Verbatim(script)], as_json=as_json)
