"""Which checkpoints to keep: small policies that are joined with `|`.

A policy never deletes: it answers with a set of steps, and the store deletes the others. It remembers nothing: the
answer depends on what is on the disk alone, so a run that was killed prunes as one that was not. The other side of
that: a policy that keeps *forever* must choose again what it chose before, from what was left over. Every such rule
here therefore picks the first checkpoint that does, which no newer one can take the place of.
"""

from __future__ import annotations

import difflib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from holdfast.errors import ConfigError


@dataclass(frozen=True)
class Saved:
    """What retention knows of one checkpoint.

    Attributes:
        step: optimizer updates made, 0 or more; no two checkpoints have the same.
        metrics: name → number. Numbers that are not finite count as not measured.
        epoch: whole epochs made; None when the saver did not say.
        saved_at: when it was saved, in seconds since 1970 by the clock on the wall; None when that is not known.
    """

    step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int | None = None
    saved_at: float | None = None


class Policy(ABC):
    """A rule that says which checkpoints to keep. `a | b` keeps what either keeps."""

    @abstractmethod
    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the steps to keep, of those given, in whatever order they are given."""

    def __or__(self, other: Policy) -> AnyOf:
        return AnyOf((self, other)) if isinstance(other, Policy) else NotImplemented


def _expect_whole(policy: Policy, what: str, value: object, more: str = "", least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"Keeping checkpoints by {type(policy).__name__}: {what} is {value!r}; "
            f"expected a whole number, {least} or more{more}."
        )


@dataclass(frozen=True)
class AnyOf(Policy):
    """Keeps what any of `policies` keeps, one or more of them. Unions among them are taken apart.

    Raises:
        ConfigError: there is none, which would keep nothing at all.
    """

    policies: tuple[Policy, ...]

    def __init__(self, policies: Iterable[Policy]) -> None:
        flat = [p for policy in policies for p in (policy.policies if isinstance(policy, AnyOf) else (policy,))]
        if not flat:
            raise ConfigError("Keeping checkpoints by AnyOf: there is no policy in it; expected one or more.")
        object.__setattr__(self, "policies", tuple(flat))

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the steps that any of the policies keeps."""
        return {step for policy in self.policies for step in policy.keep(saved)}


@dataclass(frozen=True)
class Last(Policy):
    """Keeps the newest `count` checkpoints, 1 or more; all of them for None. Raises ConfigError for other counts."""

    count: int | None = 3

    def __post_init__(self) -> None:
        if self.count is not None:
            _expect_whole(self, "count", self.count, ", or None for all")

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the greatest steps."""
        steps = sorted({one.step for one in saved})
        return set(steps if self.count is None else steps[-self.count :])


@dataclass(frozen=True)
class Best(Policy):
    """Keeps the `count` best by `metric`. A checkpoint that was not measured is never among them.

    Args:
        metric: its name.
        direction: "max" when more is better, "min" when less is.
        count: how many, 1 or more.
        tie_metric: of equals, the one with the least of this comes first (one without it last), then the earliest.

    Raises:
        ConfigError: `metric`, `count` or `direction` is none of these.
    """

    metric: str
    direction: Literal["max", "min"] = "max"
    count: int = 1
    tie_metric: str | None = None

    def __post_init__(self) -> None:
        _expect_whole(self, "count", self.count)
        if not isinstance(self.metric, str) or not self.metric:
            raise ConfigError(f"Keeping the best: the metric is {self.metric!r}; expected its name.")
        if self.direction not in ("max", "min"):
            raise ConfigError(
                f"Keeping the best by {self.metric}: direction is {self.direction!r}; expected 'max' or 'min'."
            )

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the steps of the best."""
        return set(self._ranked(saved)[: self.count])

    def best(self, saved: Sequence[Saved]) -> int | None:
        """Returns the step of the single best; None when none was measured."""
        return next(iter(self._ranked(saved)), None)

    def _ranked(self, saved: Sequence[Saved]) -> list[int]:
        """Returns the steps that were measured, the best first."""
        sign = -1 if self.direction == "max" else 1
        known = []
        for one in saved:
            value = _finite(one.metrics.get(self.metric))
            tie = _finite(one.metrics.get(self.tie_metric)) if self.tie_metric else None
            if value is not None:
                known.append((sign * value, math.inf if tie is None else tie, one.step))
        return [step for _, _, step in sorted(known)]


