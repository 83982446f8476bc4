"""An own reader of the pickle byte stream, protocols 0 to 5, that never imports, never calls, never looks a name up.

Python's unpickler is a machine that calls what a file tells it to. This one has the same stack and the same memo, and
where that one would call something, it asks a closed table (`constructors.py`) what a plain value of that name is made
of, and for every other name writes down a record (`inert.py`). What it costs is limited (`limits.py`).

Source: the machine's description in Python's `pickletools`, and PEP 307, 3154 and 574.
"""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from typing import Any, NamedTuple, NoReturn

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.constructors import CONSTRUCTORS, VALUES, Charge
from holdfast.formats.inert import Damage, Global, InertObject, KeyCheck
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.pickle_literals import LITERALS, TEXTS, PickleStream
from holdfast.formats.pickle_operations import HIGHEST_PROTOCOL, OPERATIONS

Persistent = Callable[[Any], Any]
Nested = Callable[[bytes], Any]

_NESTED = "torch.storage._load_from_bytes"
# Bytes that a value takes besides what it holds.
_RECORD, _MEMO, _TEXT = 260, 64, 56
_LARGE = 1 << 20  # bytes
_STOP = ord(".")


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
    raw_arrays: bool = False,
    limits: Limits = LIMITS,
) -> Unpickled:
    """Reads one pickle as a tree of plain values and inert records.

    Args:
        data: bytes that hold the pickle.
        where: what messages call it.
        start: where it begins in `data`.
        persistent: makes a value of what the pickle only refers to; raises Damage when it cannot.
        nested: reads a whole file of torch within the pickle, as plain pickles hold each storage; None keeps a record.
        raw_arrays: whether arrays may lie in the stream as joblib writes them.
        limits: what reading may cost.

    Raises:
        CheckpointCorrupt: the bytes are no pickle, naming the offset and the opcode at which that shows.
        CheckpointError: it asks for more than the limits allow.
    """
    machine = PickleMachine(PickleStream(data, start), where, persistent, limits)
    machine.nested, machine.raw_arrays = nested, raw_arrays
    return machine.run()


class PickleMachine:
    """The stack, the memo and the limits of one pickle; `pickle_operations.py` has what the opcodes do to them."""

    def __init__(self, stream: PickleStream, where: str, persistent: Persistent | None, limits: Limits) -> None:
        self.stream, self.where, self.persistent, self.limits = stream, where, persistent, limits
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.nested: Nested | None = None
        self.raw_arrays = False
        self.inner: dict[int, tuple[bytes, Any]] = {}  # by identity: read once, however often it is referred to
        self.spent = 0
        self.check_key = KeyCheck(limits.hard_keys)

    def run(self) -> Unpickled:
        """Runs to the end of the pickle."""
        stream, data, end = self.stream, self.stream.data, self.stream.end
        begin, at, name = stream.at, stream.at, "the first byte"
        try:
            for _ in range(self.limits.opcodes):
                at = stream.at
                if at >= end:
                    raise Damage("1 bytes promised where 0 are left")
                code = data[at]
                stream.at = at + 1
                if code in LITERALS:
                    name, read = LITERALS[code]
                    self.stack.append(read(stream))
                elif code in TEXTS:
                    name, read = TEXTS[code]
                    self.stack.append(read(stream))
                    self.charge_text(stream.at - at)
                elif code in OPERATIONS:
                    name, operate = OPERATIONS[code]
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

    def charge_text(self, num_bytes: int) -> None:
        """Counts a text or bytes that lie in the file as they are; those of an array are a tensor's, not counted."""
        self.charge(_TEXT + (num_bytes if num_bytes < _LARGE else 0))

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
            f"0 to {HIGHEST_PROTOCOL}. The file is damaged or was cut; take another copy of it."
        )

    def _too_much(self, what: str) -> NoReturn:
        raise CheckpointError(
            f"Reading {self.where}: at byte {self.stream.at:,} its pickle asks for {what}; no checkpoint needs that. "
            "If you trust it, open it with wider limits (holdfast.formats.Limits)."
        )
