"""A line that a user should read, of a kind that a program can know without reading it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

Kind = Literal[
    "structure",
    "class-missing",
    "class-names-alike",
    "class-names-numeric",
    "loose-pictures",
    "dead-links",
    "unread-kinds",
    "left-out",
    "flip-pairs",
    "targets",
]


class Notice(str):
    """A line of text with its kind, so that whoever says the same in other words can leave it out.

    Args:
        text: the line.
        kind: what it is about; "structure" for what has no kind of its own.
    """

    kind: Kind

    def __new__(cls, text: str, kind: Kind = "structure") -> Self:
        """Returns `text` as a notice of a kind."""
        made = super().__new__(cls, text)
        made.kind = kind
        return made


def without(lines: Iterable[str], kind: Kind) -> list[str]:
    """Returns the lines that are no notices of a kind; a plain line has none."""
    return [line for line in lines if not (isinstance(line, Notice) and line.kind == kind)]
