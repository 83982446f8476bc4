"""Parameter names that an optimizer's state records, found among the names of the file's model.

The two may differ by wrappers' words, and by a part in front where one optimizer's state tells of several models.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.param_order import Shape
from holdfast.formats.names import plain_names


def match_recorded_names(
    recorded: Mapping[str, Shape | None], parameters: Mapping[str, Shape], role: str | None, source: str
) -> dict[str, str]:
    """Returns recorded name → name of the file's model, for those it has with that shape.

    Args:
        recorded: name → shape, None where it is not known.
        parameters: name → shape of the file's model.
        role: of this model in the file; the recorded names of a model may have it in front.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: names of two models fit equally well, and the role is neither.
    """
    fronts = ["", *sorted({f"{name.partition('.')[0]}." for name in recorded if "." in name})]
    found = {front: _behind(front, recorded, parameters) for front in fronts}
    most = max(len(pairs) for pairs in found.values())
    best = [front for front, pairs in found.items() if len(pairs) == most]
    if not most or "" in best:
        return found[""]
    if len(best) == 1:
        return found[best[0]]
    if f"{role}." in best:
        return found[f"{role}."]
    raise CheckpointMismatch(
        f"Reading the optimizer in {source}: its parameters {', '.join(f'{front}*' for front in best)} all fit the "
        f"model {role or 'that is loaded'}; expected those of one. Name the role of the weights, or leave the "
        "optimizer out."
    )


def _behind(front: str, recorded: Mapping[str, Shape | None], parameters: Mapping[str, Shape]) -> dict[str, str]:
    """Returns the pairs among the recorded names that have the front, compared without it."""
    bare = {name: name.removeprefix(front) for name in recorded if name.startswith(front)}
    pairs: dict[str, str] = {}
    taken: set[str] = set()
    for in_front in (None, False, True):
        if in_front is None:
            own, others = {name: name for name in parameters}, {name: name for name in bare.values()}
        else:
            own = {plain: name for name, plain in plain_names(parameters, in_front=in_front).items()}
            others = plain_names(bare.values(), in_front=in_front)
        for name, text in bare.items():
            match = own.get(others.get(text, text))
            if name in pairs or match is None or match in taken or recorded[name] not in (None, parameters[match]):
                continue
            pairs[name] = match
            taken.add(match)
    return pairs
