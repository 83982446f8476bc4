"""Seconds of work, summed by stage. Knows no picture."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.data.speed.timing import Kind, Place, Stage

Value = TypeVar("Value")


@dataclass
class Clock:
    """Seconds by stage, in the order in which stages were first met."""

    seconds: dict[tuple[str, Kind, Place], float] = field(default_factory=lambda: defaultdict(float))
    _last: float = 0.0
    _differing: set[str] = field(default_factory=set)

    def time(self, name: str, kind: Kind, work: Callable[[], Value], place: Place = "worker") -> Value:
        """Returns what `work` returns, its processor time added: that of the disk goes by the clock."""
        now = time.perf_counter if kind == "disk" else time.thread_time
        began = now()
        value = work()
        self._last = now() - began
        self.seconds[name, kind, place] += self._last
        return value

    def compare(self, name: str, kind: Kind, work: Callable[[], object] | None) -> None:
        """Adds what something else would take in place of the stage just timed; None: the same, and as long.

        So an average is over the pictures that the stage's own is over.
        """
        stage = self._last
        if work is None:
            self.seconds[name, kind, ""] += stage
        else:
            self._differing.add(name)
            self.time(name, kind, work, "")
            self._last = stage

    def stages(self, num: int) -> list[Stage]:
        """Returns the stages, of so many pictures each, without comparisons of the same with the same."""
        return [
            Stage(name, kind, total / num, place)
            for (name, kind, place), total in self.seconds.items()
            if place or name in self._differing
        ]
