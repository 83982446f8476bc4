"""The names that a converted model gets: by rules, and by those of another checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence

from holdfast.errors import CheckpointMismatch, first_of
from holdfast.toolbox.renaming import rename as rename_by
from holdfast.toolbox.source import Source, open_any, select_model


def new_names(
    source: Source, like: str | os.PathLike[str] | None, partial: bool, rules: Sequence[str]
) -> dict[str, str]:
    """Returns name in the source → name in the result, in the order in which they are written.

    Args:
        like: a checkpoint whose names the result shall have, after the rules.
        partial: whether tensors may be left over on either side.
        rules: `regex=>replacement`.

    Raises:
        ConfigError: a rule is none.
        CheckpointMismatch: names clash, or tensors are left over.
    """
    renamed = rename_by(source.tensors, rules, source.path) if rules else {name: name for name in source.tensors}
    if like is None:
        return renamed
    from holdfast.fitting import resolve_names

    opened = open_any(like)
    other = select_model(opened, source.role if source.role in opened.roles else None, "file")
    back = {new: name for name, new in renamed.items()}
    matching = resolve_names({new: source.tensors[name].shape for new, name in back.items()}, other.shapes)
    other_shape = {
        new: name for new, name in matching.pairs.items() if other.shapes[new] != source.tensors[back[name]].shape
    }
    problems = [f"{new}: nothing in {source.path} fits it" for new in matching.fresh]
    problems += [f"{name}: nothing in {other.path} fits it" for name in matching.unused]
    problems += [
        f"{name} {list(source.tensors[back[name]].shape)}: {new} is {list(other.shapes[new])}"
        for new, name in other_shape.items()
    ]
    if problems and not partial:
        raise CheckpointMismatch(
            f"Giving {source.path} the names of {other.path}: {len(matching.pairs) - len(other_shape)} tensors fit, "
            f"{len(problems)} are left over; expected none:\n{first_of(problems)}\nWrite what fits (--partial), or "
            "change names first (--rename)."
        )
    return {back[name]: new for new, name in matching.pairs.items() if new not in other_shape}
