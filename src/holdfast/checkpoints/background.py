"""One thread that does one job after another, so that what was handed over first is on the disk first.

Knows nothing of checkpoints. What goes wrong in a job is kept until somebody asks: never lost, never only in a log.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Background:
    """A queue of jobs and the thread that empties it. The thread is started by the first job.

    The thread does not keep the process alive: whoever owns this waits for it before the end. A forked process begins
    with an empty queue and no thread; what was handed over before the fork is its parent's to do.
    """

    def __init__(self) -> None:
        self._begin()
        _ALL.add(self)

    def submit(self, job: Job) -> None:
        """Adds a job behind those that wait. Does it at once where no thread can be started: at a process's end."""
        with self._changed:
            if self._thread is None and not self._start():
                self._do(job)
                return
            self._jobs.append(job)
            self._changed.notify_all()

    def wait(self, at_most: int = 0) -> None:
        """Returns when no more than `at_most` jobs are left to do, whether the others worked or not."""
        if threading.current_thread() is self._thread:
            return  # a job does not wait for itself
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) + self._busy <= at_most)

    def is_mine(self) -> bool:
        """Whether the caller is one of the jobs."""
        return threading.current_thread() is self._thread

    def take_failure(self) -> BaseException | None:
        """Returns what went wrong first, once; None when nothing did."""
        with self._changed:
            return self._failures.popleft() if self._failures else None

    def end(self) -> None:
        """Lets the thread end once the queue is empty. A later job starts another one."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _begin(self) -> None:
        self._jobs: deque[Job] = deque()
        self._failures: deque[BaseException] = deque()
        self._changed = threading.Condition()
        self._busy = self._ending = False
        self._thread: threading.Thread | None = None

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="holdfast-save", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # Python 3.12 and later start no thread once the main one has ended
            return False
        self._thread, self._ending = thread, False
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs) or self._ending)
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
                self._busy = True
            self._do(job)
            del job  # and with it the state that it saved
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _do(self, job: Job) -> None:
        try:
            job()
        except BaseException as error:  # kept for the caller, whatever it is: a thread that died would never be done
            with self._changed:
                self._failures.append(error)


# A child has the queues and not the threads, and locks that some thread of its parent may have held.
_ALL: weakref.WeakSet[Background] = weakref.WeakSet()


def _begin_in_child() -> None:
    for background in _ALL:
        background._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
