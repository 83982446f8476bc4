"""State that no checkpoint holds: plain attributes of a model or a loss, buffers that are not saved, own generators.

Nothing here is restored, so what a model keeps there and uses is lost when a run is killed. `prove` looks here for the
reason when two replays part ways.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import tensor_bytes

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_SHOWN = 40  # characters: what is longer is told by its digest
_MOST_ITEMS = 1000  # of a list or dict: a larger one is no counter


def hidden_state(model: nn.Module, loss: Any = None) -> dict[str, str]:
    """Returns dotted name → short text of its value, for everything that can change and is in no checkpoint.

    Args:
        model: its registered parameters and persistent buffers are left out: checkpoints hold them.
        loss: a function or an object; when it is a module, its parameters and buffers count too, since no checkpoint
            holds those.
    """
    found: dict[str, str] = {}
    _add_modules(found, "model", model)
    if isinstance(loss, nn.Module):
        _add_modules(found, "loss", loss)
        _add(found, "loss", dict(loss.state_dict()))
    else:
        _add(found, "loss", getattr(loss, "__dict__", {}))
    return found


def _add_modules(found: dict[str, str], prefix: str, root: nn.Module) -> None:
    for path, module in root.named_modules():
        name = f"{prefix}.{path}" if path else prefix
        _add(found, name, {k: v for k, v in vars(module).items() if k not in _OF_EVERY_MODULE})
        _add(found, name, {k: module._buffers.get(k) for k in sorted(module._non_persistent_buffers_set)})


def _add(found: dict[str, str], prefix: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        text = _text(value)
        if text is not None:
            found[f"{prefix}.{key}"] = text if len(text) <= _SHOWN else digest_of(text.encode())


def _text(value: Any, depth: int = 3) -> str | None:
    """Returns a text that differs when the value does; None for what cannot be looked into."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, Tensor):
        known = value.layout is torch.strided and not value.is_meta and not value.is_quantized
        return digest_of(tensor_bytes(value)) if known else None
    if isinstance(value, np.ndarray) and value.dtype != object:
        return digest_of(value.tobytes())
    if isinstance(value, torch.Generator):
        return digest_of(tensor_bytes(value.get_state()))
    if isinstance(value, random.Random):
        return repr(value.getstate())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, (list, tuple, deque, dict, set, frozenset)) and len(value) <= _MOST_ITEMS and depth:
        items = value.items() if isinstance(value, dict) else sorted(value, key=repr) if _unordered(value) else value
        texts = [_text(item, depth - 1) for item in items]
        return None if None in texts else f"[{', '.join(text for text in texts if text)}]"
    return None


def _unordered(value: Any) -> bool:
    return isinstance(value, (set, frozenset))
