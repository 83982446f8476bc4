"""The state of live objects, by name, and back into live objects: all of them, or, when anything does not fit, none.

Modules are stored under the names of the plain model (`module_names.py`), optimizers under the names of their
parameters (`optimizer_state.py`). This file knows no disk.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from holdfast.checkpoints.differences import (
    module_differences,
    place_differences,
    scheduler_differences,
    wrap_generator,
)
from holdfast.checkpoints.filling import Fill, load_module
from holdfast.checkpoints.module_names import places, plain_names, wrapper_types
from holdfast.checkpoints.optimizer_differences import ParameterNames
from holdfast.checkpoints.optimizer_state import fit_optimizer, load_optimizer, optimizer_state
from holdfast.checkpoints.random_state import GENERATOR_TYPES, RandomState
from holdfast.errors import CheckpointMismatch, HoldfastError, UnsupportedState, first_of
from holdfast.stateful import Stateful
from holdfast.words import count

Parts = Mapping[str, Any]


def state_of(parts: Parts) -> dict[str, Any]:
    """Returns the state tree of every part; parts without `state_dict` are taken as the tree itself.

    Random generators are read last: another part may draw from them while it hands out its state.

    Raises:
        UnsupportedState: a model is spread over processes, or a part hides state or is a bare random generator.
    """
    names = ParameterNames(parts)
    trees: dict[str, Any] = dict.fromkeys(parts)
    for part, value in sorted(parts.items(), key=lambda item: isinstance(item[1], RandomState)):
        if isinstance(value, Optimizer):
            trees[part] = optimizer_state(part, value, names, parts)
        elif isinstance(value, nn.Module):
            state, plain = _state_and_names(part, value)
            trees[part] = {plain[name]: tensor for name, tensor in state.items()}
        elif isinstance(value, GENERATOR_TYPES):
            raise UnsupportedState(f"Saving {part}: {wrap_generator(part, value)}")
        else:
            trees[part] = value.state_dict() if isinstance(value, Stateful) else value
    return trees


def load_into(parts: Parts, trees: Mapping[str, Any], source: str, fill: Fill | None = None) -> None:
    """Puts every part into the state `trees` holds for it, after checking that all of them fit.

    Dicts, lists, sets, deques, arrays and tensors are filled in place, the objects within them are new ones. The
    order: first the objects that only their own `load_state_dict` can check (loaders, scalers, yours), in the order
    of `parts`; then schedulers and plain values; then modules; then optimizers; random generators last, when nothing
    draws from them any more. So a refusal leaves every module, optimizer and generator as it was, and names what was
    loaded before it.

    Args:
        source: the checkpoint, for errors.
        fill: what can read values of `trees` straight into the memory of modules (`filling.py`).

    Raises:
        CheckpointMismatch: a part was not saved, or names, shapes or types differ; all differences at once.
        UnsupportedState: a module is spread over processes.
    """
    names = ParameterNames(parts)
    problems = [f"part {part!r} was not saved" for part in parts if part not in trees]
    prepared = {part: _prepared(part, value, trees, names, problems) for part, value in parts.items() if part in trees}
    if problems:
        raise CheckpointMismatch(
            f"Loading {source}: {count(len(problems), 'difference')} from what was saved:\n{first_of(problems)}\n"
            "Build the same objects as when it was saved; a part that is new can be left out of the restore."
        )
    optimizers = [value for value in parts.values() if isinstance(value, Optimizer)]
    shared = [(one, other) for one in optimizers for other in optimizers if one.param_groups is other.param_groups]
    loaded: list[str] = []
    for part, value in sorted(parts.items(), key=lambda item: _turn(item[1])):
        try:
            _load_one(value, prepared[part], fill)
        except HoldfastError:
            raise  # it says by itself what does not fit
        except Exception as error:
            raise CheckpointMismatch(
                f"Loading {source}: part {part!r} refused what was saved for it ({type(error).__name__}: {error}); "
                "expected it to take its state back. Make it as when it was saved, or leave it out of the restore. "
                f"It and what was loaded before it ({', '.join(loaded) or 'nothing'}) may have changed."
            ) from error
        loaded.append(part)
    for one, other in shared:  # an optimizer that drives another one (SAM) sets its learning rate through the groups
        other.param_groups = one.param_groups


def _prepared(part: str, value: Any, trees: Parts, names: ParameterNames, problems: list[str]) -> Any:
    """Returns what to hand to the part; adds to `problems` why it cannot take what was saved."""
    tree = trees[part]
    if isinstance(value, nn.Module):
        own, plain = _state_and_names(part, value)
        found = module_differences(part, {plain[name]: tensor for name, tensor in own.items()}, tree)
        problems += found
        if found:
            return tree
        loadable = OrderedDict((name, tree[plain[name]]) for name in own)
        # The versions of the live classes: without them a class takes its own state for one from before it had any.
        loadable._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]  # torch's own place for it
        return loadable
    if isinstance(value, Optimizer):
        return fit_optimizer(part, value, trees, names, problems)
    if isinstance(value, RandomState):
        problems += [f"{part}: {line}" for line in value.differences(tree)]
    elif isinstance(value, LRScheduler):
        found = scheduler_differences(part, value, tree)
        problems += found
        return tree if found else _of_live_kind(value.state_dict(), tree)
    elif not isinstance(value, Stateful):
        problems += place_differences(part, value, tree)
    return tree


def _turn(value: Any) -> int:
    if isinstance(value, RandomState):
        return 4
    if isinstance(value, Optimizer):
        return 3  # after its scheduler, whose restored rates it must not lose
    if isinstance(value, nn.Module):
        return 2
    return 0 if isinstance(value, Stateful) and not isinstance(value, LRScheduler) else 1


def _load_one(value: Any, tree: Any, fill: Fill | None) -> None:
    if isinstance(value, Optimizer):
        load_optimizer(value, tree)
    elif isinstance(value, nn.Module):
        load_module(value, tree, fill)
    elif isinstance(value, Stateful):
        value.load_state_dict(tree)
    elif isinstance(value, dict):
        new = {key: _on_device_of(value.get(key), item) for key, item in tree.items()}
        value.clear()
        value.update(new)
    elif isinstance(value, (list, deque)):
        new_items = [_on_device_of(*pair) for pair in zip([*value, *[None] * len(tree)], tree, strict=False)]
        value.clear()
        value.extend(new_items)
    elif isinstance(value, set):
        value.clear()
        value.update(tree)
    elif isinstance(value, np.ndarray):
        value[...] = tree
    elif value is not None:
        with torch.no_grad():
            value.copy_(tree)


def _of_live_kind(live: Any, saved: Any) -> Any:
    """Returns `saved` with dicts made counters again where a counter stands now (the milestones of MultiStepLR)."""
    if isinstance(live, Counter) and isinstance(saved, dict):
        return Counter(saved)
    if isinstance(live, dict) and isinstance(saved, dict):
        return {key: _of_live_kind(live.get(key), item) for key, item in saved.items()}
    if isinstance(live, list) and isinstance(saved, list) and len(live) == len(saved):
        return [_of_live_kind(*pair) for pair in zip(live, saved, strict=True)]
    return saved


def _on_device_of(present: Any, saved: Any) -> Any:
    """Returns `saved` with its tensors on the devices of those that stand in their places now, if any do."""
    if isinstance(saved, Tensor):
        return saved.to(present.device) if isinstance(present, Tensor) else saved
    if type(saved) is dict and isinstance(present, dict):
        return {key: _on_device_of(present.get(key), item) for key, item in saved.items()}
    if type(saved) in (list, tuple) and isinstance(present, (list, tuple)):
        padded = [*present, *[None] * len(saved)]
        return type(saved)(_on_device_of(*pair) for pair in zip(padded, saved, strict=False))
    return saved


def _state_and_names(part: str, module: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the live module's own `state_dict()`, and the plain name for each name in it.

    Raises:
        UnsupportedState: every process holds only a share of the tensors.
    """
    sharded = wrapper_types("FullyShardedDataParallel")
    if any(isinstance(p.module, sharded) and getattr(p.module, "world_size", 1) > 1 for p in places(module)):
        raise UnsupportedState(_spread(part, "FullyShardedDataParallel"))  # before the other processes are waited for
    state = module.state_dict()
    shared = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)  # not imported, not in use
    for name, tensor in state.items():
        if shared is not None and isinstance(tensor, shared):
            raise UnsupportedState(_spread(f"{part}.{name}", "DTensor"))
    return state, plain_names(module, state)


def _spread(where: str, kind: str) -> str:
    return (
        f"{where} is spread over processes ({kind}); expected whole tensors, for checkpoints of many processes are "
        "not there yet. Gather it (torch.distributed.checkpoint.state_dict.get_model_state_dict with "
        "full_state_dict=True) and give the dict it returns as the part."
    )
