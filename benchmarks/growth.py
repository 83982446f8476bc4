"""What grows with the state and with the number of checkpoints, and what does not.

States from 10 MB to 4 GB, each in a process of its own: seconds a gigabyte of a save and of a verified restore, beside
a raw write of as many bytes, and the peak of extra memory in states. Then a thousand tiny checkpoints in one store:
listing and pruning them, the first call of a fresh process and the calls after it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import reset_peak, resident_bytes
from benchmarks.options import Options, keep_freed_memory, parse
from benchmarks.raw import RawBytes
from benchmarks.spread import summary
from benchmarks.workload import Numbers
from holdfast import CheckpointStore
from holdfast.checkpoints import Best, EverySteps, Last, Policy

SIZES = [10, 40, 160, 640, 1_280, 2_500, 4_000]  # 10^6 bytes
NUM_CHECKPOINTS = 1_000


def main(options: Options) -> None:
    """Prints a row for every size, then the milliseconds of a full store."""
    sizes = [size for size in SIZES if size <= (options.megabytes or SIZES[-1])]
    print(f"{'state, MB':>9} {'save, s/GB':>26} {'of raw':>7} {'restore, s/GB':>26} {'extra memory, states':>21}")
    for size in [1] if options.short else sizes:
        one = _in_a_process("state", str(size), options)
        per_gb = 1e3 / one["megabytes"]
        raw = statistics.median(one["raw"]) / statistics.median(one["save"])
        print(
            f"{one['megabytes']:9.0f} {summary(one['save'], '', per_gb, 3):>26} {raw:6.2f}× "
            f"{summary(one['restore'], '', per_gb, 3):>26} {one['extra_states']:21.3f}",
            flush=True,
        )
    count = 20 if options.short else NUM_CHECKPOINTS
    with options.folder() as folder:
        per_save = _fill(folder, count)
        print(f"\n{count:,} checkpoints, {summary(per_save, 'ms a save', 1e3)}; milliseconds in a fresh process")
        calls = [_in_a_process("calls", str(folder), options) for _ in range(options.turns(5))]
        for name in calls[0]:
            first, later = [one[name][0] for one in calls], [t for one in calls for t in one[name][1:]]
            print(f"{name:28} first {summary(first, '', 1e3):>24}   later {summary(later, '', 1e3):>24}")


def _in_a_process(what: str, argument: str, options: Options) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth", what, argument, "--dir", str(options.directory)]
    command += ["--rounds", str(options.turns(5))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {what} {argument}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure_state(megabytes: int, options: Options) -> dict[str, Any]:
    """Returns seconds of saves, raw writes and restores of one size, and the peak of extra memory in states."""
    keep_freed_memory()
    work = Numbers(megabytes)
    raw = RawBytes(work.num_bytes)
    times: dict[str, list[float]] = {"save": [], "raw": [], "restore": []}
    extra = float("nan")
    with options.folder() as folder, CheckpointStore(folder / "store", keep=Last(1)) as store:
        with CheckpointStore(folder / "first") as first:  # imports and threads count for nobody
            first.save(0, Numbers(1).parts)
        for turn in range(options.turns(5) + 1):
            if turn == 0 and Path("/proc/self/clear_refs").exists():
                before = resident_bytes("VmRSS")
                reset_peak()
            times["save"].append(_seconds(lambda step=turn: (store.save(step, work.parts), store.wait())))
            if turn == 0:
                extra = (resident_bytes("VmHWM") - before) / work.num_bytes
            times["raw"].append(_seconds(lambda: raw.write(folder / "raw", direct=False)))
            (folder / "raw").unlink()
            times["restore"].append(_seconds(lambda: store.restore_latest(work.parts)))
    warm = {name: values[1:] for name, values in times.items()}
    return {"megabytes": work.num_bytes / 1e6, "extra_states": extra, **warm}


def measure_calls(root: Path) -> dict[str, list[float]]:
    """Returns seconds of the first and later calls in this process."""
    policy: Policy = Last(3) | Best("accuracy") | EverySteps(1)
    store = CheckpointStore(root, keep=policy, background=False)
    return {
        "steps()": [_seconds(store.steps) for _ in range(5)],
        "best()": [_seconds(store.best) for _ in range(5)],
        "prune()": [_seconds(store.prune) for _ in range(5)],
    }


def _fill(root: Path, count: int) -> list[float]:
    """Saves tiny checkpoints that are all kept; returns the seconds of each save, with its pruning."""
    parts = {"model": {"weights": torch.zeros(8)}}
    with CheckpointStore(root, keep=Last(3) | Best("accuracy") | EverySteps(1), background=False) as store:
        return [
            _seconds(lambda step=step: store.save(step, parts, {"accuracy": step % 97 / 97}, {"epoch": step}))
            for step in range(1, count + 1)
        ]


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    chosen, (what, argument) = parse(sys.argv[1:], "what", "argument")
    print(json.dumps(measure_state(int(argument), chosen) if what == "state" else measure_calls(Path(argument))))
