"""Saves one more checkpoint again and again, each time in a process that kills itself at another system call.

For every call a save makes (before it, in the middle of a write, and after it) a store is copied, and a child process
saves step 2 into the copy until that call, where it sends itself SIGKILL. So for a small state and for one that goes to
the disk by direct writes, in several pieces; and for saves of the loop's own thread and of the store's. Prints one line
a child, as JSON: the copy's folder, what was saved how, the call, the moment, and whether the child was killed. Knows
nothing of what should be found there.

Run: python save_and_be_killed.py SMALL_STORE LARGE_STORE FOLDER EVERY

Only every EVERY-th call is tried, from another one on at each moment. Above 1, files are not really synced: a process
that dies takes nothing with it that the system has, and syncing is what takes the time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from holdfast.checkpoints import CheckpointStore, Last, direct_file, files

CALLS = ("mkdir", "open", "write", "ftruncate", "fsync", "close", "rename", "unlink", "rmdir")
NUM_VALUES = {"small": 64, "large": 5_003}
_PIECE = 8_192  # bytes


def parts_of(step: int, size: str = "small") -> dict[str, Any]:
    """Returns what is saved at `step`; every value tells the step."""
    count = NUM_VALUES[size]
    return {
        "model": {"w": torch.full((count,), float(step)), "b": torch.full((3,), step)},
        "optimizer": {"m": torch.full((count,), step / 2)},
        "counters": {"step": step, "note": "x" * 100},
    }


def write_in_small_pieces(put: Callable[[Any, str, int], None] = setattr) -> None:
    """Makes everything above 8 KiB a direct write, in pieces of that size."""
    put(files, "BUFFER_BYTES", _PIECE)
    put(direct_file, "BUFFER_BYTES", _PIECE)


def die_at(number: int, moment: str, log: Path) -> None:
    """Makes the process kill itself at the `number`-th of CALLS; its name goes to `log` first."""
    counted = itertools.count(1)
    counting = threading.Lock()
    to_file = Path.write_text

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with counting:
                count = next(counted)
            if count != number:
                return real(*arguments, **options)
            to_file(log, name)
            if moment == "after":
                real(*arguments, **options)
            elif moment == "half way" and name == "write":
                with contextlib.suppress(OSError):  # half a block is not to every disk's taste
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("SIGKILL was not deadly")

        return call

    for name in CALLS:
        setattr(os, name, deadly(name, getattr(os, name)))


def save_in_a_child(folder: Path, number: int, moment: str, log: Path, size: str, *, background: bool) -> bool:
    """Saves step 2 in a child process; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(Exception):
            die_at(number, moment, log)
            store = CheckpointStore(folder, Last(1), background=background)
            store.save(2, parts_of(2, size))
            store.close()
            code = 0
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the child failed at call {number} ({moment})")
    return os.WIFSIGNALED(status)


def main(bases: dict[str, Path], folder: Path, every: int) -> None:
    """Goes through all sizes, modes, moments and calls."""
    torch.set_num_threads(1)  # so that a child has all the threads it needs
    write_in_small_pieces()
    if every > 1:
        os.fsync = lambda _descriptor: None
    moments = list(enumerate(("before", "half way", "after")))
    for size, mode, (first, moment) in itertools.product(bases, ("synchronous", "background"), moments):
        number, killed = 1 + first % every, True
        while killed:
            copy = folder / f"{size}-{mode}-{moment}-{number}"
            log = copy.with_suffix(".txt")
            shutil.copytree(bases[size], copy)
            killed = save_in_a_child(copy, number, moment, log, size, background=mode == "background")
            call = log.read_text() if killed else None
            told = {"size": size, "mode": mode, "moment": moment, "call": call, "killed": killed}
            print(json.dumps({"folder": str(copy), **told}), flush=True)
            number += every


if __name__ == "__main__":
    main({"small": Path(sys.argv[1]), "large": Path(sys.argv[2])}, Path(sys.argv[3]), int(sys.argv[4]))