@dataclass(frozen=True)
class EverySteps(Policy):
    """Keeps forever the first checkpoint at or after every multiple of `steps`, and step 0 if it was saved.

    A run that saves every 300 steps keeps 1200, 2100 and 3000 by `EverySteps(1000)`. What was kept once is kept again
    as long as steps only grow, as in a run they do. Raises ConfigError unless `steps` is a whole number, 1 or more.
    """

    steps: int

    def __post_init__(self) -> None:
        _expect_whole(self, "steps", self.steps)

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the first step at or after each multiple."""
        steps = sorted({one.step for one in saved})
        return _first_at_each_multiple(((step, step) for step in steps), self.steps) | ({0} & set(steps))


@dataclass(frozen=True)
class EveryEpochs(Policy):
    """Keeps forever the first checkpoint at or after every multiple of `epochs` whole epochs, 0 excepted.

    One that does not know its epoch is not kept by this. Raises ConfigError unless `epochs` is a whole number, 1 or
    more.
    """

    epochs: int

    def __post_init__(self) -> None:
        _expect_whole(self, "epochs", self.epochs)

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the first step of each multiple."""
        in_order = sorted((one.step, one.epoch) for one in saved if isinstance(one.epoch, int))
        return _first_at_each_multiple(in_order, self.epochs)


