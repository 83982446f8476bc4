"""Names for a row of tensors without any: averages that a file keeps as a list, beside the model that has the names.

Such averages (`shadow_params` of torch_ema, diffusers, score-SDE) go through `model.parameters()`, whose order is that
of the model's own state in the same file. Number and shapes must be the same throughout, or nothing is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.fitting.optimizer_proof import never_learned


def names_of_row(row: Mapping[str, Any], roles: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, str]] | None:
    """Returns the role that has the names, and number in the row → name there.

    Args:
        row: "0", "1" … → tensor, as `open_checkpoint` calls the tensors of a list.
        roles: of the same file.

    Returns:
        None for tensors that have names, and where not exactly one model's parameters have the row's shapes in order.
    """
    if len(row) < 2 or list(row) != [str(number) for number in range(len(row))]:
        return None
    shapes = [tuple(tensor.shape) for tensor in row.values()]
    found: list[tuple[str, dict[str, str]]] = []
    for role, state in roles.items():
        tensors = {name: tensor for name, tensor in state.items() if hasattr(tensor, "shape")}
        theirs = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        buffers = never_learned(theirs, tensors)
        parameters = {name: shape for name, shape in theirs.items() if name not in buffers}
        named = any(not name.isdigit() for name in parameters)
        if named and list(parameters.values()) == shapes:
            found.append((role, dict(zip(row, parameters, strict=True))))
    return found[0] if len(found) == 1 else None
