"""A state tree, taken apart into named tensors and a JSON skeleton, and put together again.

A leaf is a tensor, a JSON value, or one of a few plain Python and NumPy values; anything else is an error that names
its path. In the skeleton an object with one key that begins with `$` stands for what JSON cannot say:

    {"$tensor": name}   {"$tuple": [...]}   {"$items": [[key, value], ...]}   {"$float": "nan"}
    {"$bytes": base64}  {"$array": name}    {"$scalar": [dtype, value]}       {"$size": [...]}
    {"$dtype": name}    {"$set": [...]}     {"$frozenset": [...]}             {"$complex": [real, imaginary]}
    {"$tensor": {"name": name, ...}}        a tensor with facts that its file has no word for (`stored_tensor.py`)

What was of a subclass comes back as the plain kind: a Parameter as a tensor, an OrderedDict as a dict, a text or
number enumeration as its text or number (so that nothing needs its class to be opened). This file knows no disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.checkpoints.plain_value import is_number, plain_value, plain_word
from holdfast.checkpoints.stored_tensor import StoredTensor, obstacle, restore_tensor, store_tensor
from holdfast.errors import CheckpointCorrupt, UnsupportedState, first_of

# Levels of the skeleton's JSON, of which a list or dict takes one. Python's own reader of JSON gives up near 1,000.
_MAX_DEPTH = 500


@dataclass
class FlatState:
    """A tree taken apart.

    Attributes:
        skeleton: JSON, with tensors replaced by their names.
        tensors: name → tensor, of a dtype that the file has a name for; each stored once. They are the tree's own
            memory, wherever a view of it will do.
        aliases: name → the name it shares its memory with (tied weights); these are not in `tensors`.
    """

    skeleton: Any
    tensors: dict[str, Tensor] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


def flatten(tree: Any, part: str) -> FlatState:
    """Takes `tree` apart; tensors are referred to, not copied.

    Args:
        tree: nested dicts, lists, tuples and sets of tensors and plain values, at most 500 levels deep (a tuple or a
            set counts as two, a dict whose keys are not all text as three).
        part: its name, for errors.

    Raises:
        UnsupportedState: values that cannot be stored; the message names their paths, the first ten of them. Nothing
            has been written then.
    """
    encoder = _Encoder(part)
    try:
        encoder.flat.skeleton = encoder.encode(tree)
    except RecursionError:  # the caller's own stack was nearly full
        encoder.refuse("found more levels than this program's stack has room for; expected fewer. Flatten it.")
    if len(encoder.problems) == 1:
        raise UnsupportedState(f"Saving {encoder.problems[0]}")
    if encoder.problems:
        raise UnsupportedState(
            f"Saving {part}: {len(encoder.problems)} values cannot be stored:\n{first_of(encoder.problems)}\n"
            "Nothing has been written."
        )
    return encoder.flat


def unflatten(skeleton: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Puts a tree together again. Tied tensors come back as one tensor under both names.

    Raises:
        CheckpointCorrupt: the skeleton asks for a tensor that is not there, or is not one of ours.
        CheckpointError: a tensor is of a type that this torch does not have.
    """
    try:
        return _Decoder(tensors).decode(skeleton)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointCorrupt(f"The state's skeleton does not fit its tensors ({error!r}).") from error


