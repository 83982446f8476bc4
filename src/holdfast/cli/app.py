"""The program `holdfast`: finds the command, and turns errors into one message and an exit code."""

from __future__ import annotations

import sys
from typing import Any

from holdfast.errors import HoldfastError

# Command → one line for the overview. The module `holdfast.cli.<command>` holds its `command`.
COMMANDS = {
    "train": "train on DATA; the same command again goes on where it stopped",
    "val": "how good a model is on pictures whose targets are known",
    "predict": "what a model says of pictures: classes, labels, numbers, points",
    "check": "all that is wrong with DATA: damage, classes, copies, leaks",
    "split": "divide DATA into train, val and test, or into folds, as a table",
    "show": "a labelled grid of pictures, points drawn",
    "inspect": "names, types, shapes and counts in any checkpoint",
    "verify": "prove every byte of a run, a checkpoint or a file",
    "diff": "how the tensors and states of two checkpoints differ",
    "convert": "any checkpoint as safetensors, .pth, .npz or ours",
    "average": "the average of several checkpoints' weights",
    "prove": "replay a stretch of a run, killed and not; compare the bits",
    "models": "the models by name, and what is in one",
    "bench": "where the time of DATA goes: disk, decoding, transform, hand-over",
    "cache": "decoded pictures kept on disk: what there is, and --clear",
    "demo": "one minute: train, be killed, resume, compare the bytes",
}


def __getattr__(name: str) -> Any:
    """Gives `cli`, the group of commands as click has it; importing click takes as long as a look into a file."""
    if name != "cli":
        raise AttributeError(f"module 'holdfast.cli.app' has no attribute {name!r}")
    from holdfast.cli.commands import cli

    return cli


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 usage, 3 data, 4 a gate failed, 130/143 stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.path[0] != "":
        sys.path.insert(0, "")  # `package.module:Class` means the user's folder, as with `python -m`
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except HoldfastError as error:
        code = _show(error, error.exit_code, arguments)
    except Exception as error:  # a bug or something the machine did: one line for the user, the rest on request
        code = _show(error, 1, arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _run(arguments: list[str]) -> Any:
    from holdfast.cli.quick_look import quick_look

    code = quick_look(arguments)
    if code is not None:
        return code
    from holdfast.cli.commands import run_command

    return run_command(arguments)


def _is_of_printing(error: OSError) -> bool:
    """Whether it arose where a command or click prints; its own files have errors of their own."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = last.tb_frame.f_globals.get("__name__", "") if last is not None else ""
    return error.filename is None and where.startswith(("click.", "holdfast.cli."))


def _show(error: Exception, code: int, arguments: list[str]) -> int:
    if "--traceback" in arguments:
        import traceback

        traceback.print_exc()
    elif isinstance(error, HoldfastError):
        from holdfast.cli.quick_look import terminal_width
        from holdfast.words import wrapped

        width, text = terminal_width(sys.stderr), f"holdfast: {error}"
        print(wrapped(text, width) if width else text, file=sys.stderr)
    elif isinstance(error, OSError) and _is_of_printing(error):
        print(
            f"holdfast: Printing to standard output: {error.strerror}. Make room where it leads, and run again.",
            file=sys.stderr,
        )
    else:
        text = " ".join(str(error).split())[:500]
        print(
            f"holdfast: unexpected {type(error).__name__}: {text}\nRun again with --traceback to see where.",
            file=sys.stderr,
        )
    return code
