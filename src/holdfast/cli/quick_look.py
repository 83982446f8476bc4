"""`holdfast inspect` as it is mostly called, without the library that parses command lines.

A look into a file takes some 50 ms, starting Python included; importing that library would double it. Whatever is not
plainly one of the forms below is left to `inspect.py`, which knows help texts and usage errors.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

_WITH_VALUE = {"--part": "part", "--role": "part", "--depth": "depth"}
_PLAIN = {"--json", "--traceback"}


def quick_look(arguments: list[str]) -> int | None:
    """Runs `inspect FILE [--json] [--part NAME] [--depth N]` and returns its exit code; None for any other call."""
    if not arguments or arguments[0] != "inspect":
        return None
    files: list[str] = []
    values: dict[str, str] = {}
    flags: set[str] = set()
    words = iter(arguments[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if word in _PLAIN:
            flags.add(word)
        elif name in _WITH_VALUE:
            value = value if equals else next(words, "")
            if not value or value.startswith("-"):
                return None
            values[_WITH_VALUE[name]] = value
        elif word.startswith("-"):
            return None
        else:
            files.append(word)
    depth = values.get("depth", "1")
    if len(files) != 1 or not (depth.isascii() and depth.isdigit()):
        return None
    return show_report(
        files[0], values.get("part"), int(depth) if "depth" in values else None, as_json="--json" in flags
    )


def show_report(file: str, part: str | None, depth: int | None, *, as_json: bool) -> int:
    """Prints what is in a checkpoint; as wide as the terminal, or whole where there is none. Returns the exit code."""
    from holdfast.toolbox.inspection import inspect_path

    report = inspect_path(file)
    if as_json:
        text = json.dumps(report.to_json(part, depth), indent=1, ensure_ascii=False)
    else:
        text = "\n".join(report.lines(part, depth, terminal_width()))
    # Half of a surrogate pair, which a file's names may hold, is no UTF-8; as an escape it is text, and JSON.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Returns how many columns there are to print on; None when the stream, by default stdout, is no terminal."""
    stream = stream or sys.stdout
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):
        return None
