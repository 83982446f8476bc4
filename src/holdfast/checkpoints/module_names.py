"""The names a model's tensors have in the plain model, whatever the live one is wrapped in.

Training wraps models: for several devices, for the compiler, to recompute activations, to average weights. Most
wrappers put a word of theirs into every name (`module.`, `_orig_mod.`), at the top or at any depth. A file that keeps
those words opens only in a model that is wrapped alike. So they are left out, and found again, by walking the live
modules: what counts is the type of a module, not the text of a name, for a model may well have a layer called `module`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from torch import nn

from holdfast.errors import UnsupportedState


class _Wrapper(NamedTuple):
    home: str  # the Python module its class lives in
    type_name: str
    attribute: str  # the wrapped module is kept under this name
    hides: bool = False  # it leaves the name out of `state_dict()` by itself


_WRAPPERS = (
    _Wrapper("torch.nn.parallel.data_parallel", "DataParallel", "module"),
    _Wrapper("torch.nn.parallel.distributed", "DistributedDataParallel", "module"),
    _Wrapper("torch.optim.swa_utils", "AveragedModel", "module"),
    _Wrapper("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    _Wrapper("timm.utils.model_ema", "ModelEmaV2", "module"),
    _Wrapper("timm.utils.model_ema", "ModelEmaV3", "module"),
    _Wrapper(
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
        hides=True,
    ),
    _Wrapper(
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
        "_fsdp_wrapped_module",
        hides=True,
    ),
)


@dataclass(frozen=True)
class Place:
    """Where a module sits in the tree of its model.

    Attributes:
        module: the module.
        saved: what precedes its tensors' names in the live model's `state_dict()`; ends on a dot, or is empty.
        plain: the same in the plain model.
    """

    module: nn.Module
    saved: str
    plain: str


def places(module: nn.Module) -> Iterator[Place]:
    """Yields every module of a model, wrappers included, under every path that leads to it.

    A wrapper that has a member of the same name as the model inside it keeps its word: names stay unique. So an
    `AveragedModel` of a model that has an `n_averaged` of its own is stored as it is.
    """
    yield from _walk(Place(module, "", ""), frozenset())


def plain_names(module: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Returns the plain name for each of the names that the live model's `state_dict()` uses, in their order.

    Raises:
        UnsupportedState: two names would become one (a hook of the model's own writes names that we cannot know).
    """
    prefixes = {place.saved: place.plain for place in places(module) if place.saved != place.plain}
    plain = {name: _renamed(name, prefixes) for name in names} if prefixes else {name: name for name in names}
    if len(set(plain.values())) < len(plain):
        taken = list(plain.values())
        twice = sorted({name for name in taken if taken.count(name) > 1})
        raise UnsupportedState(
            f"Naming the tensors of a wrapped {type(module).__name__}: {', '.join(twice)} would stand for two of them; "
            "expected names that differ without the wrappers' words. Give the model inside the wrapper as the part."
        )
    return plain


def named_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields (plain name, parameter); a tied parameter comes once for each of its names, the first one first."""
    for place in places(module):
        for name, parameter in place.module._parameters.items():
            if parameter is not None:
                yield place.plain + name, parameter


def wrapper_types(*type_names: str) -> tuple[type[nn.Module], ...]:
    """Returns those of the known wrapper classes that have been imported by anybody; the others cannot be in use."""
    found = (
        getattr(sys.modules.get(wrapper.home), wrapper.type_name, None)
        for wrapper in _WRAPPERS
        if wrapper.type_name in type_names
    )
    return tuple(kind for kind in found if isinstance(kind, type))


def _walk(place: Place, above: frozenset[int]) -> Iterator[Place]:
    yield place
    above = above | {id(place.module)}
    wrapper = _wrapper(place.module)
    for name, child in place.module._modules.items():
        if child is None or id(child) in above:
            continue
        saved, plain = f"{place.saved}{name}.", f"{place.plain}{name}."
        if wrapper is not None and name == wrapper.attribute:
            saved, plain = place.saved if wrapper.hides else saved, place.plain
        yield from _walk(Place(child, saved, plain), above)


def _wrapper(module: nn.Module) -> _Wrapper | None:
    """Returns what kind of wrapper a module is, if it is one whose word can be left out."""
    wrapper = _kind_of(type(module))  # type: ignore[arg-type]  # a class is hashable, whatever attributes a Module has
    inner = module._modules.get(wrapper.attribute) if wrapper is not None else None
    if wrapper is None or inner is None:
        return None
    own = _members(module) - {wrapper.attribute}
    return wrapper if wrapper.hides or not own & _seen_through(inner) else None


@lru_cache(maxsize=4096)
def _kind_of(type_: type[nn.Module]) -> _Wrapper | None:
    """Returns which of the known wrappers a class is. It stays so: who has such a class has imported the wrapper."""
    for wrapper in _WRAPPERS:
        # Looked up, not imported: importing the compiler takes seconds, and who has not imported it does not use it.
        kind = getattr(sys.modules.get(wrapper.home), wrapper.type_name, None)
        if kind is not None and issubclass(type_, kind):
            return wrapper
    return None


def _seen_through(module: nn.Module) -> set[str]:
    """Returns the names of a module's members as they are seen from outside, wrappers looked through."""
    wrapper = _wrapper(module)
    if wrapper is None:
        return _members(module)
    inner = module._modules[wrapper.attribute]
    assert inner is not None
    return (_members(module) - {wrapper.attribute}) | _seen_through(inner)


def _members(module: nn.Module) -> set[str]:
    extra = {"_extra_state"} if type(module).get_extra_state is not nn.Module.get_extra_state else set()
    return {*module._parameters.keys(), *module._buffers.keys(), *module._modules.keys(), *extra}


def _renamed(name: str, prefixes: dict[str, str]) -> str:
    """Returns `name` with the longest prefix that belongs to a module replaced by the plain one."""
    end = len(name)
    while (end := name.rfind(".", 0, end)) >= 0:
        saved = name[: end + 1]
        if saved in prefixes:
            return prefixes[saved] + name[end + 1 :]
    return name
