"""Bytes a second until a save is on the disk, beside a raw write and fsync of as many bytes.

Everybody by turns, each into a fresh file or folder that is deleted after. What does not sync its own files is followed
by fsync. The measure is the buffered write; the direct one shows what the disk takes.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from benchmarks.options import Options, keep_freed_memory
from benchmarks.raw import RawBytes
from benchmarks.savers import Saver, savers
from benchmarks.spread import percentile, summary
from benchmarks.workload import Numbers

RAW, RAW_DIRECT = "raw write + fsync", "raw O_DIRECT write + fsync"


def main(options: Options) -> None:
    """Takes turns and prints megabytes a second and the ratio to the raw write."""
    keep_freed_memory()
    work = Numbers(options.size(1000))
    raw = RawBytes(work.num_bytes)
    seconds: dict[str, list[float]] = {}
    with options.folder() as folder:
        everybody = savers(folder, options)
        for _ in range(options.turns(9) + 1):
            for name, direct in ((RAW, False), (RAW_DIRECT, True)):
                if not direct or hasattr(os, "O_DIRECT"):
                    path = folder / "raw"
                    seconds.setdefault(name, []).append(_seconds(lambda p=path, d=direct: raw.write(p, direct=d)))
                    path.unlink()
            for saver in everybody:
                seconds.setdefault(saver.name, []).append(_seconds(lambda one=saver: _save(one, work)))
                saver.clear()
        for saver in everybody:
            saver.close()
    print(f"state {work.num_bytes / 1e6:,.0f} MB; against {RAW!r}, round by round")
    print(f"\n{'':36} {'MB/s':>34} {'ratio':>26} {'p99, s':>8} {'first, s':>9}")
    for name, times in seconds.items():
        rates = [work.num_bytes / 1e6 / t for t in times[1:]]
        ratios = [base / t for base, t in zip(seconds[RAW][1:], times[1:], strict=True)]
        print(
            f"{name:36} {summary(rates, '', digits=0):>34} {summary(ratios, '×', digits=2):>26} "
            f"{percentile(times[1:], 99):8.2f} {times[0]:9.2f}"
        )
    print(f"a raw byte costs {statistics.median(seconds[RAW][1:]) / work.num_bytes * 1e9:.2f} s/GB")


def _save(saver: Saver, work: Numbers) -> None:
    saver.save(work.parts)
    saver.before_step()
    saver.wait_until_durable()


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
