"""Words for a person: counts in the singular and the plural, and lines that break between words."""

from __future__ import annotations

_COMMAND = r"`[^`]*`"
_GLUE = "\0"  # in no line of talk; textwrap takes it for a letter
_LEAST = 20  # columns for words, however deep a line is indented


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Returns "1 picture", "1,204 pictures"; `plural` where it is more than an s: "class is", "classes are"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def wrapped(text: str, width: int, margin: int | None = None) -> str:
    """Returns talk with each of its lines broken between words, into lines of at most `width` columns.

    What goes on is indented by `margin` columns, by default by four more than its line. A word that is longer than a
    line, and a command in backticks, stay whole: they are copied.
    """
    return "\n".join(_wrapped_line(line, width, margin) for line in text.split("\n"))


def _wrapped_line(line: str, width: int, columns: int | None) -> str:
    if len(line) <= width:
        return line
    import re  # with textwrap a millisecond, and a look into a file has no lines that long
    import textwrap

    margin = " " * (len(line) - len(line.lstrip()) + 4 if columns is None else min(columns, width // 2))
    glued = re.sub(_COMMAND, lambda found: found[0].replace(" ", _GLUE), line)
    lines = textwrap.wrap(
        glued, max(width, len(margin) + _LEAST), subsequent_indent=margin, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(lines).replace(_GLUE, " ")
