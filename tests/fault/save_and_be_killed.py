"""Saves one more checkpoint again and again, each time in a process that kills itself at another system call.

For every call a save makes (before it, in the middle of a write, and after it) the store in BASE is copied, and a child
process saves step 2 into the copy until that call, where it sends itself SIGKILL. Prints one line a child, as JSON:
the copy's folder, the call, the moment, and whether the child was killed. Knows nothing of what should be found there.

Run: python save_and_be_killed.py BASE FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from holdfast.checkpoints import CheckpointStore, Retention

CALLS = ("mkdir", "write", "fsync", "rename", "unlink", "rmdir", "open")


def parts_of(step: int) -> dict[str, Any]:
    """Returns what is saved at `step`; every value tells the step."""
    return {
        "model": {"w": torch.full((64,), float(step)), "b": torch.full((3,), step)},
        "optimizer": {"m": torch.full((64,), step / 2)},
        "counters": {"step": step, "note": "x" * 100},
    }


def die_at(number: int, moment: str, log: Path) -> None:
    """Makes the process kill itself at the `number`-th of CALLS; its name goes to `log` first."""
    count = 0
    to_file = Path.write_text

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return real(*arguments, **options)
            to_file(log, name)
            if moment == "after":
                real(*arguments, **options)
            elif moment == "half way" and name == "write":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("SIGKILL was not deadly")

        return call

    for name in CALLS:
        setattr(os, name, deadly(name, getattr(os, name)))


def save_in_a_child(folder: Path, number: int, moment: str, log: Path) -> bool:
    """Saves step 2 in a child process; returns whether it was killed."""
    child = os.fork()
    if child == 0:
        die_at(number, moment, log)
        CheckpointStore(folder, Retention(last=1)).save(2, parts_of(2))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(base: Path, folder: Path) -> None:
    """Goes through all moments and calls."""
    torch.set_num_threads(1)  # so that a child has all the threads it needs
    for moment in ("before", "half way", "after"):
        number, killed = 0, True
        while killed:
            number += 1
            copy, log = folder / f"{moment}-{number}", folder / f"{moment}-{number}.txt"
            shutil.copytree(base, copy)
            killed = save_in_a_child(copy, number, moment, log)
            call = log.read_text() if killed else None
            print(json.dumps({"folder": str(copy), "call": call, "moment": moment, "killed": killed}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