class _Encoder:
    """Takes one tree apart, and notes everything in it that cannot be stored."""

    def __init__(self, part: str) -> None:
        self.flat = FlatState(None)
        self.problems: list[str] = []
        self._path: list[str] = [part]
        self._open: set[int] = set()  # the containers around the present value
        self._known: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
        self._alive: list[Tensor] = []  # memory given back might become another tensor's, at the same address

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Returns the skeleton of one value. One call a level and no more, so that Python's stack suffices."""
        if isinstance(value, Tensor):
            return self._tensor(value)
        opened = _open(value)
        if opened is None:
            return self._plain(value)
        if id(value) in self._open:
            return self.refuse(f"found a {type(value).__name__} that contains itself; expected a tree. Leave it out.")
        children, levels, close = opened
        if depth + levels > _MAX_DEPTH:
            return self.refuse(f"found more than {_MAX_DEPTH} levels, one in another; expected fewer. Flatten it.")
        self._open.add(id(value))
        encoded = []
        for label, child in children:
            self._path.append(label)
            if not label.isascii():
                self._plain(label)  # is it text that JSON can hold?
            encoded.append(self.encode(child, depth + levels))
            self._path.pop()
        self._open.remove(id(value))
        return close(encoded)

    def refuse(self, problem: str) -> None:
        """Notes why the value at the present path cannot be stored."""
        path = self._path if len(self._path) <= 20 else [*self._path[:20], "…"]
        self.problems.append(f"{'.'.join(path)}: {problem}")

    def _plain(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and is_number(value.dtype) and not isinstance(value, np.ma.MaskedArray):
            # A copy: torch takes no read-only, backwards or foreign-endian memory.
            array = np.array(value, value.dtype.newbyteorder("="), order="C")
            return {"$array": _reference(*self._add(store_tensor(torch.from_numpy(array))))}
        try:
            return plain_word(value)
        except UnsupportedState as error:
            return self.refuse(str(error))

    def _tensor(self, tensor: Tensor) -> Any:
        if problem := obstacle(tensor):
            return self.refuse(problem)
        stored = store_tensor(tensor)
        if not tensor.numel():
            return {"$tensor": _reference(*self._add(stored))}
        # Views of one memory that show the same values are one tensor under several names (tied weights).
        look = (tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride())
        lazy = (tensor.is_conj(), tensor.is_neg())  # the same memory, read with another sign
        scales = tuple((fact, tuple(numbers.tolist())) for fact, numbers in stored.beside.items())
        tie = (*look, *lazy, json.dumps(stored.facts), scales)
        if tie not in self._known:
            self._alive.append(tensor)
            self._known[tie] = self._add(stored)
            return {"$tensor": _reference(*self._known[tie])}
        first, facts = self._known[tie]
        name = self._free_name()
        self.flat.aliases[name] = first
        return {"$tensor": _reference(name, facts)}

    def _add(self, stored: StoredTensor) -> tuple[str, dict[str, Any]]:
        """Puts a tensor among those to write; returns its name and its facts, tensors among them by name."""
        name = self._free_name()
        self.flat.tensors[name] = stored.values
        facts = dict(stored.facts)
        for fact, numbers in stored.beside.items():
            facts[fact] = self._free_name(f".{fact}")
            self.flat.tensors[facts[fact]] = numbers
        return name, facts

    def _free_name(self, ending: str = "") -> str:
        name = (".".join(self._path[1:]) or "value") + ending
        while name in self.flat.tensors or name in self.flat.aliases or name == "__metadata__":
            name += "_"  # {"a.b": x, "a": {"b": y}}; and the header keeps one name to itself
        return name


class _Decoder:
    """Puts one tree together again."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._restored: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def decode(self, value: Any) -> Any:
        """Returns the tree of a skeleton. One call a level and no more, so that Python's stack suffices."""
        if isinstance(value, list):
            items = []
            for item in value:
                items.append(self.decode(item))  # a comprehension is a call of its own
            return items
        if not isinstance(value, dict):
            return value
        table = {}
        for key, item in value.items():
            table[key] = self.decode(item)
        if len(table) == 1:
            ((word, content),) = table.items()
            if word.startswith("$"):
                return self._word(word, content)
        return table

    def _word(self, word: str, content: Any) -> Any:
        match word:
            case "$tensor":
                return self._tensor(content)
            case "$array":
                return self._tensor(content).numpy().copy()
            case "$tuple":
                return tuple(content)
            case "$set":
                return set(content)
            case "$frozenset":
                return frozenset(content)
            case "$items":
                return {key: item for key, item in content}  # noqa: C416  # dict() would take text for a pair
        return plain_value(word, content)

    def _tensor(self, reference: Any) -> Tensor:
        if isinstance(reference, str):
            return self._tensors[reference]
        values = self._tensors[reference["name"]]
        facts = {fact: content for fact, content in reference.items() if fact != "name"}
        key = (id(values), json.dumps(facts, sort_keys=True))
        if key not in self._restored:  # tied tensors become one again; `values` is kept, or its id might come back
            self._restored[key] = (values, restore_tensor(values, facts, self._tensors))
        return self._restored[key][1]


def _reference(name: str, facts: Mapping[str, Any]) -> Any:
    return {"name": name, **facts} if facts else name


def _open(value: Any) -> tuple[list[tuple[str, Any]], int, Callable[[list[Any]], Any]] | None:
    """Returns what a container holds (with labels for the path), the levels of JSON it takes, and what makes its word
    of the words of what it holds; None for what is no container.
    """
    if isinstance(value, Mapping):
        pairs = list(value.items())
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            keys = [str.__str__(key) for key, _ in pairs]
            children = [(key, item) for key, (_, item) in zip(keys, pairs, strict=True)]
            return children, 1, lambda words: dict(zip(keys, words, strict=True))
        children = [child for key, item in pairs for child in (("key", key), (_label(key), item))]
        return children, 3, lambda words: {"$items": [list(pair) for pair in zip(words[::2], words[1::2], strict=True)]}
    if isinstance(value, (set, frozenset)):
        word = "$set" if isinstance(value, set) else "$frozenset"
        return [("member", item) for item in sorted(value, key=repr)], 2, lambda words: {word: words}
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size) and not hasattr(value, "_fields"):
        children = [(str(number), item) for number, item in enumerate(value)]
        return (children, 1, lambda words: words) if isinstance(value, list) else (children, 2, _tuple_word)
    return None


def _tuple_word(words: list[Any]) -> Any:
    return {"$tuple": words}


def _label(key: Any) -> str:
    try:
        return str(key).encode(errors="backslashreplace").decode()
    except ValueError:  # more digits than Python turns into text
        return "key"
