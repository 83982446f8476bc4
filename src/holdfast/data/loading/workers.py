"""The life of worker processes: they start whole, do not die of signals meant for the run, and end with it.

torch's DataLoader starts them and gives them work; this file knows nothing of pictures, order or batches.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import multiprocessing.util
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import torch

from holdfast.errors import ConfigError

_LOOK_AGAIN = 5.0  # seconds
_SOCKET_NAME_BYTES = 107  # on Linux; 103 on macOS, whose temporary folders are short


class Closable(Protocol):
    """Whatever has worker processes to end."""

    def close(self) -> None:
        """Ends them."""
        ...


def close_at_exit(owner: Closable) -> None:
    """Ends the workers before multiprocessing would, which lets none finish."""
    reference = weakref.ref(owner)

    def close() -> None:
        alive = reference()
        if alive is not None:
            alive.close()

    # Exit functions run last in, first out, and multiprocessing registered its own when it was imported.
    atexit.register(close)


def refuse_long_temporary_folder() -> None:
    """Raises ConfigError where workers could not talk to us: the name of a Unix socket has 107 bytes at most.

    They would not fail but hang: the thread that sends a batch dies, and the batch is waited for.
    """
    folder = multiprocessing.util.get_temp_dir()  # `…/pymp-xxxxxxxx`; a socket in it is `listener-xxxxxxxx`
    if len(os.fsencode(folder)) + len("/listener-xxxxxxxx") > _SOCKET_NAME_BYTES:
        raise ConfigError(
            f"Starting worker processes: the temporary folder {folder} has too long a name for the sockets they talk "
            "through. Set TMPDIR to a shorter one, such as /tmp, or work without them (--workers 0)."
        )


@contextmanager
def signals_held() -> Iterator[None]:
    """Holds signals back while workers start, so that none is hit before `begin_work` has run in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_work(worker: int) -> None:
    """What a worker process does first."""
    ignore_signals(worker)
    # The collector writes into every object that it looks at, and so would make this process a copy of its own of all
    # that it was forked with. What there is now is never looked at again.
    gc.freeze()


def ignore_signals(_worker: int) -> None:
    """Makes a worker deaf to SIGINT and SIGUSR1, and to a SIGTERM that is not from the main process.

    It ends when the main process is gone.
    """
    # Ctrl-C and SLURM signal the whole process group; the main process decides when workers stop.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGUSR1})
    if not hasattr(signal, "sigtimedwait"):  # macOS cannot ask who sent a signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # also where workers are not forked
    threading.Thread(target=_end_when_main_says_so, daemon=True).start()


def _end_when_main_says_so() -> None:
    # torch and multiprocessing end a worker that is stuck by SIGTERM, and would wait for it for ever otherwise. torch's
    # own look at whether the main process lives misses one that was killed before the worker had begun to look.
    main = multiprocessing.parent_process()
    while main is not None:
        told = signal.sigtimedwait({signal.SIGTERM}, _LOOK_AGAIN)
        if told.si_pid == main.pid if told is not None else not main.is_alive():
            break
    os._exit(0)  # as torch's own handler does; another code would be reported as a crash


@contextmanager
def one_thread() -> Iterator[None]:
    """Transforms run on one thread here too: reductions in a transform depend on the number of threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def picklable_or_refused(start_method: str | None, **parts: Any) -> None:
    """Raises ConfigError for what cannot be sent to a worker process that is not forked, naming it.

    Args:
        start_method: as `multiprocessing_context` of torch's DataLoader; None for the platform's own.
        parts: what will be sent, by the names that the user knows.
    """
    if (start_method or multiprocessing.get_start_method()) == "fork":
        return
    for name, value in parts.items():
        try:
            ForkingPickler.dumps(value)
        except Exception as error:  # pickle raises many kinds, and a user's class any
            raise ConfigError(
                f"Starting worker processes: the {name} cannot be sent to them ({type(error).__name__}: {error}). "
                "Define it at the top of a module, not as a lambda or inside a function, or work without workers."
            ) from error
