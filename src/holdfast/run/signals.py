"""Signals set a flag; the loop looks at it at its own places. Nothing is saved inside a signal handler."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """A context in which SIGINT, SIGTERM and SIGUSR1 ask for a stop at the next step boundary.

    A SIGINT after that ends the process at once: the newest checkpoint is what it is.

    Args:
        say: called with one line when the first signal arrives.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._former: dict[int, Any] = {}
        self.signal_number: int | None = None

    def __enter__(self) -> StopRequest:
        # Only the main thread may install handlers; elsewhere (a notebook's worker) the caller's stay.
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in _HANDLED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after the others."""
        return 130 if self.signal_number == signal.SIGINT else 143

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            os._exit(130)
        if self.signal_number is None:
            self.signal_number = number
            name = signal.Signals(number).name
            again = " (Ctrl-C again to stop now, without saving)" if number == signal.SIGINT else ""
            self._say(f"{name}: finishing this step, then saving{again}")
