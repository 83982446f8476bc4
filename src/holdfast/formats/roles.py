"""What the parts of a loaded tree are for: weights by role, optimizers, schedules, and the rest.

Recognised by structure: weights are a mapping of names to tensors, or a module; an optimizer has `state` and
`param_groups`; a schedule counts `last_epoch`. Names only say which role a part has.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from holdfast.errors import CheckpointError
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.module_tree import is_tensor, module_attributes, module_state
from holdfast.formats.plain import plain

_MAX_LEVELS = 8  # of containers above the weights; those in use have at most four
_MAX_ITEMS = 64  # of a list that may hold weights
_MAX_PARTS = 256  # models, optimizers and schedules in one file
_MODEL_WORDS = {
    "",
    "sd",
    "model",
    "net",
    "network",
    "state",
    "weights",
    "weight",
    "params",
    "param",
    "module",
    "model_state",
}
_EMA_WORDS = {"ema", "averaged", "average", "swa", "shadow", "polyak"}
_ENDINGS = r"[_.]?(state_?dict|weights|params|state|dict)$"
# Prefixes of a Lightning module's names that stand for models of their own.
_PARTS = {
    "generator", "discriminator", "gen", "disc", "g", "d", "netg", "netd", "net_g", "net_d", "encoder", "decoder",
    "student", "teacher", "actor", "critic", "generator_ema", "ema",
}  # fmt: skip

State = dict[str, Any]
Path = tuple[str, ...]
_NOTHING = object()


class Roles(NamedTuple):
    """What a tree holds.

    Attributes:
        weights: role → name → tensor: "model", "ema", or what the file calls it.
        optimizers, schedules: by the file's name for them.
        metadata: everything else, as plain values.
    """

    weights: dict[str, State]
    optimizers: dict[str, State]
    schedules: dict[str, State]
    metadata: dict[str, Any]


def find_roles(tree: Any, where: str) -> Roles:
    """Takes a tree apart. Args: `where` is the file, for messages. Raises CheckpointError when it is nested too far."""
    search = _Search(where)
    rest = search.walk(tree, ())
    metadata = rest if isinstance(rest, dict) else {} if rest is _NOTHING else {"value": rest}
    weights = _named(search.weights, _role)
    if isinstance(tree, dict) and "pytorch-lightning_version" in tree and "model" in weights:
        weights |= {k: v for k, v in _split(weights["model"]).items() if k not in weights}
    return Roles(weights, _named(search.optimizers, _own_name), _named(search.schedules, _own_name), metadata)


class _Search:
    """One walk over a tree, and what it has found."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.weights: dict[Path, State] = {}
        self.optimizers: dict[Path, State] = {}
        self.schedules: dict[Path, State] = {}
        self.seen: set[int] = set()
        self.parts: dict[int, tuple[dict[Path, State], State]] = {}
        self.spent = [0]
        self.memo: dict[int, Any] = {}

    def walk(self, node: Any, path: Path) -> Any:
        """Notes what is at a node and below; returns what is left of it as a plain value, or _NOTHING."""
        if isinstance(node, (dict, list, tuple, InertObject)) and len(path) < _MAX_LEVELS:
            if id(node) in self.parts:  # one model in two roles
                self._add(self.parts[id(node)], path)
                return _NOTHING
            inner = id(node.state) if isinstance(node, InertObject) and isinstance(node.state, dict) else id(node)
            if inner in self.seen or id(node) in self.seen:
                return plain(node, self.where, self.memo)
            self.seen |= {inner, id(node)}
            if part := self._part(node, path):
                self.parts[id(node)] = part
                self._add(part, path)
                return _NOTHING
            if isinstance(node, dict):
                return self._walk_dict(node, path)
            if isinstance(node, InertObject) and not is_tensor(node):
                return self._walk_object(node, path)
            if isinstance(node, (list, tuple)) and 0 < len(node) <= _MAX_ITEMS:
                return self._walk_list(node, path)
        return plain(node, self.where, self.memo)

    def _add(self, part: tuple[dict[Path, State], State], path: Path) -> None:
        """Notes a part under one more path."""
        kind, state = part
        kind[path] = state
        if len(self.weights) + len(self.optimizers) + len(self.schedules) > _MAX_PARTS:
            raise CheckpointError(f"Reading {self.where}: it holds more than {_MAX_PARTS} models and optimizers.")

    def _part(self, node: Any, path: Path) -> tuple[dict[Path, State], State] | None:
        """Returns what a node is that is a whole of its own, and its state: weights, an optimizer, a schedule."""
        if module_attributes(node) is not None:
            return self.weights, module_state(node, self.where, self.spent)
        held = node.attributes if isinstance(node, InertObject) else node
        if not isinstance(held, dict):
            return None
        if is_optimizer(held):
            return self.optimizers, held
        if "last_epoch" in held and ("_step_count" in held or "base_lrs" in held):
            return self.schedules, held
        if isinstance(node, dict) and is_state_dict(node) and not _is_random_state(node, path):
            return self.weights, dict(node)
        return None

    def _walk_dict(self, node: State, path: Path) -> Any:
        tensors = {k: v for k, v in node.items() if is_tensor(v) and type(k) is str and ("." in k or _has_axes(v))}
        if any("." in name and _has_axes(tensor) for name, tensor in tensors.items()):
            self.weights[path] = tensors  # weights with counters among them
            node = {k: v for k, v in node.items() if k not in tensors}
        rest = {k: self.walk(v, (*path, k if type(k) is str else repr(k)[:40])) for k, v in node.items()}
        rest = {k if type(k) in (str, int) else repr(k)[:40]: v for k, v in rest.items() if v is not _NOTHING}
        return rest if rest or not node else _NOTHING

    def _walk_object(self, node: InertObject, path: Path) -> Any:
        held = node.attributes
        before = len(self.weights) + len(self.optimizers)
        for name, value in held.items():
            if isinstance(value, (dict, list, tuple, InertObject)) and type(name) is str:
                self.walk(value, (*path, name))
        if len(self.weights) + len(self.optimizers) > before:
            return {"class": node.full_name}
        return plain(node, self.where, self.memo)

    def _walk_list(self, node: list[Any] | tuple[Any, ...], path: Path) -> Any:
        if not any(isinstance(v, (dict, list, tuple, InertObject)) for v in node):
            return plain(node, self.where, self.memo)
        rest = [self.walk(value, (*path, str(number))) for number, value in enumerate(node)]
        left = [value for value in rest if value is not _NOTHING]
        return left if left else _NOTHING


