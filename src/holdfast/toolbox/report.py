"""What is in a checkpoint, as records, JSON and text: tensors and values by part, and facts about the whole.

Named tuples and not dataclasses: importing these takes longer than looking into a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.toolbox.outline import lines_of, short
from holdfast.toolbox.text import aligned, cut, printable, shortened, size_text
from holdfast.words import count

_MIN_NAME = 24  # columns; a shorter name says nothing
_RIGHT = (False, False, False, True, True)


class TensorLine(NamedTuple):
    """One tensor.

    Attributes:
        name: as the file has it.
        dtype: as torch names it; of a quantised, sparse or wrapped one, what is known.
        shape: its extents; None when only a program of its own could tell.
        value_bytes: of one value; None when that is not known.
        alias_of: for a tied one, the name whose memory it shares.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    value_bytes: int | None
    alias_of: str | None = None

    @property
    def num_values(self) -> int:
        """Number of values; 0 when its shape is not known."""
        return 0 if self.shape is None else math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of its values; a tied tensor has none of its own."""
        return 0 if self.alias_of else self.num_values * (self.value_bytes or 0)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        tied = {"alias_of": self.alias_of} if self.alias_of else {}
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "num_values": self.num_values,
            "num_bytes": self.num_bytes,
            **tied,
        }


class Part(NamedTuple):
    """One saved object: its tensors, and its plain values (an optimizer's groups, counters), as JSON.

    Attributes:
        kind: "weights", "optimizer" or "values".
    """

    kind: str
    tensors: list[TensorLine]
    values: Any = None

    @property
    def num_values(self) -> int:
        """Number of values, tied tensors counted once."""
        return sum(t.num_values for t in self.tensors if not t.alias_of)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors, tied ones counted once."""
        return sum(t.num_bytes for t in self.tensors)

    def slots(self) -> list[dict[str, Any]]:
        """Returns what an optimizer keeps for its parameters: name, dtypes, number of tensors, bytes of each slot."""
        found: dict[str, list[TensorLine]] = {}
        for tensor in self.tensors if self.kind == "optimizer" else []:
            if tensor.name.startswith("state."):
                found.setdefault(tensor.name.rpartition(".")[2], []).append(tensor)
        return [
            {
                "name": name,
                "dtypes": sorted({t.dtype for t in tensors}),
                "num_tensors": len(tensors),
                "num_bytes": sum(t.num_bytes for t in tensors),
            }
            for name, tensors in found.items()
        ]

    def to_json(self, depth: int | None = None) -> dict[str, Any]:
        """Returns it as JSON values; with a depth, modules summed up in place of tensors."""
        rows = (
            {"tensors": [t.to_json() for t in self.tensors]}
            if depth is None
            else {"modules": list(_modules(self.tensors, depth))}
        )
        return {
            "num_tensors": len(self.tensors),
            "num_values": self.num_values,
            "num_bytes": self.num_bytes,
            **rows,
            **({"slots": self.slots()} if self.kind == "optimizer" else {}),
            **({} if self.values is None else {"values": self.values}),
        }


class Report(NamedTuple):
    """What is in a checkpoint.

    Attributes:
        path: what was looked into.
        kind: what it is: "torch zip", "safetensors", "Holdfast checkpoint" …
        facts: what it says of itself: made by, saved from, step, metrics, classes ….
        parts: every saved object, weights by their role.
        metadata: what stands beside the weights in a file of others, as JSON.
    """

    path: str
    kind: str
    facts: dict[str, Any]
    parts: dict[str, Part]
    metadata: Mapping[str, Any] = {}

    def to_json(self, part: str | None = None, depth: int | None = None) -> dict[str, Any]:
        """Returns the report as JSON values.

        Args:
            part: only this one.
            depth: sum tensors up by the first so many words of their names.

        Raises:
            CheckpointMismatch: there is no such part.
            ConfigError: the depth is less than 1.
        """
        parts = {name: found.to_json(depth) for name, found in self._chosen(part, depth).items()}
        metadata = {"metadata": dict(self.metadata)} if self.metadata else {}
        return {"path": self.path, "kind": self.kind, **self.facts, **metadata, "parts": parts}

    def lines(self, part: str | None = None, depth: int | None = None, width: int | None = None) -> Iterator[str]:
        """Yields the report as text.

        Args:
            part, depth: as in `to_json`.
            width: columns of the terminal; None shortens nothing.

        Raises:
            CheckpointMismatch: there is no such part.
            ConfigError: the depth is less than 1.
        """
        chosen = self._chosen(part, depth)
        yield f"{printable(self.path)}  ({self.kind})"
        for name, value in ((name, value) for name, value in self.facts.items() if value not in ({}, [], None)):
            yield cut(f"  {name.replace('_', ' ')}: {short(value)}", width)
        if self.metadata and part is None:
            yield "\nbeside the weights:"
            yield from lines_of(dict(self.metadata), width)
        for name, found in chosen.items():
            tensors = f"{count(len(found.tensors), 'tensor')}, {count(found.num_values, 'value')}"
            yield f"\n{printable(name)}: " + (f"{tensors}, {size_text(found.num_bytes)}" if found.tensors else "values")
            if depth is None:
                yield from _tensor_lines(found.tensors, width)
            else:
                yield from _module_lines(found.tensors, depth, width)
            yield from _value_lines(found, width)

    def _chosen(self, part: str | None, depth: int | None) -> dict[str, Part]:
        if depth is not None and depth < 1:
            raise ConfigError(f"Inspecting {self.path}: found depth {depth}; expected 1 or more. Leave it out for all.")
        if part is None:
            return self.parts
        if part not in self.parts:
            raise CheckpointMismatch(
                f"Inspecting {self.path}: it has no part {part!r}; it holds "
                f"{', '.join(map(printable, self.parts)) or 'none'}. Choose one of these."
            )
        return {part: self.parts[part]}


def _tensor_lines(tensors: list[TensorLine], width: int | None) -> list[str]:
    rows = [
        [
            printable(t.name),
            t.dtype,
            "?" if t.shape is None else str(list(t.shape)),
            f"= {printable(t.alias_of)}" if t.alias_of else f"{t.num_values:,}",
            "" if t.alias_of else size_text(t.num_bytes),
        ]
        for t in tensors
    ]
    return _fitted(rows, width)


def _module_lines(tensors: list[TensorLine], depth: int, width: int | None) -> list[str]:
    rows = [
        [
            printable(m["name"]),
            "/".join(m["dtypes"]),
            count(m["num_tensors"], "tensor"),
            f"{m['num_values']:,}",
            size_text(m["num_bytes"]),
        ]
        for m in _modules(tensors, depth)
    ]
    return _fitted(rows, width)


def _modules(tensors: Iterable[TensorLine], depth: int) -> Iterator[dict[str, Any]]:
    """Yields the sums of all tensors whose names begin with the same `depth` words."""
    found: dict[str, list[TensorLine]] = {}
    for tensor in tensors:
        words = tensor.name.split(".")
        start = depth + 1 if words[0] == "state" else depth  # an optimizer's slots all begin with "state"
        if words[0] == "state" and words[1:2] and words[1].isdecimal():
            start = 1  # parameters by number belong to no module that the file knows
        label = ".".join(words[:start]) + (".*" if len(words) > start else "")
        found.setdefault(label, []).append(tensor)
    for label, group in found.items():
        yield {
            "name": label,
            "dtypes": sorted({t.dtype for t in group}),
            "num_tensors": len(group),
            "num_values": sum(t.num_values for t in group if not t.alias_of),
            "num_bytes": sum(t.num_bytes for t in group),
        }


def _fitted(rows: list[list[str]], width: int | None) -> list[str]:
    """Returns rows as lines that fit the terminal: first without sizes, then with shorter names."""
    if width is None or not rows:
        return _lines(rows)
    for columns in (5, 4):
        shown = [row[:columns] for row in rows]
        if max(map(len, lines := _lines(shown))) <= width:
            return lines
    too_wide = max(map(len, lines)) - width
    room = max(_MIN_NAME, max(len(row[0]) for row in rows) - too_wide)
    return [cut(line, width) for line in _lines([[shortened(row[0], room), *row[1:4]] for row in rows])]


def _lines(rows: list[list[str]]) -> list[str]:
    """Returns rows as lines; what a tensor is tied to stands where others have their numbers, and widens nothing."""
    numbers = [row for row in rows if not row[3].startswith("= ")]
    widths = [
        max((len(row[3]) for row in numbers), default=0),
        max((len(row[4]) for row in numbers if row[4:]), default=0),
    ]
    left = aligned([[f"  {row[0]}", *row[1:3]] for row in rows], _RIGHT[:3])
    start = max(map(len, left), default=0)
    lines = []
    for line, row in zip(left, rows, strict=True):
        tied = row[3].startswith("= ")
        tail = row[3] if tied else "  ".join(cell.rjust(w) for cell, w in zip(row[3:], widths, strict=False))
        lines.append(f"{line.ljust(start)}  {tail}".rstrip())
    return lines


def _value_lines(part: Part, width: int | None) -> Iterator[str]:
    for slot in part.slots():
        size = f"{count(slot['num_tensors'], 'tensor')}, {size_text(slot['num_bytes'])}"
        yield cut(f"  slot {printable(slot['name'])}: {'/'.join(slot['dtypes'])}, {size}", width)
    value = part.values
    if isinstance(value, dict) and isinstance(value.get("param_groups"), list):
        for number, group in enumerate(value["param_groups"]):
            settings = ", ".join(
                f"{printable(k)} {short(v)}" for k, v in group.items() if k != "params" and v is not None
            )
            held = group.get("params")
            number_held = len(held) if isinstance(held, list) else 0
            yield cut(f"  group {number}: {count(number_held, 'parameter')}; {settings}", width)
    elif isinstance(value, dict) and value:
        yield from lines_of({k: v for k, v in value.items() if not _is_tensor(v)}, width)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"$tensor"}
