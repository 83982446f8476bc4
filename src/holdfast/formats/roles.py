"""What the parts of a loaded tree are for: weights by role, optimizers, schedules, and the rest.

Recognised by structure: weights are a mapping of names to tensors, or a module; an optimizer has `state` and
`param_groups`; a schedule counts `last_epoch`. Names only say which role a part has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.errors import CheckpointError
from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject
from holdfast.formats.mappings import by_text, tensor_dict
from holdfast.formats.module_tree import is_tensor, module_attributes, module_state
from holdfast.formats.nested_file import read_nested
from holdfast.formats.plain import plain
from holdfast.formats.role_names import (
    MODEL_WORDS,
    Path,
    State,
    are_no_model,
    bare_word,
    expects_weights,
    named_parts,
    own_name,
    role_of,
    split_models,
    with_averages,
)
from holdfast.formats.state_kinds import (
    arrays_as_tensors,
    as_list,
    by_name,
    halves_of,
    is_optimizer,
    is_random_state,
    is_schedule,
    is_state_dict,
    keyed_items,
    nested_arrays,
    tensors_among,
)

__all__ = ["Roles", "find_roles", "is_optimizer"]

_MAX_LEVELS = 8  # of containers above the weights; those in use have at most four
_MAX_ITEMS = 64  # of a list that may hold weights
_MAX_PARTS = 256  # models, optimizers and schedules in one file
_MAX_NESTED = 4  # files of torch within one file
_NOTHING = object()


class Roles(NamedTuple):
    """What a tree holds.

    Attributes:
        weights: role → name → tensor: "model", "ema", or what the file calls it.
        optimizers, schedules: by the file's name for them.
        metadata: everything else, as plain values.
        modules: the roles that were pickled as whole modules: every word of their names is a module's own.
    """

    weights: dict[str, State]
    optimizers: dict[str, State]
    schedules: dict[str, State]
    metadata: dict[str, Any]
    modules: frozenset[str] = frozenset()


def find_roles(tree: Any, where: str) -> Roles:
    """Takes a tree apart. Args: `where` is the file, for messages. Raises CheckpointError when it is nested too far."""
    search = _Search(where)
    rest = search.walk(tree, ())
    if aside := are_no_model(search.weights):
        search = _Search(where, aside)
        rest = search.walk(tree, ())
    metadata = rest if isinstance(rest, dict) else {} if rest is _NOTHING else {"value": rest}
    weights = named_parts(search.weights, role_of)
    if len(weights) == 1 and "ema" not in weights and bare_word(next(iter(search.weights), ("",))[-1:]) in MODEL_WORDS:
        weights = {"model": next(iter(weights.values()))}  # the words around it had to tell it from nothing
    left_whole = search.modules
    if isinstance(tree, dict) and "pytorch-lightning_version" in tree and "model" in weights:
        parts = {k: v for k, v in split_models(weights["model"]).items() if k not in weights}
        left_whole = {*left_whole, id(weights["model"])} if parts else left_whole
        weights |= parts
    weights = with_averages(weights, left_whole)
    modules = frozenset(role for role, state in weights.items() if id(state) in search.modules)
    optimizers = named_parts(search.optimizers, lambda path: own_name(path) or "optimizer")
    schedules = named_parts(search.schedules, lambda path: own_name(path) or "scheduler")
    return Roles(weights, optimizers, schedules, metadata, modules)


class _Search:
    """One walk over a tree, and what it has found."""

    def __init__(self, where: str, aside: frozenset[Path] = frozenset()) -> None:
        self.where = where
        self.aside = aside  # places whose tensors are no model's
        self.weights: dict[Path, State] = {}
        self.optimizers: dict[Path, State] = {}
        self.schedules: dict[Path, State] = {}
        self.seen: set[int] = set()
        self.parts: dict[int, tuple[dict[Path, State], State]] = {}
        self.modules: set[int] = set()
        self.nested: list[bytes] = []
        self.spent = [0]
        self.memo: dict[int, Any] = {}

    def walk(self, node: Any, path: Path) -> Any:
        """Notes what is at a node and below; returns what is left of it as a plain value, or _NOTHING."""
        data = _bytes_of(node)
        if data is not None and (inner := self._within(data)) is not None:
            node = inner
        wanted = isinstance(node, (dict, list, tuple, InertObject)) or (not path and isinstance(node, InertArray))
        wanted = wanted or (not path and is_tensor(node))
        if wanted and path not in self.aside and len(path) < _MAX_LEVELS:
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
            if isinstance(node, (list, tuple)) and (len(node) <= _MAX_ITEMS or self._begins_with_part(node)):
                return self._walk_list(node, path)
        return plain(node, self.where, self.memo)

    def _add(self, part: tuple[dict[Path, State], State], path: Path) -> None:
        """Notes a part under one more path."""
        kind, state = part
        kind[path] = state
        if len(self.weights) + len(self.optimizers) + len(self.schedules) > _MAX_PARTS:
            raise CheckpointError(
                f"Reading {self.where}: it holds more than {_MAX_PARTS} models and optimizers; expected no more. Save "
                "them in several files."
            )

    def _within(self, data: bytes) -> Any:
        """Returns the tree of a file of torch that some bytes are; None for others and for what was read before."""
        if len(self.nested) >= _MAX_NESTED or any(data is known for known in self.nested):
            return None
        tree = read_nested(data, self.where)
        if tree is not None:
            self.nested.append(data)
        return tree

    def _part(self, node: Any, path: Path) -> tuple[dict[Path, State], State] | None:
        """Returns what a node is that is a whole of its own, and its state: weights, an optimizer, a schedule."""
        if module_attributes(node) is not None and (state := module_state(node, self.where, self.spent)):
            self.modules.add(id(state))
            return self.weights, state
        expected = expects_weights(path, row=isinstance(node, (list, tuple)))
        node = by_name(by_text(node) if isinstance(node, dict) else node, expected=expected)
        keyed = _contents(node) if isinstance(node, InertObject) and not is_tensor(node) else None
        if keyed is not None:  # a mapping of a class of its own
            node = keyed
        held = node.attributes if isinstance(node, InertObject) else node
        if not isinstance(held, dict):
            return None
        if is_optimizer(held):
            return self.optimizers, {key: as_list(value) for key, value in held.items()}
        if is_schedule(held):
            return self.schedules, held
        if isinstance(node, dict):
            if expected and (layers := nested_arrays(node)):
                return self.weights, layers
            node = arrays_as_tensors(node, expected=expected)
            if is_state_dict(node, expected=expected) and not is_random_state(node, path):
                return self.weights, dict(node)
            if halves := halves_of(node):
                return self.weights, halves
        return None

    def _walk_dict(self, node: State, path: Path) -> Any:
        node = arrays_as_tensors(by_text(node))
        if (tensors := tensors_among(node, alone=not path)) and path not in self.aside:
            self._add((self.weights, tensors), path)
            node = {k: v for k, v in node.items() if k not in tensors}
        # Composer swaps the average into the model before it saves; what lies beside it is then the training's own.
        swapped = "ema_model" if node.get("ema_weights_active") is True else None
        words = {k: "trained" if k == swapped else k if type(k) is str else repr(k)[:40] for k in node}
        rest = {k: self.walk(v, (*path, words[k])) for k, v in node.items()}
        rest = {k if type(k) in (str, int) else repr(k)[:40]: v for k, v in rest.items() if v is not _NOTHING}
        return rest if rest or not node else _NOTHING

    def _walk_object(self, node: InertObject, path: Path) -> Any:
        if (keyed := _contents(node)) is not None:
            before = len(self.weights) + len(self.optimizers) + len(self.schedules)
            rest = self._walk_dict(keyed, path)
            found = len(self.weights) + len(self.optimizers) + len(self.schedules) > before
            return rest if found else plain(node, self.where, self.memo)
        held = dict(node.attributes)
        for value in node.attributes.values():
            if type(value) is bytes and isinstance(inner := self._within(value), dict):
                held |= inner
        # scikit-learn's convention: `module_` is what was fitted, `module` what it was made from.
        held = {name: value for name, value in held.items() if f"{name}_" not in held}
        before = len(self.weights) + len(self.optimizers)
        for name, value in held.items():
            if isinstance(value, (dict, list, tuple, InertObject)) and type(name) is str:
                self.walk(value, (*path, name))
        for value in node.args if type(node.args) is tuple else ():  # what it was to be made of
            if isinstance(value, (dict, list, tuple, InertObject)):
                self.walk(value, path)
        if len(self.weights) + len(self.optimizers) > before:
            return {"class": node.full_name}
        return plain(node, self.where, self.memo)

    def _begins_with_part(self, node: list[Any] | tuple[Any, ...]) -> bool:
        """Returns whether a long list is one of models: histories are long too, and are not walked through."""
        first = node[0]
        if isinstance(first, InertObject):
            first = keyed_items(first) or first
        inside = list(first.values())[:_MAX_ITEMS] if isinstance(first, dict) else []
        return any(
            module_attributes(v) is not None or (isinstance(v, dict) and is_state_dict(v)) for v in [first, *inside]
        )

    def _walk_list(self, node: list[Any] | tuple[Any, ...], path: Path) -> Any:
        if not any(isinstance(v, (dict, list, tuple, InertObject)) for v in node):
            return plain(node, self.where, self.memo)
        rest = [self.walk(value, (*path, str(number))) for number, value in enumerate(node)]
        left = [value for value in rest if value is not _NOTHING]
        return left if left else _NOTHING


def _contents(node: InertObject) -> State | None:
    """Returns what an object holds that is a mapping, by name; None for any other object."""
    held = tensor_dict(node)
    return keyed_items(node) if held is None else held


def _bytes_of(node: Any) -> bytes | None:
    """Returns bytes, also those in an `io.BytesIO`; None for anything else."""
    if isinstance(node, InertObject) and node.full_name in ("_io.BytesIO", "io.BytesIO"):
        node = node.state[0] if type(node.state) is tuple and node.state else None
    return node if type(node) is bytes else None
