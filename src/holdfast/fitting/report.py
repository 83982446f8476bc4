"""What became of every tensor of a model, and of a file, when the one was loaded into the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from holdfast.fitting.optimizer import OptimizerReport

Outcome = Literal["matched", "reshaped", "fresh"]


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor of the model.

    Attributes:
        name: its plain name in the model.
        outcome: "matched": taken with its shape; "reshaped": made to fit; "fresh": left as it was.
        shape: in the model.
        num_values: how many of its values come from the file, 0 for a fresh one.
        source: its name in the file, None for a fresh one that has no partner there.
        rule: by which rule another name was found, "" for the same name.
        note: how it was made to fit, or why it was not.
        cast: "float16 → float32" when its type is another one, else "".
        is_parameter: no for a buffer.
    """

    name: str
    outcome: Outcome
    shape: tuple[int, ...]
    num_values: int
    source: str | None = None
    rule: str = ""
    note: str = ""
    cast: str = ""
    is_parameter: bool = True


@dataclass(frozen=True)
class LoadReport:
    """What fitted and what did not.

    Attributes:
        source: the file.
        role: which of the file's models was taken; None for weights that were given as tensors.
        tensors: one a tensor of the model, in its order; tied ones once.
        unused: names in the file that the model has no place for.
        num_values: values of the model's parameters.
        notes: what else there is to know: other models in the file, classes by name.
        optimizer: what became of the optimizer's state; None when none was asked for.
    """

    source: str
    role: str | None
    tensors: tuple[TensorReport, ...]
    unused: tuple[str, ...]
    num_values: int
    notes: tuple[str, ...] = ()
    optimizer: OptimizerReport | None = field(default=None)

    @property
    def num_loaded(self) -> int:
        """Values of parameters that come from the file."""
        return sum(tensor.num_values for tensor in self.tensors if tensor.is_parameter)

    @property
    def fraction(self) -> float:
        """The part of the parameters' values that comes from the file, 0..1; of the buffers' without parameters."""
        if self.num_values:
            return self.num_loaded / self.num_values
        return sum(t.outcome != "fresh" for t in self.tensors) / max(1, len(self.tensors))

    @property
    def is_exact(self) -> bool:
        """Whether every tensor of the model was taken unchanged and none of the file is left over."""
        return not self.unused and all(t.outcome == "matched" and not t.cast for t in self.tensors)

    def of(self, outcome: Outcome) -> list[TensorReport]:
        """Returns the tensors with an outcome, in order."""
        return [tensor for tensor in self.tensors if tensor.outcome == outcome]

    @property
    def renamed(self) -> dict[str, str]:
        """The taken tensors whose names differ: name in the model → name in the file."""
        return {t.name: t.source for t in self.tensors if t.outcome != "fresh" and t.source and t.source != t.name}

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "source": self.source,
            "role": self.role,
            "fraction": self.fraction,
            "num_loaded": self.num_loaded,
            "num_values": self.num_values,
            "tensors": [
                {
                    "name": t.name,
                    "outcome": t.outcome,
                    "source": t.source,
                    "shape": list(t.shape),
                    "rule": t.rule,
                    "note": t.note,
                    "cast": t.cast,
                }
                for t in self.tensors
            ],
            "unused": list(self.unused),
            "notes": list(self.notes),
            **({"optimizer": self.optimizer.to_json()} if self.optimizer else {}),
        }

    def lines(self, limit: int = 8) -> Iterator[str]:
        """Yields the report as text: a line for each outcome, the exceptions by name.

        Args:
            limit: how many names of each kind are shown.
        """
        where = f"{self.source}" + (f" ({self.role})" if self.role not in (None, "model") else "")
        yield f"{where}: {percent(self.fraction)} of {self.num_values:,} parameters loaded"
        taken = [t for t in self.tensors if t.outcome == "matched"]
        yield f"  matched   {_tensors(len(taken))}"
        yield from (f"  renamed   {line}" for line in self._rules())
        for kind in sorted({t.cast for t in self.tensors if t.cast}):
            yield f"  cast      {_tensors(sum(t.cast == kind for t in self.tensors))} {kind}"
        for outcome in ("reshaped", "fresh"):
            found = self.of(outcome)
            for tensor in found[:limit]:
                yield f"  {outcome:<9} {tensor.name} {list(tensor.shape)}" + (f": {tensor.note}" if tensor.note else "")
            if len(found) > limit:
                yield f"  {outcome:<9} … and {len(found) - limit} more"
        if self.unused:
            shown = ", ".join(self.unused[:limit]) + (" …" if len(self.unused) > limit else "")
            yield f"  unused    {_tensors(len(self.unused))} of the file: {shown}"
        yield from (f"  note      {note}" for note in self.notes)
        if self.optimizer is not None:
            yield from (f"  {line}" for line in str(self.optimizer).splitlines())

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        counts = {o: len(self.of(o)) for o in ("matched", "reshaped", "fresh")}
        shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        return f"<LoadReport of {self.source}: {percent(self.fraction)} loaded; {shown}, {len(self.unused)} unused>"

    def _rules(self) -> Iterator[str]:
        rules: dict[str, list[TensorReport]] = {}
        for tensor in self.tensors:
            if tensor.rule and tensor.outcome != "fresh":
                rules.setdefault(tensor.rule, []).append(tensor)
        for rule, tensors in rules.items():
            first = tensors[0]
            yield f"{_tensors(len(tensors))} ({rule}): {first.source} → {first.name}" + (
                " …" if len(tensors) > 1 else ""
            )


def percent(fraction: float) -> str:
    """Returns a part of a whole as text that says 0% and 100% of none and all only."""
    if 0 < fraction < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < fraction < 1 else f"{fraction:.1%}"


def _tensors(count: int) -> str:
    return f"{count:,} tensor" + ("" if count == 1 else "s")
