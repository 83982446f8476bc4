"""What a person should know of an opened file before trusting that it is all: that it is one shard of several.

What is certainly no whole model is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.folder import shards_of
from holdfast.formats.lazy_tensor import LazyTensor


def remarks(where: str, tree: Any, made: str | None) -> tuple[str, ...]:
    """Returns sentences about a file that has been opened; mostly none."""
    found = []
    if "-of-" in where and (shards := shards_of(os.path.basename(where))):  # noqa: PTH119  # see sniff
        found.append(_lone_shard(where, shards))
    if made is not None and made.startswith("DeepSpeed") and isinstance(tree, dict):
        if type(tree.get("mp_world_size")) is int and tree["mp_world_size"] > 1:
            found.append(
                f"one of {tree['mp_world_size']} pieces that model parallel processes wrote; it is not the whole"
            )
        if tree.get("optimizer") is None:
            found.append("the optimizer's state lies in pieces beside it (zero_pp_rank_…) and is not read")
    return tuple(found)


def refuse_pieces(where: str, tree: Any, weights: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a file of DeepSpeed whose parameters are empty: ZeRO stage 3 keeps them elsewhere."""
    shapes = tree.get("param_shapes") if isinstance(tree, dict) else None
    tensors = [tensor for tensor in weights.values() if isinstance(tensor, LazyTensor)]
    if shapes and tensors and not any(tensor.num_values for tensor in tensors):
        raise CheckpointError(
            f"Opening {where}: it is a file of DeepSpeed whose {len(tensors)} parameters are empty; expected their "
            "values. ZeRO stage 3 keeps them in pieces: put them together with the zero_to_fp32.py beside it, and open "
            "what that writes."
        )


def _lone_shard(where: str, shards: list[str]) -> str:
    folder, own = os.path.split(where)
    there = set(os.listdir(folder or "."))  # noqa: PTH208
    index = next((name for name in sorted(there) if name.endswith(".index.json")), None)
    missing = [name for name in shards if name not in there and name != own]
    if index and not missing:
        return f"one of {len(shards)} shards; open {index} beside it, or the folder, for all of them"
    if missing:
        return f"one of {len(shards)} shards; {', '.join(missing[:2])}{' …' if len(missing) > 2 else ''} not beside it"
    return f"one of {len(shards)} shards; open the folder for all of them"
