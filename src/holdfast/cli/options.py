"""Options that several commands share, and the flags of `train`, made from the settings' own declarations."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import click

from holdfast.config import FIELDS, Config

Command = Callable[..., Any]


class Result(Protocol):
    """What a command of the toolbox returns: itself as JSON values, and as lines of text."""

    def to_json(self) -> Any:
        """Returns it as JSON values."""

    def lines(self) -> Iterable[str]:
        """Returns it as text."""


json_option = click.option("--json", "as_json", is_flag=True, help="data as JSON on stdout, talk on stderr")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="say only what went wrong")
split_option = click.option("--split", metavar="FILE", help="divide DATA as this table says: see `holdfast split`")
fold_option = click.option("--fold", type=click.IntRange(1), help="which fold of --split is val; the others are train")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps")


def traceback_option(command: Command) -> Command:
    """Adds --traceback, which `app.main` looks for among the arguments."""
    return click.option("--traceback", is_flag=True, expose_value=False, help="show where an error arose")(command)


def setting_options(command: Command) -> Command:
    """Adds a flag for every setting that has one, in the order of their declaration; values reach `flags` by name."""
    hints = typing.get_type_hints(Config)
    for name, field in reversed(FIELDS.items()):
        flags = field.metadata["flags"]
        if not flags:
            continue
        text = field.metadata["help"]
        if field.metadata["choices"]:
            text += f" ({', '.join(field.metadata['choices'])})"
        if isinstance(field.default, (int, float, str)) and not isinstance(field.default, bool):
            text += f"  [{field.default}]"
        if hints[name] is bool:
            option = click.option(*flags, name, default=None, help=text)
        else:
            # DATA is an argument as well, so its flag answers to another name.
            target = "data_flag" if name == "data" else name
            option = click.option(*flags, target, default=None, metavar=_metavar(hints[name]), help=text)
        command = option(command)
    return command


def print_json(value: Any) -> None:
    """Prints JSON on stdout."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that is no text, or a terminal that has no such letters
        text = json.dumps(value, indent=1)
    click.echo(text)


def print_result(result: Result, *, as_json: bool) -> int:
    """Prints what a tool of the toolbox did, as JSON or as lines that fit the terminal; returns the exit code 0."""
    if as_json:
        print_json(result.to_json())
        return 0
    from holdfast.cli.quick_look import terminal_width
    from holdfast.toolbox.text import wrapped

    for line in result.lines():
        click.echo("\n".join(wrapped(line, terminal_width())))
    return 0


def _metavar(hint: Any) -> str:
    kinds = {int: "N", float: "X"}
    return next((text for kind, text in kinds.items() if hint in (kind, kind | None)), "TEXT")
