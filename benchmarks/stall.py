"""How long a save holds the training loop, in copies of the state in memory, and what it does to the step time.

A vision transformer (512 MB of state) trains on the CPU. Everybody saves by turns from the same loop, with a step
before the save as its measure of the usual, and steps until the save is done and one more. *Held* is the time inside
the call that saves, and what the next optimizer step must wait. The unit is one copy of the state with torch into warm
memory, measured in every round. The first save of everybody, which takes its memory, stands apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks.options import Options, keep_freed_memory
from benchmarks.raw import WarmCopy
from benchmarks.savers import Saver, savers
from benchmarks.spread import percentile, summary
from benchmarks.workload import Workload


@dataclass
class _Times:
    """Seconds of one saver: held by each save, and of steps before, during and right after."""

    held: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


def main(options: Options) -> None:
    """Runs the loop and prints a row for every saver."""
    keep_freed_memory()
    short = options.short
    work = Workload(options.size(512), batch=1 if short else 4, side=32 if short else 224)
    copy = WarmCopy(list(work.tensors().values()))
    copies: list[float] = []
    with options.folder() as folder:
        times = {saver: _Times() for saver in savers(folder, options)}
        for _ in range(options.turns(15) + 1):
            copies.append(_seconds(copy.copy))
            for saver, its in times.items():
                _turn(work, saver, its)
        for saver in times:
            saver.close()
    unit = statistics.median(copies[1:])
    step = statistics.median([seconds for its in times.values() for seconds in its.usual])
    print(f"state {work.num_bytes / 1e6:,.0f} MB, {torch.get_num_threads()} threads, usual step {step:.2f} s")
    print(f"one copy of the state: {summary(copies[1:], 'ms', 1e3)}, p99 {percentile(copies[1:], 99) * 1e3:.1f} ms")
    print(
        f"\n{'':36} {'held, copies':>22} {'p99':>7} {'first':>7} {'held, ms':>10} "
        f"{'step: save':>11} {'after':>6} {'p99':>6}"
    )
    for saver, its in times.items():
        _print_row(saver.name, its, unit)


def _turn(work: Workload, saver: Saver, its: _Times) -> None:
    its.usual.append(_seconds(work.forward_and_backward) + _seconds(work.step))
    held = _seconds(lambda: saver.save(work.parts))
    is_first_step = True
    while is_first_step or not saver.is_done():
        compute = _seconds(work.forward_and_backward)
        waited = _seconds(saver.before_step)
        update = _seconds(work.step)
        if is_first_step:
            held += waited
        its.during.append(compute + (0.0 if is_first_step else waited) + update)
        is_first_step = False
    saver.wait_until_durable()
    its.held.append(held)
    its.after.append(_seconds(work.forward_and_backward) + _seconds(work.step))
    saver.clear()


def _print_row(name: str, its: _Times, unit: float) -> None:
    held = [seconds / unit for seconds in its.held]
    usual = statistics.median(its.usual[1:])
    during, after = [s / usual for s in its.during[1:]], [s / usual for s in its.after[1:]]
    print(
        f"{name:36} {summary(held[1:], '', digits=2):>22} {percentile(held[1:], 99):7.2f} {held[0]:7.2f} "
        f"{statistics.median(its.held[1:]) * 1e3:10.1f} {statistics.median(during):10.2f}× "
        f"{statistics.median(after):5.2f}× {percentile([*during, *after], 99):5.2f}×"
    )


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
