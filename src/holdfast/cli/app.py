"""The program `holdfast`: finds the command, and turns errors into one message and an exit code."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from holdfast.config import nearest
from holdfast.errors import HoldfastError

# Command → one line for the overview. The module `holdfast.cli.<command>` holds its `command`.
COMMANDS = {
    "train": "train on DATA; the same command again goes on where it stopped",
    "val": "loss and accuracy of a model on labelled pictures",
    "predict": "class names and probabilities for pictures",
    "show": "a labelled grid of pictures",
    "inspect": "names, types, shapes and counts in a checkpoint",
    "verify": "prove every byte of a run, a checkpoint or a file",
    "prove": "replay a stretch of a run, killed and not; compare the bits",
    "models": "the models by name, and what is in one",
    "demo": "one minute: train, be killed, resume, compare the bytes",
}


class _Commands(click.Group):
    """Loads a command's module when the command is asked for, so that `--help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"holdfast.cli.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {args[0]!r}.{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="holdfast")
def cli() -> None:
    """Train an image model from a folder of pictures, and never lose a step."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 usage, 3 data, 4 a gate failed, 130/143 stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.path[0] != "":
        sys.path.insert(0, "")  # `package.module:Class` means the user's folder, as with `python -m`
    try:
        code = cli.main(arguments, prog_name="holdfast", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # click makes the one of the other
        print("stopped", file=sys.stderr)
        code = 130
    except HoldfastError as error:
        code = _show(error, error.exit_code, arguments)
    except Exception as error:  # a bug or something the machine did: one line for the user, the rest on request
        code = _show(error, 1, arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _show(error: Exception, code: int, arguments: list[str]) -> int:
    if "--traceback" in arguments:
        import traceback

        traceback.print_exc()
    elif isinstance(error, HoldfastError):
        print(f"holdfast: {error}", file=sys.stderr)
    else:
        text = " ".join(str(error).split())[:500]
        print(
            f"holdfast: unexpected {type(error).__name__}: {text}\nRun again with --traceback to see where.",
            file=sys.stderr,
        )
    return code