def is_optimizer(value: State) -> bool:
    """Returns whether a mapping is the state of an optimizer, as torch or fastai writes it."""
    groups, state = value.get("param_groups", value.get("hypers")), value.get("state")
    return (
        isinstance(groups, list) and isinstance(state, (dict, list)) and all(isinstance(g, dict) for g in groups[:100])
    )


def is_state_dict(value: State) -> bool:
    """Returns whether a mapping is weights: names to tensors, and not mere figures that happen to be tensors."""
    tensors = [(k, v) for k, v in value.items() if is_tensor(v)]
    others = (k for k, v in value.items() if not is_tensor(v))
    if not tensors or not all(type(k) is str for k in value):
        return False
    if not all(k.endswith("_extra_state") for k in others):
        return False
    return any("." in k or _has_axes(v) for k, v in tensors)


def _has_axes(tensor: Any) -> bool:
    """Returns whether a tensor is more than a single figure."""
    return not isinstance(tensor, LazyTensor) or bool(tensor.shape)


def _is_random_state(value: State, path: Path) -> bool:
    if path and re.search(r"rng|random|generator_state", path[-1]):
        return True
    return all(isinstance(v, LazyTensor) and v.dtype == "uint8" and len(v.shape) == 1 for v in value.values())


def _role(path: Path) -> str:
    """Returns what a part at a path of the tree is for."""
    for word in reversed(path):
        bare = re.sub(_ENDINGS, "", word.lower())
        words = set(re.split(r"[_.\-]", word.lower()))
        if words & _EMA_WORDS:
            return "ema"
        if bare in _MODEL_WORDS:
            continue
        if bare.isdigit():
            continue
        return re.sub(_ENDINGS, "", word) or word
    return "model"


def _own_name(path: Path) -> str:
    return next((word for word in reversed(path) if not word.isdigit()), "")


def _named(found: dict[Path, State], name: Any) -> dict[str, State]:
    """Gives each part a short name; parts whose short names agree get their paths, the least nested one excepted."""
    named: dict[str, State] = {}
    for path, state in sorted(found.items(), key=lambda item: len(item[0])):
        short = name(path) or "whole"
        named[short if short not in named else ".".join(path)] = state
    return named


def _split(weights: State) -> dict[str, State]:
    """Returns the models that one Lightning module consists of, if its names say so."""
    parts: dict[str, State] = {}
    for name, tensor in weights.items():
        head, _, tail = name.partition(".")
        parts.setdefault(head, {})[tail or name] = tensor
    known = [head for head in parts if head.lower() in _PARTS]
    return {head: parts[head] for head in known} if len(known) > 1 else {}