@dataclass(frozen=True)
class EveryMinutes(Policy):
    """Keeps forever the first checkpoint, and each that was saved `minutes` or more after the one kept before it.

    One that does not know when it was saved is not kept by this. Where the clock went backwards between two
    checkpoints, nobody knows how long it was between them, and both are kept: the later one because it may be due, the
    earlier one because without it the jump would not show any more and the later one would be judged anew. Raises
    ConfigError unless `minutes` is a finite number above 0.
    """

    minutes: float

    def __post_init__(self) -> None:
        if not (isinstance(self.minutes, int | float) and math.isfinite(self.minutes) and self.minutes > 0):
            raise ConfigError(
                f"Keeping checkpoints by EveryMinutes: minutes is {self.minutes!r}; expected a finite number above 0."
            )

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns the steps to keep, walking from the earliest to the latest step."""
        known = sorted((one.step, at) for one in saved if (at := _finite(one.saved_at)) is not None)
        kept: set[int] = set()
        last_kept_at = before_at = -math.inf
        before = -1
        for step, at in known:
            backwards = at < before_at
            if backwards:
                kept.add(before)
            if backwards or at - last_kept_at >= 60 * self.minutes:
                kept.add(step)
                last_kept_at = at
            before, before_at = step, at
        return kept


@dataclass(frozen=True)
class At(Policy):
    """Keeps forever the checkpoints of exactly these `steps`, each 0 or more; ConfigError for other steps."""

    steps: frozenset[int]

    def __init__(self, steps: Collection[int]) -> None:
        for step in steps:
            _expect_whole(self, "a step", step, least=0)
        object.__setattr__(self, "steps", frozenset(steps))

    def keep(self, saved: Sequence[Saved]) -> set[int]:
        """Returns those of the steps that are there."""
        return {one.step for one in saved if one.step in self.steps}


@dataclass(frozen=True)
class FirstMeasured(Best):
    """Keeps the best by `metric` where any checkpoint was measured by it; else by the first of `others` that was.

    So a run's best is found from what lies in its folder, without knowing what the run learned.
    """

    others: tuple[Best, ...] = ()

    def _ranked(self, saved: Sequence[Saved]) -> list[int]:
        own = super()._ranked(saved)
        return own or next((found for rule in self.others if (found := rule._ranked(saved))), [])


# How the best of a classifier is chosen wherever we choose it: most right, and of equals the surest.
BEST_CLASSIFIER = Best("accuracy", "max", tie_metric="loss")
# And of any run: by mean average precision (several labels), accuracy (classes), normalised mean error (points), or,
# where columns of numbers have no unit in common, by the loss.
BEST_OF_RUN = FirstMeasured(
    "map",
    "max",
    tie_metric="loss",
    others=(BEST_CLASSIFIER, Best("nme", "min", tie_metric="loss"), Best("loss", "min")),
)


def best_of(policy: Policy) -> Best | None:
    """Returns the first `Best` in a policy or a union, which says what its best checkpoint is; None without one."""
    if isinstance(policy, AnyOf):
        return next((p for p in policy.policies if isinstance(p, Best)), None)
    return policy if isinstance(policy, Best) else None


_ACCEPTED = (
    "Expected words with commas between them: 3 (the newest three), all, best:2:accuracy, best:1:loss:min, "
    "every:1000steps, every:5epochs, every:60min, at:100+200."
)
_WORDS = ("all", "best", "every", "at")
_UNITS: dict[str, Callable[[str], Policy]] = {
    **dict.fromkeys(("", "step", "steps"), lambda number: EverySteps(_whole(number))),
    **dict.fromkeys(("epoch", "epochs"), lambda number: EveryEpochs(_whole(number))),
    **dict.fromkeys(("min", "minute", "minutes"), lambda number: EveryMinutes(float(number))),
}


def parse_keep(text: str, metric: str = "accuracy") -> Policy:
    """Reads what a person writes after `--keep`: words with commas between them, each of which keeps some.

    `3` the newest three · `all` · `best`, `best:2`, `best:2:accuracy`, `best:1:loss:min` the best (by `metric` unless
    said; least is best where the name ends in "loss" or "error" or is nme, mae or rmse, most otherwise; of equals the
    one of least loss) ·
    `every:1000steps` (or `every:1000`), `every:5epochs`, `every:60min` one in so many, forever · `at:100+200` these
    steps.

    Raises:
        ConfigError: a word is none of these; the message has the nearest, and all that may be said.
    """
    try:
        policies = [_parse_word(word.strip(), metric) for word in text.split(",")]
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"keep is {text!r}: {error} {_ACCEPTED}") from error
    return policies[0] if len(policies) == 1 else AnyOf(policies)


def _parse_word(word: str, metric: str) -> Policy:
    head, *rest = word.split(":")
    if word == "all":
        return Last(None)
    if not rest and head.isdecimal():
        return Last(_whole(head))
    if head == "best" and len(rest) <= 3:
        count, *more = rest or ["1"]
        return _parse_best(count, *(more or [metric]))
    if head == "every" and len(rest) == 1:
        return _parse_every(rest[0])
    if head == "at" and len(rest) == 1:
        return At([_whole(step) for step in rest[0].split("+")])
    if head in _WORDS:
        raise ConfigError(f"{word!r} has too few or too many parts.")
    raise ConfigError(f"{word!r} is none of its words.{_nearest(head, _WORDS)}")


def _parse_best(count: str, metric: str, direction: str = "") -> Best:
    less = metric.lower().endswith(("loss", "error", "nme", "mae", "rmse"))
    direction = direction or ("min" if less else "max")
    if not metric or direction not in ("max", "min"):
        raise ConfigError(f"'best:{count}:{metric}:{direction}' lacks a metric, or a direction that is max or min.")
    tie = None if metric == "loss" else "loss"
    return Best(metric, "max" if direction == "max" else "min", _whole(count), tie)


def _parse_every(text: str) -> Policy:
    match = re.fullmatch(r"([0-9.]+) *([a-z]*)", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{text!r} is not a number and a unit.")
    number, unit = match[1], match[2].lower()
    if unit not in _UNITS:
        raise ConfigError(f"{unit!r} is no unit.{_nearest(unit, [name for name in _UNITS if name])}")
    return _UNITS[unit](number)


def _first_at_each_multiple(in_order: Iterable[tuple[int, int]], interval: int) -> set[int]:
    """Returns the first of the steps whose value is at or after each multiple of `interval`, of (step, value)."""
    kept, reached = set(), 0
    for step, value in in_order:
        if value // interval > reached:
            kept.add(step)
            reached = value // interval
    return kept


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ConfigError(f"{text!r} is not a whole number.")
    return int(text)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
