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
flip_pairs_option = click.option("--flip-pairs", help=str(FIELDS["flip_pairs"].metadata["help"]))


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


def collection_options(command: Command) -> Command:
    """Adds the options of `train` that say how DATA is read; their values reach `opening` by name."""
    for option in reversed(
        (
            click.option("--task", type=click.Choice(FIELDS["task"].metadata["choices"]), help=_help("task")),
            click.option("--classes", help=_help("classes")),
            click.option("--image-dir", "--data-dir", help=_help("image_dir")),
            click.option("--file-column", help=_help("file_column")),
            click.option("--label-column", help=_help("label_column")),
            click.option("--target-columns", help=_help("target_columns")),
        )
    ):
        command = option(command)
    return command


def opening(*, classes: str | None, target_columns: str | None, **others: str | None) -> dict[str, Any]:
    """Returns the values of `collection_options` as the arguments of `open_data`."""
    return {"classes": _names(classes), "target_columns": _names(target_columns), **others}


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",")] if text else None


def _help(setting: str) -> str:
    return str(FIELDS[setting].metadata["help"])


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
    from holdfast.words import wrapped

    width = terminal_width()
    for line in result.lines():
        click.echo(wrapped(line, width) if width else line)
    return 0


def _metavar(hint: Any) -> str:
    kinds = {int: "N", float: "X"}
    return next((text for kind, text in kinds.items() if hint in (kind, kind | None)), "TEXT")
