"""What a loop may hand to a save: looked at before anything is written, in words that say what was expected."""

from __future__ import annotations

import operator
import re

from holdfast.errors import CheckpointError

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RESERVED_PARTS = {"state", "manifest", "evaluation"}  # files of ours have these names
# Of a name: file systems take 255 bytes, with `.safetensors` and what a file has in front while it is written.
_MOST_LETTERS = 200


def step_of(step: object) -> int:
    """Returns a step as an int: also NumPy's and torch's whole numbers, which loops count in, are steps.

    Raises:
        CheckpointError: it is no whole number, or below 0.
    """
    try:
        number = -1 if isinstance(step, bool) else operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise CheckpointError(f"A checkpoint cannot be of step {step!r}; steps are whole numbers and count from 0.")
    return number


def check_parts(parts: object) -> None:
    """Sees that `parts` is a mapping, and each of its names one that a file can have.

    Raises:
        CheckpointError: it is not.
    """
    if not (hasattr(parts, "keys") and hasattr(parts, "items")):
        raise CheckpointError(
            f"The parts of a checkpoint are a {type(parts).__name__}; expected a dict of names to what has a "
            'state_dict, such as {"model": model, "optimizer": optimizer}.'
        )
    for part in parts.keys():  # noqa: SIM118  # a ModuleDict will do
        if not isinstance(part, str) or not _PART.fullmatch(part) or part in _RESERVED_PARTS:
            raise CheckpointError(
                f"A part cannot be called {part!r}; use letters from a to z, digits, '_', '-' and '.', none of the "
                f"last two first, and not {', '.join(sorted(_RESERVED_PARTS))}: it becomes the name of a file."
            )
        if len(part) > _MOST_LETTERS:
            raise CheckpointError(
                f"A part cannot be called {part[:20] + '…'!r}: its name has {len(part)} letters, and a file's has room "
                f"for {_MOST_LETTERS} at most."
            )
