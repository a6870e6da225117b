"""The command `paddle-edge`: finds a command, and ends with its exit code or an error in one line.

Results go to standard output, progress and errors to standard error. With --json standard output
holds one JSON object and nothing else, also for errors: {"error": "...", "exit_code": 3}.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import click

from lite_opt.cli.output import forget_reader, print_json, say
from py_runner.errors import PaddleEdgeError, UsageError
from py_runner.files.faults import reason
from py_runner.files.url import shown

__all__ = ["COMMANDS", "main", "paddle_edge"]

_DONE, _FAILED, _USAGE, _FAULT, _INTERRUPTED, _TERMINATED = 0, 1, 2, 3, 130, 143

# Each command, which is `command` in the module of its name, and what the group's help says of it:
# to list them nothing has to be imported.
COMMANDS = {
    "android": "Bring bundles to the Android demo app.",
    "bench": "Measure latency, for one or more thread counts.",
    "compare": "Judge one run against another.",
    "completion": "Let your shell complete commands and options.",
    "convert": "Make a bundle of a model, and check it against the server.",
    "demo": "The whole path on real models and images.",
    "device": "Boards far away: what they are, and lite_run on them.",
    "export": "Make an inference model of a network and its trained weights.",
    "history": "What comparisons came to, and one metric over time.",
    "inspect": "What a model, .nb file, bundle or run is.",
    "layers": "The first layer at which edge and server diverge.",
    "matrix": "Models, recipes, engines, devices and data, each with each.",
    "merge": "Make one run of those of the parts of a data set.",
    "pipeline": "Make one bundle of several: detect text, turn it, read it.",
    "report": "Judge many runs by one, and say which to ship.",
    "run": "What an engine answers to samples, and how fast.",
    "sdk": "Fetch the Paddle Lite SDKs for boards and phones.",
    "serve": "Answer requests over HTTP and gRPC.",
    "sensitivity": "Which layers lose most in int8.",
    "try": "Every recipe on a model and data, and which to ship.",
    "view": "A model, bundle or run on a page, operators by cost.",
}


def main() -> None:
    """The entry point of the command; exits with the codes that DESIGN promises."""
    arguments = sys.argv[1:] or ["--help"]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    # `timeout` and `docker stop` send it: leave like any other end, so that nothing is left over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        _check_names(arguments)
        with suppress(click.exceptions.Exit):
            passed = paddle_edge.main(arguments, "paddle-edge", standalone_mode=False)
            sys.stdout.flush()  # here, where a reader that is gone is no error
            sys.exit(_FAILED if passed is False else _DONE)
        sys.exit(_DONE)
    except click.ClickException as error:
        text = " ".join(error.format_message().split())
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f" (see {error.ctx.command_path} --help)"
        _fail(text, _USAGE, as_json=as_json)
    except click.Abort:
        _fail("interrupted", _INTERRUPTED, as_json=as_json)
    except BrokenPipeError:
        forget_reader()
        sys.exit(_DONE)
    except PaddleEdgeError as error:
        _fail(str(error), error.exit_code, as_json=as_json, debug=debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{reason(error)}", _FAULT, as_json=as_json, debug=debug)
    except UnicodeEncodeError as error:
        told = error.object[error.start : error.end]
        _fail(f"a name holds {told!a}, which is no character: rename it", _FAULT, as_json=as_json)
    except Exception as error:
        text = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
        text += "; run again with --debug and report it"
        _fail(text, _FAULT, as_json=as_json, debug=debug)


def _check_names(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:  # Paddle and JSON take UTF-8 only
            raise UsageError(f"{argument!a}: this name is not UTF-8: rename it") from None


def _fail(text: str, code: int, *, as_json: bool, debug: bool = False) -> NoReturn:
    """End with an error in one line; with `debug` the traceback of the current one comes first."""
    if debug:
        traceback.print_exc()
    say(f"paddle-edge: {text}")
    if as_json:
        print_json({"error": shown(text), "exit_code": code})
    sys.exit(code)


class _Lazy(click.Command):
    """A command of the table, which is imported when it is called."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        command: click.Command = import_module(f"lite_opt.cli.{self.name}").command
        return command.make_context(info_name, args, parent, **extra)


@click.group(
    commands=[_Lazy(name, short_help=help) for name, help in COMMANDS.items()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="paddle-edge", prog_name="paddle-edge")
def paddle_edge() -> None:
    """Takes any Paddle model to ARM devices and proves that it still gives the right answers.

    \b
    Examples:
      paddle-edge demo                                  see the whole path on real models
      paddle-edge convert inference/ -o cat.bundle      a model folder becomes a bundle
      paddle-edge run cat.bundle --data photos -o edge  what the edge engine answers
      paddle-edge run inference/ --data photos -o server
      paddle-edge compare server edge                   do they agree?

    Exit codes: 0 done, 1 a check or comparison failed, 2 usage, 3 the model, a file or an engine
    is at fault.
    """


if __name__ == "__main__":
    main()
