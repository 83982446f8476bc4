"""How two checkpoints differ, as records, JSON and text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from holdfast.toolbox.outline import short
from holdfast.toolbox.tensor_difference import ValueDifference
from holdfast.toolbox.text import aligned, cut, printable, shortened
from holdfast.words import count

_MIN_NAME = 20  # columns; a shorter name says nothing
_MAX_LINES = 1000  # of values beside the weights
_RIGHT = (False, False, True, True, True, True)


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of one or both checkpoints.

    Attributes:
        name: in the first; of an extra one, in the second.
        status: "same", "different", "missing" (the second has none), "extra" (the first has none), "shape" or
            "dtype" (another one).
        dtypes, shapes: in the first and the second; None where there is none.
        name_in_b: its name in the second, when that is another.
        values: how the values differ; None without a pair of one shape.
    """

    name: str
    status: str
    dtypes: tuple[str | None, str | None]
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    name_in_b: str | None = None
    values: ValueDifference | None = None

    @property
    def size(self) -> float:
        """By how much it differs at most; 0 for a pair without values."""
        return float(self.values.max_abs or 0) if self.values else 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values; what is infinite is text."""
        table: dict[str, Any] = {"name": self.name, "status": self.status}
        table |= {"name_in_b": self.name_in_b} if self.name_in_b else {}
        table |= {"dtypes": list(self.dtypes), "shapes": [None if s is None else list(s) for s in self.shapes]}
        return table | ({k: _finite(v) for k, v in asdict(self.values).items()} if self.values else {})


@dataclass(frozen=True)
class PlainDifference:
    """A value beside the weights that differs: its path, and what it is in the first and the second, as JSON."""

    path: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Difference:
    """How two checkpoints differ.

    Attributes:
        a, b: what was compared.
        rtol, atol: the tolerance.
        tensors: label ("model", "optimizer optimizer" …) → every tensor of it, equal ones too.
        values: what differs beside the tensors: settings, counters, facts; models that only one of the two has.
        num_values: how many values were compared beside the tensors.
        weights_equal: whether both have the same models and none of their tensors differs, whatever else does.
    """

    a: str
    b: str
    rtol: float
    atol: float
    tensors: dict[str, list[TensorDifference]]
    values: list[PlainDifference] = field(default_factory=list)
    num_values: int = 0
    weights_equal: bool = False

    @property
    def equal(self) -> bool:
        """Whether nothing differs by more than the tolerance."""
        return not self.values and all(t.status == "same" for group in self.tensors.values() for t in group)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "equal": self.equal,
            "weights_equal": self.weights_equal,
            "rtol": self.rtol,
            "atol": self.atol,
            "tensors": {
                label: {**_summary(group), "tensors": [t.to_json() for t in group]}
                for label, group in self.tensors.items()
            },
            "values": [{"path": v.path, "a": v.a, "b": v.b} for v in self.values],
            "num_values": self.num_values,
        }

    def lines(self, width: int | None = None) -> Iterator[str]:
        """Yields the difference as text, a table of what differs and a summary for each group of tensors.

        Args:
            width: columns of the terminal; None shortens nothing.
        """
        yield f"a: {printable(self.a)}"
        yield f"b: {printable(self.b)}"
        for label, group in self.tensors.items():
            differing = [t for t in group if t.status != "same"]
            yield f"\n{printable(label)}: {_sentence(group)}"
            if others := _others(group):
                yield f"  {others}"
            if differing:
                yield from _table(differing, width)
        if self.values:
            yield f"\nbeside the tensors: {len(self.values):,} of {count(self.num_values, 'value')} differ"
        for value in self.values[:_MAX_LINES]:
            yield cut(f"  {printable(value.path)}: {short(value.a, 60)} | {short(value.b, 60)}", width)
        if len(self.values) > _MAX_LINES:
            yield f"  … and {len(self.values) - _MAX_LINES:,} more (--json has them)"
        yield f"\n{'equal' if self.equal else 'different'}{self._tolerance()}"
        if self.weights_equal and not self.equal:
            yield "weights are equal; --weights-only compares these alone"

    def _tolerance(self) -> str:
        return f" (rtol {self.rtol:g}, atol {self.atol:g})" if self.rtol or self.atol else ""


def _summary(group: list[TensorDifference]) -> dict[str, Any]:
    counts = {status: sum(t.status == status for t in group) for status in dict.fromkeys(t.status for t in group)}
    largest = max(group, key=lambda t: t.size, default=None)
    return {
        "num_tensors": len(group),
        "num_same": counts.pop("same", 0),
        "num_by_status": counts,
        "max_abs": _finite(largest.size) if largest else 0,
        "max_abs_name": largest.name if largest and largest.size else None,
    }


def _sentence(group: list[TensorDifference]) -> str:
    """Returns how many of how many tensors differ, and by how much at most."""
    summary = _summary(group)
    if summary["num_same"] == summary["num_tensors"]:
        return f"{count(len(group), 'tensor')}, all the same"
    pairs = [t for t in group if t.status not in ("missing", "extra")]
    if not pairs:
        return "no name in common"
    differing = sum(t.status != "same" for t in pairs)
    text = f"{differing:,} of {count(len(pairs), 'tensor')} differ"
    if summary["max_abs_name"]:
        text += f", by {summary['max_abs']:.3g} at most" if isinstance(summary["max_abs"], float) else ", without bound"
        text += f" ({printable(summary['max_abs_name'])})"
    return text


def _others(group: list[TensorDifference]) -> str:
    """Returns how many differ in more than their values."""
    words = {"missing": "missing in b", "extra": "only in b", "shape": "of another shape", "dtype": "of another type"}
    found = _summary(group)["num_by_status"]
    return ", ".join(f"{found[status]:,} {word}" for status, word in words.items() if status in found)


def _table(differing: list[TensorDifference], width: int | None) -> Iterator[str]:
    """Yields a table of what differs: with counts where there is room, else with shares, and names shortened last."""
    lines = _rows(differing, brief=False, name_width=None)
    if width is not None and max(map(len, lines)) > width:
        lines = _rows(differing, brief=True, name_width=None)
        longest = max(len(printable(t.name)) for t in differing)
        if (too_wide := max(map(len, lines)) - width) > 0:
            lines = _rows(differing, brief=True, name_width=max(_MIN_NAME, longest - too_wide))
    yield from (cut(line, width) for line in lines)


def _rows(differing: list[TensorDifference], *, brief: bool, name_width: int | None) -> list[str]:
    rows = [["name", "what", "max |a-b|", "relative", "cosine", "differ"]]
    rows += [[shortened(printable(t.name), name_width), *_cells(t, brief)] for t in differing]
    return [f"  {line}" for line in aligned(rows, _RIGHT)]


def _cells(t: TensorDifference, brief: bool) -> list[str]:
    if t.status in ("missing", "extra"):
        at = 0 if t.status == "missing" else 1
        return [f"{'missing in b' if at == 0 else 'only in b'}: {t.dtypes[at]} {_shape(t.shapes[at])}"]
    if t.status == "shape":
        return [f"{_shape(t.shapes[0])} | {_shape(t.shapes[1])}"]
    found = t.values
    assert found is not None  # there is a pair of one shape
    what = f"{t.dtypes[0]} | {t.dtypes[1]}" if t.status == "dtype" else str(t.dtypes[0])
    if not found.num_different and not found.same_bits and t.status != "dtype":
        what += ", other bits"
    numbers = [found.max_abs, found.max_rel]
    cosine = "-" if found.cosine is None else f"{found.cosine:.6f}"
    nan = f", {found.num_nan:,} NaN" if found.num_nan else ""
    shown = ["-" if number is None else f"{number:.3g}" for number in numbers]
    if not brief:
        return [what, *shown, cosine, f"{found.num_different:,} of {found.num_values:,}{nan}"]
    share = found.num_different / max(1, found.num_values)
    return [what, *shown, cosine, "<0.1%" if 0 < share < 0.001 else f"{share:.1%}"]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else str(list(shape))


def _finite(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
