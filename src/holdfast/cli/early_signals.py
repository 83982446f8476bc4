"""Signals before training has begun: there is nothing to save, so the process ends at once, with the code promised."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending_at_once_on_signals() -> Iterator[None]:
    """Within it, SIGINT ends this process with 130, SIGTERM and SIGUSR1 with 143.

    Raising KeyboardInterrupt in the middle of an import is no choice: the import machinery and C extensions may
    swallow it. The run puts its own handlers in place of these while there is something to save.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {n: signal.signal(n, _end) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"stopped outside training: nothing to save\n")
    os._exit(130 if number == signal.SIGINT else 143)
