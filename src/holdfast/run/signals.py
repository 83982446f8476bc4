"""Signals set a flag; the loop looks at it at its own places. Nothing is saved inside a signal handler.

A time budget is the same flag, set by the clock early enough for the save to be done in time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """A context in which SIGINT, SIGTERM and SIGUSR1 ask for a stop at the next step boundary.

    A SIGINT after that ends the process at once: the newest checkpoint is what it is.

    Args:
        say: called with one line when a stop is asked for.
        budget_seconds: how long this process may live, counted from its beginning; None for no limit.
        grace_seconds: what the system leaves between SIGTERM and SIGKILL.

    Attributes:
        signal_number: the first signal, or None.
        reserve_seconds: what a stop takes at present; that much before its end the budget asks for it.
        has_worked: set once a step is made: a budget never stops a process that has got nowhere.
    """

    def __init__(
        self, say: Callable[[str], None], budget_seconds: float | None = None, grace_seconds: float = 30.0
    ) -> None:
        self._say = say
        self._former: dict[int, Any] = {}
        self._grace_seconds = grace_seconds
        self._deadline = None if budget_seconds is None else time.monotonic() - process_seconds() + budget_seconds
        self._out_of_time = False
        self._signalled_at = 0.0
        self.signal_number: int | None = None
        self.reserve_seconds = 0.0
        self.has_worked = False

    def __enter__(self) -> StopRequest:
        # Only the main thread may install handlers; elsewhere (a notebook's worker) the caller's stay.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.signal_number is not None or self._is_out_of_time()

    @property
    def exit_code(self) -> int:
        """130 after SIGINT; 143 after the others, and after a time budget, so that one job script handles both."""
        return 130 if self.signal_number == signal.SIGINT else 143

    def seconds_left(self) -> float:
        """Returns how long the system still lets this process live, as far as we were told."""
        if self.signal_number is not None:
            return self._grace_seconds - (time.monotonic() - self._signalled_at)
        return self._grace_seconds if self._deadline is None else self._deadline - time.monotonic()

    def _is_out_of_time(self) -> bool:
        if self._deadline is None or not self.has_worked:
            return False
        if not self._out_of_time and time.monotonic() > self._deadline - self.reserve_seconds:
            self._out_of_time = True
            self._say("the time budget is almost used up: stopping, and saving")
        return self._out_of_time

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            os._exit(130)
        if self.signal_number is None:
            self._signalled_at = time.monotonic()
            self.signal_number = number
            name = signal.Signals(number).name
            again = f" (Ctrl-C {'again ' if number == signal.SIGINT else ''}to stop now, without saving)"
            self._say(f"{name}: finishing this step, then saving{again}")


def process_seconds() -> float:
    """Returns how long this process has lived; 0 where the system does not tell."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        # After the command's name, which may hold spaces, the 20th field is the start, in ticks since boot.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return 0.0
