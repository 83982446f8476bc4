"""The names that a converted model gets: by rules, and by those of another checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from holdfast.errors import CheckpointMismatch, first_of
from holdfast.fitting.renaming import rename as rename_by
from holdfast.toolbox.source import Source, open_any, select_model
from holdfast.words import count

_SHOWN = 5  # names of a list in one line


class NewNames(NamedTuple):
    """The names of a result.

    Attributes:
        pairs: name in the source → name in the result, in the order in which they are written.
        left_out: what has no partner on either side, in words: how many, and the first names. Empty unless leaving
            something over was allowed.
    """

    pairs: dict[str, str]
    left_out: list[str]


def new_names(source: Source, like: str | os.PathLike[str] | None, partial: bool, rules: Sequence[str]) -> NewNames:
    """Returns the names that the tensors of a model get.

    Args:
        like: a checkpoint whose names the result shall have, after the rules.
        partial: whether tensors may be left over on either side.
        rules: `regex=>replacement`.

    Raises:
        ConfigError: a rule is none.
        CheckpointMismatch: names clash, tensors are left over, or not one fits, whether or not some may be left over.
    """
    renamed = rename_by(source.tensors, rules, source.path) if rules else {name: name for name in source.tensors}
    if like is None:
        return NewNames(renamed, [])
    from holdfast.fitting import resolve_names

    opened = open_any(like)
    other = select_model(opened, source.role if source.role in opened.roles else None, "file")
    back = {new: name for name, new in renamed.items()}
    matching = resolve_names({new: source.tensors[name].shape for new, name in back.items()}, other.shapes)
    other_shape = {
        new: name for new, name in matching.pairs.items() if other.shapes[new] != source.tensors[back[name]].shape
    }
    num_fit = len(matching.pairs) - len(other_shape)
    problems = [f"{new}: nothing in {source.path} fits it" for new in matching.fresh]
    problems += [f"{name}: nothing in {other.path} fits it" for name in matching.unused]
    problems += [
        f"{name} {list(source.tensors[back[name]].shape)}: {new} is {list(other.shapes[new])}"
        for new, name in other_shape.items()
    ]
    if not num_fit:
        raise CheckpointMismatch(
            f"Giving {source.path} the names of {other.path}: found no tensor that fits; expected one at least:\n"
            f"{first_of(problems)}\nNothing was written. Name a checkpoint of the same model, or change names first "
            "(--rename)."
        )
    if problems and not partial:
        raise CheckpointMismatch(
            f"Giving {source.path} the names of {other.path}: {count(num_fit, 'tensor')} fit, {len(problems)} are left "
            f"over; expected none:\n{first_of(problems)}\nWrite what fits (--partial), or change names first "
            "(--rename)."
        )
    pairs = {back[name]: new for new, name in matching.pairs.items() if new not in other_shape}
    return NewNames(pairs, _left_over(source, other, pairs))


def _left_over(source: Source, other: Source, pairs: dict[str, str]) -> list[str]:
    """Returns how many names of either side have no partner of their shape, and the first of them."""
    taken = set(pairs.values())
    dropped = [name for name in source.tensors if name not in pairs]
    empty = [name for name in other.tensors if name not in taken]
    sides = [(dropped, f"of {source.path} that nothing in {other.path} fits")]
    sides += [(empty, f"of {other.path} that nothing in {source.path} fits")]
    return [f"{count(len(names), 'tensor')} {which}: {_first(names)}" for names, which in sides if names]


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" … and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
