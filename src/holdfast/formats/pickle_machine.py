"""An own reader of the pickle byte stream, protocols 0 to 5, that never imports, never calls, never looks a name up.

Python's unpickler is a machine that calls what a file tells it to. This one has the same stack and the same memo, and
where that one would call something, it asks a closed table (`constructors.py`) what a plain value of that name is made
of, and for every other name writes down a record (`inert.py`). What it costs is limited (`limits.py`).

Source: the machine's description in Python's `pickletools`, and PEP 307, 3154 and 574.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from mmap import mmap
from typing import Any, NamedTuple, NoReturn

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.constructors import CONSTRUCTORS, VALUES, Charge
from holdfast.formats.inert import Damage, Global, InertObject, KeyCheck, Record
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_literals import LITERALS, TEXTS, PickleStream, text, text_number

Persistent = Callable[[Any], Any]
Nested = Callable[[bytes], Any]

_HIGHEST_PROTOCOL = 5
_NESTED = "torch.storage._load_from_bytes"
# Bytes that a container takes, empty or for each of its values.
_LIST, _DICT, _SET, _RECORD, _MEMO, _TEXT = 64, 72, 220, 260, 64, 56


class Unpickled(NamedTuple):
    """What a pickle holds, and the place behind it."""

    value: Any
    end: int


def read_pickle(
    data: bytes | mmap,
    where: str,
    *,
    start: int = 0,
    persistent: Persistent | None = None,
    nested: Nested | None = None,
    limits: Limits = LIMITS,
) -> Unpickled:
    """Reads one pickle as a tree of plain values and inert records.

    Args:
        data: bytes that hold the pickle.
        where: what messages call it.
        start: where it begins in `data`.
        persistent: makes a value of what the pickle only refers to; raises Damage when it cannot.
        nested: reads a whole file of torch within the pickle, as plain pickles hold each storage; None keeps a record.
        limits: what reading may cost.

    Raises:
        CheckpointCorrupt: the bytes are no pickle, naming the offset and the opcode at which that shows.
        CheckpointError: it asks for more than the limits allow.
    """
    machine = _Machine(PickleStream(data, start), where, persistent, limits)
    machine.nested = nested
    return machine.run()


class _Machine:
    def __init__(self, stream: PickleStream, where: str, persistent: Persistent | None, limits: Limits) -> None:
        self.stream, self.where, self.persistent, self.limits = stream, where, persistent, limits
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.nested: Nested | None = None
        self.inner: dict[int, tuple[bytes, Any]] = {}  # by identity: read once, however often it is referred to
        self.spent = 0
        self.check_key = KeyCheck(limits.hard_keys)

    def run(self) -> Unpickled:
        """Runs to the end of the pickle."""
        begin, at, name = self.stream.at, self.stream.at, "the first byte"
        try:
            for _ in range(self.limits.opcodes):
                at = self.stream.at
                code = self.stream.take(1)[0]
                if code in LITERALS:
                    name, read = LITERALS[code]
                    self.stack.append(read(self.stream))
                elif code in TEXTS:
                    name, read = TEXTS[code]
                    before = self.stream.at
                    self.stack.append(read(self.stream))
                    self.charge(self.stream.at - before + _TEXT)
                elif code in _OPERATIONS:
                    name, operate = _OPERATIONS[code]
                    operate(self)
                elif code == _STOP:
                    name = "STOP"
                    return Unpickled(self._last(), self.stream.at)
                else:
                    name = f"0x{code:02x}"
                    raise Damage("which is no opcode of a pickle")
            self._too_much(f"more than {self.limits.opcodes:,} steps")
        except Damage as damage:
            raise self._corrupt(at - begin, name, str(damage)) from None
        except (ValueError, TypeError, LookupError, OverflowError, AttributeError, RecursionError) as error:
            raise self._corrupt(at - begin, name, f"what cannot be ({error!r})") from error

    def charge(self, num_bytes: int) -> None:
        """Counts memory that the file asks for, before it is given. Raises CheckpointError beyond the limit."""
        self.spent += num_bytes
        if self.spent > self.limits.memory:
            self._too_much(f"more than {self.limits.memory:,} bytes of memory, tensors not counted")

    def pop(self) -> Any:
        """Takes the uppermost value above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damage("an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        """Returns the uppermost value above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Damage("an empty stack")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        """Takes all values above the last mark, and the mark."""
        if not self.marks:
            raise Damage("no mark on the stack")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def find(self, module: Any, name: Any) -> Any:
        """Returns what stands for a name: a plain value for those of torch that are only names, else the name."""
        if type(module) is not str or type(name) is not str:
            raise Damage("a module or class whose name is no text")
        self.charge(_RECORD)
        return VALUES.get((module, name)) or Global(module, name)

    def call(self, function: Any, args: Any, kwargs: Any = None) -> Any:
        """Returns what stands for a call: a plain value by the closed table, else a record of the call."""
        self.charge(_RECORD)
        if type(args) is not tuple or not (kwargs is None or type(kwargs) is dict):
            raise Damage("arguments that are no tuple")
        if type(function) is not Global:
            return InertObject("", "call", (function, args), kwargs)
        if self.nested and function.full_name == _NESTED and len(args) == 1 and type(args[0]) is bytes:
            if id(args[0]) not in self.inner:
                self.inner[id(args[0])] = args[0], self.nested(args[0])
            return self.inner[id(args[0])][1]
        construct = CONSTRUCTORS.get((function.module, function.name))
        made = construct(args, Charge(self.charge, self.check_key)) if construct and not kwargs else NotImplemented
        return InertObject(function.module, function.name, args, kwargs) if made is NotImplemented else made

    def put(self, key: int) -> None:
        """Keeps the uppermost value for a second use."""
        self.charge(_MEMO)
        self.memo[key] = self.top()
        if len(self.memo) > self.limits.memo:
            self._too_much(f"more than {self.limits.memo:,} values kept for a second use")

    def get(self, key: int) -> None:
        """Pushes a value that was kept."""
        if key not in self.memo:
            raise Damage(f"a reference to value {key}, which was not kept")
        self.stack.append(self.memo[key])

    def refer(self, reference: Any) -> None:
        """Pushes what is stored elsewhere in the file."""
        if self.persistent is None:
            raise Damage("a reference to data outside the pickle, where there are none")
        self.charge(_RECORD)
        self.stack.append(self.persistent(reference))

    def _last(self) -> Any:
        if self.marks or len(self.stack) != 1:
            raise Damage(f"{len(self.stack)} values left on the stack and {len(self.marks)} marks; expected one value")
        return self.stack[0]

    def _corrupt(self, at: int, name: str, what: str) -> CheckpointCorrupt:
        return CheckpointCorrupt(
            f"Reading {self.where}: at byte {at:,} of its pickle ({name}) found {what}; expected a pickle of protocol "
            f"0 to {_HIGHEST_PROTOCOL}. The file is damaged or was cut; take another copy of it."
        )

    def _too_much(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"Reading {self.where}: at byte {self.stream.at:,} its pickle asks for {what}; no checkpoint needs that. "
            "If you trust it, open it with wider limits (holdfast.formats.Limits)."
        )


def _protocol(m: _Machine) -> None:
    if (found := m.stream.number(1)) > _HIGHEST_PROTOCOL:
        raise Damage(f"protocol {found}")


def _set_pairs(m: _Machine, target: Any, flat: list[Any]) -> None:
    if len(flat) % 2:
        raise Damage("a key without a value")
    m.charge(_DICT * (len(flat) // 2))
    if isinstance(target, InertObject):
        target.items += zip(flat[::2], flat[1::2], strict=True)
    elif type(target) in (dict, OrderedDict):
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            m.check_key(key)
            target[key] = value
    else:
        raise Damage(f"keys for a {type(target).__name__}")


def _append(m: _Machine, target: Any, values: list[Any]) -> None:
    m.charge(8 * len(values))
    if isinstance(target, InertObject):
        target.items += values
    elif type(target) is list:
        target += values
    else:
        raise Damage(f"items for a {type(target).__name__}")


def _add(m: _Machine, target: Any, values: list[Any]) -> None:
    m.charge(_SET // 2 * len(values))
    if isinstance(target, InertObject):
        target.items += values
        return
    if type(target) is not set:
        raise Damage(f"members for a {type(target).__name__}")
    for value in values:
        m.check_key(value)
        target.add(value)


def _with_mark(change: Callable[[_Machine, Any, list[Any]], None]) -> Callable[[_Machine], None]:
    def operate(m: _Machine) -> None:
        values = m.pop_mark()
        change(m, m.top(), values)

    return operate


def _with_top(change: Callable[[_Machine, Any, list[Any]], None], count: int) -> Callable[[_Machine], None]:
    def operate(m: _Machine) -> None:
        values = [m.pop() for _ in range(count)][::-1]
        change(m, m.top(), values)

    return operate


def _push_dict(m: _Machine) -> None:
    values, made = m.pop_mark(), dict[Any, Any]()
    _set_pairs(m, made, values)
    m.charge(_DICT)
    m.stack.append(made)


def _push_list(m: _Machine) -> None:
    m.charge(_LIST)
    m.stack.append(m.pop_mark())


def _push_tuple(m: _Machine, count: int) -> None:
    m.charge(_LIST)
    m.stack.append(tuple([m.pop() for _ in range(count)][::-1]))


def _push_marked_tuple(m: _Machine) -> None:
    m.charge(_LIST)
    m.stack.append(tuple(m.pop_mark()))


def _push_frozenset(m: _Machine) -> None:
    made: set[Any] = set()
    _add(m, made, m.pop_mark())
    m.stack.append(frozenset(made))


def _push_empty(m: _Machine, kind: type, cost: int) -> None:
    m.charge(cost)
    m.stack.append(kind())


def _mark(m: _Machine) -> None:
    m.marks.append(len(m.stack))
    if len(m.marks) > m.limits.depth:
        raise Damage(f"more than {m.limits.depth} levels")


def _pop(m: _Machine) -> None:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()  # a mark on top is what this opcode takes, as Python's machine does
    else:
        m.pop()


def _global(m: _Machine) -> None:
    module = text(m.stream.line())
    m.stack.append(m.find(module, text(m.stream.line())))


def _stack_global(m: _Machine) -> None:
    name = m.pop()
    m.stack.append(m.find(m.pop(), name))


def _extension(m: _Machine, size: int) -> None:
    m.stack.append(m.find("copyreg extension", str(m.stream.number(size))))


def _instance(m: _Machine) -> None:
    module = text(m.stream.line())
    function = m.find(module, text(m.stream.line()))
    m.stack.append(m.call(function, tuple(m.pop_mark())))


def _object(m: _Machine) -> None:
    values = m.pop_mark()
    if not values:
        raise Damage("an object without a class")
    m.stack.append(m.call(values[0], tuple(values[1:])))


def _reduce(m: _Machine) -> None:
    args = m.pop()
    m.stack.append(m.call(m.pop(), args))


def _new_object_with_names(m: _Machine) -> None:
    kwargs, args = m.pop(), m.pop()
    m.stack.append(m.call(m.pop(), args, kwargs))


def _build(m: _Machine) -> None:
    state, target = m.pop(), m.top()
    if isinstance(target, Record):
        target.build(state)
    elif type(target) is OrderedDict and isinstance(state, dict):
        # A module's state dict carries its versions so. Nothing else may become an attribute: it could hide a method.
        if isinstance(metadata := state.get("_metadata"), dict):
            target._metadata = metadata  # type: ignore[attr-defined]
    else:
        raise Damage(f"a state for a {type(target).__name__}")


def _no_buffers(_: _Machine) -> None:
    raise Damage("a buffer outside the pickle, where there are none")


_STOP = ord(".")
_OPERATIONS: dict[int, tuple[str, Callable[[_Machine], Any]]] = {
    ord(code): (name, operate)
    for code, name, operate in (
        ("\x80", "PROTO", _protocol),
        ("\x95", "FRAME", lambda m: m.stream.take(8)),  # how much is buffered at once concerns no one here
        ("]", "EMPTY_LIST", lambda m: _push_empty(m, list, _LIST)),
        ("}", "EMPTY_DICT", lambda m: _push_empty(m, dict, _DICT)),
        (")", "EMPTY_TUPLE", lambda m: m.stack.append(())),
        ("\x8f", "EMPTY_SET", lambda m: _push_empty(m, set, _SET)),
        ("(", "MARK", _mark),
        ("0", "POP", _pop),
        ("1", "POP_MARK", _Machine.pop_mark),
        ("2", "DUP", lambda m: m.stack.append(m.top())),
        ("l", "LIST", _push_list),
        ("d", "DICT", _push_dict),
        ("t", "TUPLE", _push_marked_tuple),
        ("\x85", "TUPLE1", lambda m: _push_tuple(m, 1)),
        ("\x86", "TUPLE2", lambda m: _push_tuple(m, 2)),
        ("\x87", "TUPLE3", lambda m: _push_tuple(m, 3)),
        ("\x91", "FROZENSET", _push_frozenset),
        ("a", "APPEND", _with_top(_append, 1)),
        ("e", "APPENDS", _with_mark(_append)),
        ("s", "SETITEM", _with_top(_set_pairs, 2)),
        ("u", "SETITEMS", _with_mark(_set_pairs)),
        ("\x90", "ADDITEMS", _with_mark(_add)),
        ("p", "PUT", lambda m: m.put(text_number(m.stream.line()))),
        ("q", "BINPUT", lambda m: m.put(m.stream.number(1))),
        ("r", "LONG_BINPUT", lambda m: m.put(m.stream.number(4))),
        ("\x94", "MEMOIZE", lambda m: m.put(len(m.memo))),
        ("g", "GET", lambda m: m.get(text_number(m.stream.line()))),
        ("h", "BINGET", lambda m: m.get(m.stream.number(1))),
        ("j", "LONG_BINGET", lambda m: m.get(m.stream.number(4))),
        ("P", "PERSID", lambda m: m.refer(text(m.stream.line()))),
        ("Q", "BINPERSID", lambda m: m.refer(m.pop())),
        ("c", "GLOBAL", _global),
        ("\x93", "STACK_GLOBAL", _stack_global),
        ("\x82", "EXT1", lambda m: _extension(m, 1)),
        ("\x83", "EXT2", lambda m: _extension(m, 2)),
        ("\x84", "EXT4", lambda m: _extension(m, 4)),
        ("i", "INST", _instance),
        ("o", "OBJ", _object),
        ("R", "REDUCE", _reduce),
        ("\x81", "NEWOBJ", _reduce),
        ("\x92", "NEWOBJ_EX", _new_object_with_names),
        ("b", "BUILD", _build),
        ("\x97", "NEXT_BUFFER", _no_buffers),
        ("\x98", "READONLY_BUFFER", _no_buffers),
    )
}
