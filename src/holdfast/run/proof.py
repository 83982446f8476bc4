"""What came of replaying a stretch of a run: equal or not, where it first differs, and all of it in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from holdfast.run.cause import Cause
from holdfast.run.step_record import StepRecord
from holdfast.run.stretch import Stretch


@dataclass(frozen=True)
class Difference:
    """Where two states first differ.

    Attributes:
        step: after how many steps.
        tensors: names of those that differ, in the model's order.
        numbers: parts that differ in something that is no tensor.
        num_tensors: how many tensors there are.
        max_abs_difference: of the first of them, over its elements; None when it could not be measured.
    """

    step: int
    tensors: list[str]
    numbers: list[str]
    num_tensors: int
    max_abs_difference: float | None = None

    def __str__(self) -> str:
        if not self.tensors:
            return f"the numbers of {', '.join(self.numbers)}; all {self.num_tensors} tensors are equal"
        size = "" if self.max_abs_difference is None else f" (max abs difference {self.max_abs_difference:.3g})"
        return f"{self.tensors[0]}{size}, {len(self.tensors)} of {self.num_tensors} tensors at that step"


@dataclass(frozen=True)
class OwnCheckpoint:
    """A checkpoint that the run itself made within the stretch, against the uninterrupted replay at its step."""

    step: int
    difference: Difference | None = None
    damage: str | None = None


@dataclass
class Proof:
    """The outcome.

    Attributes:
        run: the run directory.
        stretch: which steps.
        workers: worker processes of the uninterrupted replay, the one that is killed, and the one that goes on.
        steps_compared: at how many steps the two replays were found equal.
        num_tensors: how many tensors were compared at each.
        difference: where the replays first differ from each other.
        own: the run's own checkpoints within the stretch, as far as the replays went.
        cause: the likely cause of the first difference.
        notes: what else a reader should know.
    """

    run: Path
    stretch: Stretch
    workers: tuple[int, int, int]
    steps_compared: int = 0
    num_tensors: int = 0
    difference: Difference | None = None
    own: list[OwnCheckpoint] = field(default_factory=list)
    cause: Cause | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def bit_exact(self) -> bool:
        """Whether nothing differs anywhere."""
        return self.difference is None and not any(own.difference for own in self.own)

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            "run": str(self.run),
            "bit_exact": self.bit_exact,
            **{k: v for k, v in asdict(self).items() if k != "run"},
        }

    def lines(self) -> list[str]:
        """Returns the verdict in words, a line each."""
        where, kill = f"steps {self.stretch.start} to {self.stretch.end}", f"a kill at step {self.stretch.kill}"
        what = f"{where}: replayed, and replayed with {kill}: "
        if self.difference is None:
            count = f"{self.steps_compared} step{'s' * (self.steps_compared != 1)}"
            lines = [f"{what}{self.num_tensors} tensors equal at each of {count}"]
        else:
            lines = [f"{what}differs first at step {self.difference.step}, {self.difference}"]
        lines += self._own_lines()
        if self.cause is not None:
            lines.append(f"likely cause: {self.cause.text}")
        return [*lines, *(f"note: {note}" for note in self.notes), "bit-exact" if self.bit_exact else "not bit-exact"]

    def _own_lines(self) -> list[str]:
        equal = [str(own.step) for own in self.own if not own.difference and not own.damage]
        lines = []
        if equal:
            plural = len(equal) > 1
            lines.append(f"the run's own checkpoint{'s' * plural} at step{'s' * plural} {', '.join(equal)}: equal")
        for own in self.own:
            if own.difference:
                lines.append(f"the run's own checkpoint at step {own.step}: differs, {own.difference}")
            elif own.damage:
                lines.append(
                    f"the run's own checkpoint at step {own.step}: not compared, since it cannot be read ({own.damage})"
                )
        return lines


def difference_of(first: StepRecord, second: StepRecord, *, numbers: bool = True) -> Difference | None:
    """Returns how two states of one step differ; None when they do not. The sizes of differences are not known here.

    Args:
        numbers: also compare what is no tensor. Just after a restore the optimizer's groups hold the recipe's rates
            until the first step sets them.
    """
    names = list(dict.fromkeys([*first.tensors, *second.tensors]))
    tensors = [name for name in names if first.tensors.get(name) != second.tensors.get(name)]
    parts = dict.fromkeys([*first.numbers, *second.numbers]) if numbers else {}
    other = [part for part in parts if first.numbers.get(part) != second.numbers.get(part)]
    return Difference(first.step, tensors, other, len(names)) if tensors or other else None
