"""What the opcodes of a pickle do to the machine's stack and memo: containers, marks, references, calls.

They are the other half of `pickle_literals.py`: those write down one value, these make something of what lies on the
stack. Everything that would run code in Python's machine asks `PickleMachine.find` and `PickleMachine.call`, which
do not.

Source: the opcodes' descriptions in Python's `pickletools`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.formats.inert import Damage, InertObject, Record
from holdfast.formats.joblib_arrays import is_wrapper, read_array
from holdfast.formats.pickle_literals import text, text_number

if TYPE_CHECKING:
    from holdfast.formats.pickle_machine import PickleMachine

HIGHEST_PROTOCOL = 5
# Bytes that a container takes, empty or for each of its values.
_LIST, _DICT, _SET = 64, 72, 220


def _protocol(m: PickleMachine) -> None:
    if (found := m.stream.number(1)) > HIGHEST_PROTOCOL:
        raise Damage(f"protocol {found}")


def _set_pairs(m: PickleMachine, target: Any, flat: list[Any]) -> None:
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


def _append(m: PickleMachine, target: Any, values: list[Any]) -> None:
    m.charge(8 * len(values))
    if isinstance(target, InertObject):
        target.items += values
    elif type(target) is list:
        target += values
    else:
        raise Damage(f"items for a {type(target).__name__}")


def _add(m: PickleMachine, target: Any, values: list[Any]) -> None:
    m.charge(_SET // 2 * len(values))
    if isinstance(target, InertObject):
        target.items += values
        return
    if type(target) is not set:
        raise Damage(f"members for a {type(target).__name__}")
    for value in values:
        m.check_key(value)
        target.add(value)


def _with_mark(change: Callable[[PickleMachine, Any, list[Any]], None]) -> Callable[[PickleMachine], None]:
    def operate(m: PickleMachine) -> None:
        values = m.pop_mark()
        change(m, m.top(), values)

    return operate


def _with_top(change: Callable[[PickleMachine, Any, list[Any]], None], count: int) -> Callable[[PickleMachine], None]:
    def operate(m: PickleMachine) -> None:
        values = [m.pop() for _ in range(count)][::-1]
        change(m, m.top(), values)

    return operate


def _push_dict(m: PickleMachine) -> None:
    values, made = m.pop_mark(), dict[Any, Any]()
    _set_pairs(m, made, values)
    m.charge(_DICT)
    m.stack.append(made)


def _push_list(m: PickleMachine) -> None:
    m.charge(_LIST)
    m.stack.append(m.pop_mark())


def _push_tuple(m: PickleMachine, count: int) -> None:
    m.charge(_LIST)
    m.stack.append(tuple([m.pop() for _ in range(count)][::-1]))


def _push_marked_tuple(m: PickleMachine) -> None:
    m.charge(_LIST)
    m.stack.append(tuple(m.pop_mark()))


def _push_frozenset(m: PickleMachine) -> None:
    made: set[Any] = set()
    _add(m, made, m.pop_mark())
    m.stack.append(frozenset(made))


def _push_empty(m: PickleMachine, kind: type, cost: int) -> None:
    m.charge(cost)
    m.stack.append(kind())


def _mark(m: PickleMachine) -> None:
    m.marks.append(len(m.stack))
    if len(m.marks) > m.limits.depth:
        raise Damage(f"more than {m.limits.depth} levels")


def _pop(m: PickleMachine) -> None:
    if m.marks and m.marks[-1] == len(m.stack):
        m.marks.pop()  # a mark on top is what this opcode takes, as Python's machine does
    else:
        m.pop()


def _global(m: PickleMachine) -> None:
    module = text(m.stream.line())
    m.stack.append(m.find(module, text(m.stream.line())))


def _stack_global(m: PickleMachine) -> None:
    name = m.pop()
    m.stack.append(m.find(m.pop(), name))


def _extension(m: PickleMachine, size: int) -> None:
    m.stack.append(m.find("copyreg extension", str(m.stream.number(size))))


def _instance(m: PickleMachine) -> None:
    module = text(m.stream.line())
    function = m.find(module, text(m.stream.line()))
    m.stack.append(m.call(function, tuple(m.pop_mark())))


def _object(m: PickleMachine) -> None:
    values = m.pop_mark()
    if not values:
        raise Damage("an object without a class")
    m.stack.append(m.call(values[0], tuple(values[1:])))


def _reduce(m: PickleMachine) -> None:
    args = m.pop()
    m.stack.append(m.call(m.pop(), args))


def _new_object_with_names(m: PickleMachine) -> None:
    kwargs, args = m.pop(), m.pop()
    m.stack.append(m.call(m.pop(), args, kwargs))


def _build(m: PickleMachine) -> None:
    state, target = m.pop(), m.top()
    if isinstance(target, Record):
        target.build(state)
        if m.raw_arrays and is_wrapper(target):
            before = m.stream.at
            m.stack[-1] = read_array(m.stream, target)
            m.charge_text(m.stream.at - before)
    elif type(target) is OrderedDict and isinstance(state, dict):
        # A module's state dict carries its versions so. Nothing else may become an attribute: it could hide a method.
        if isinstance(metadata := state.get("_metadata"), dict):
            target._metadata = metadata  # type: ignore[attr-defined]
    else:
        raise Damage(f"a state for a {type(target).__name__}")


def _no_buffers(_: PickleMachine) -> None:
    raise Damage("a buffer outside the pickle, where there are none")


# Opcode → its name in pickletools, and what it does. STOP is the machine's own.
OPERATIONS: dict[int, tuple[str, Callable[[PickleMachine], Any]]] = {
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
        ("1", "POP_MARK", lambda m: m.pop_mark()),
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
