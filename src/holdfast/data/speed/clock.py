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

    def time(self, name: str, kind: Kind, work: Callable[[], Value], place: Place = "worker") -> Value:
        """Returns what `work` returns, its processor time added: that of the disk goes by the clock."""
        now = time.perf_counter if kind == "disk" else time.thread_time
        began = now()
        value = work()
        self.seconds[name, kind, place] += now() - began
        return value

    def stages(self, num: int) -> list[Stage]:
        """Returns the stages, of so many pictures each."""
        return [Stage(name, kind, total / num, place) for (name, kind, place), total in self.seconds.items()]
