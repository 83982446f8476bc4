"""What stands in the tree of a foreign file for everything that is not a plain value: records that can do nothing.

A pickle names classes and functions and says what to call them with. Here nothing is looked up and nothing called: the
name, the arguments and the state are kept as they were written. Records compare by identity unless said otherwise, so
that no hash and no comparison ever walks into what a file chose to nest.
"""

from __future__ import annotations

from typing import Any

_MAX_MERGED = 1000  # attributes of an object that has both a dict and slots; those in use have a few dozen


class Damage(Exception):  # it becomes a CheckpointCorrupt as soon as the place is known
    """What is wrong with the bytes at hand; whoever knows their place turns it into a CheckpointCorrupt."""


class Record:
    """The base of everything that a pickle may give a state to after making it."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        """Takes the state that the pickle gives. Raises Damage when it is none that such a record can have."""
        raise Damage(f"a state ({type(state).__name__}) for a {type(self).__name__}, which has none")


class Global:
    """The name of a class or a function in a module: a name, and nothing behind it. Equal to others of that name."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def full_name(self) -> str:
        """Module and name, with a dot between."""
        return f"{self.module}.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Global) and (self.module, self.name) == (other.module, other.name)

    def __hash__(self) -> int:
        return hash((self.module, self.name))

    def __repr__(self) -> str:
        return f"<name {self.full_name[:200]}>"


class InertObject(Record):
    """An object of a class that is not looked up, or the result of a call that is not made.

    Attributes:
        module, name: of the class or function.
        args, kwargs: what it was to be called with.
        state: what its `__setstate__` would have been given, None without one.
        items: what would have been appended or, as pairs, set.
    """

    __slots__ = ("args", "items", "kwargs", "module", "name", "state")

    def __init__(self, module: str, name: str, args: Any = (), kwargs: Any = None) -> None:
        self.module = module
        self.name = name
        self.args = args
        self.kwargs: dict[Any, Any] = kwargs or {}
        self.state: Any = None
        self.items: list[Any] = []

    @property
    def full_name(self) -> str:
        """Module and name, with a dot between."""
        return f"{self.module}.{self.name}"

    @property
    def attributes(self) -> dict[str, Any]:
        """The object's attributes, as far as its state is the usual one: a dict, or a dict and one of slots.

        It is the state itself, not a copy, where it can be: a file can give one huge state to a million objects.
        """
        if isinstance(self.state, dict):
            return self.state
        if type(self.state) is not tuple or len(self.state) != 2:
            return {}
        own, slots = (part if isinstance(part, dict) else {} for part in self.state)
        if not own or not slots:
            return own or slots
        return {**own, **slots} if len(own) + len(slots) <= _MAX_MERGED else own

    def build(self, state: Any) -> None:
        """Keeps the state."""
        self.state = state

    def __repr__(self) -> str:
        return f"<inert {self.full_name[:200]}>"


class TorchName:
    """A value of torch that is only a name: a dtype, a device, a memory layout. Equal to others of that kind and name.

    Attributes:
        kind: "dtype", "device" or "layout".
        name: as torch writes it, without "torch.": `float32`, `cuda:0`, `sparse_coo`.
    """

    __slots__ = ("kind", "name")

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchName) and (self.kind, self.name) == (other.kind, other.name)

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name[:200]}>"


class TorchSize(tuple[int, ...]):
    """A torch.Size: the extents of a tensor."""

    __slots__ = ()


class KeyCheck:
    """Says whether a value may be a key, before anything asks for its hash.

    A tuple that holds the same tuple twice, sixty levels deep, takes years to hash; and keys whose hashes a file can
    choose make a dictionary as slow as a list.
    """

    _MAX_NODES = 1000
    _MAX_ALL_NODES = 5_000_000
    _EASY = (str, bytes, bool, float, type(None), Global, Record, TorchName)

    def __init__(self, max_hard: int) -> None:
        self._left = max_hard
        self._nodes_left = self._MAX_ALL_NODES

    def __call__(self, key: Any) -> None:
        """Raises Damage for what cannot be a key, or is one too many of those whose hash a file can choose."""
        kind = type(key)
        if kind is str or (kind is int and -(1 << 60) < key < 1 << 60):
            return
        waiting, seen, hard = [key], 0, False
        while waiting:
            value = waiting.pop()
            seen += 1
            if isinstance(value, (tuple, frozenset)):
                waiting += value if len(value) <= self._MAX_NODES else [[]]
                hard = hard or not all(type(v) is str for v in value)
            elif type(value) in (int, complex):
                hard = True
            elif not isinstance(value, self._EASY):
                raise Damage(f"a {type(value).__name__} as a key")
            if seen + len(waiting) > self._MAX_NODES:
                raise Damage("a key of more than a thousand values")
        self._left -= hard
        self._nodes_left -= seen
        if self._left < 0 or self._nodes_left < 0:
            raise Damage("more keys made of numbers than any checkpoint has")
