"""The one family of errors Holdfast raises on purpose, each with the exit code its command ends on.

An error message has four parts: what we were doing, what we found, what we expected, what to do.
"""

from __future__ import annotations


class HoldfastError(Exception):
    """Anything Holdfast refuses to do. The command line prints the message as it is and exits with `exit_code`."""

    exit_code = 1


class ConfigError(HoldfastError):
    """What was asked cannot be done: an unknown option, model or key, or an `--out` that is not ours to write."""

    exit_code = 2


class DataError(HoldfastError):
    """The pictures or their labels are missing, unreadable, contradictory, or not what they were."""

    exit_code = 3


class RunError(HoldfastError):
    """A run could not go on: its folder is locked or not writable, or a save failed."""


class CheckpointError(HoldfastError):
    """A checkpoint could not be written, read or used."""


class CheckpointCorrupt(CheckpointError):
    """The bytes on disk are not the bytes that were saved."""


class CheckpointMismatch(CheckpointError):
    """The checkpoint is sound, but it does not fit the objects it should be loaded into."""


class TooLittleMatched(CheckpointMismatch):
    """Less of a model's weights fits than was asked for."""

    exit_code = 4


class UnsupportedState(CheckpointError):
    """A value that is neither a tensor nor JSON was offered for saving; the message names its path."""


def first_of(problems: list[str], limit: int = 10) -> str:
    """Lists the first `limit` problems, one a line, and says how many more there are."""
    shown = "\n".join(f"  {problem}" for problem in problems[:limit])
    more = len(problems) - limit
    return shown + (f"\n  … and {more} more" if more > 0 else "")
