"""What a save does to the times of the steps beside it, kept apart from what the machine does to all steps.

A vision transformer trains on the CPU in short blocks of steps. Of three blocks one begins with a save in the
background; the others make no save and are the control, in the same process and minute, in an order that is drawn anew
each time. The percentiles of the steps with a save are divided by those of the control; the second control, divided by
the first, says how much of such a ratio is the machine. What the save thread takes of the processor is measured apart.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import numpy as np

from benchmarks.options import Options, keep_freed_memory
from benchmarks.spread import percentile
from benchmarks.workload import Workload
from holdfast import CheckpointStore
from holdfast.checkpoints import Last

_DRAWS = 400  # of blocks, for the interval of a ratio of percentiles


@dataclass
class _Blocks:
    """Seconds of each step of each block."""

    steps: list[list[float]] = field(default_factory=list)


def main(options: Options) -> None:
    """Trains in blocks by turns and prints what saves add."""
    keep_freed_memory()
    short = options.short
    work = Workload(options.size(100), batch=1 if short else 4, side=32 if short else 224)
    length = 2 if short else 6
    blocks = {"with a save": _Blocks(), "control": _Blocks(), "control again": _Blocks()}
    written: list[float] = []
    processor: list[float] = []
    with options.folder() as folder, CheckpointStore(folder, keep=Last(1)) as store:
        number = 0
        for turn in range(options.turns(150) + 1):
            for name in random.sample(list(blocks), len(blocks)):  # whatever swings with the blocks hits all kinds
                saves = name == "with a save"
                number += saves
                began = time.perf_counter()
                if saves:
                    store.then(lambda: processor.append(-time.thread_time()))
                    store.save(number, work.parts)
                    store.then(lambda: processor.append(processor.pop() + time.thread_time()))
                    store.then(lambda began=began: written.append(time.perf_counter() - began))
                steps = [_seconds(work) for _ in range(length)]
                store.wait()
                if turn:
                    blocks[name].steps.append(steps)
    _print(work, blocks, written[1:], processor[1:])


def _print(work: Workload, blocks: dict[str, _Blocks], written: list[float], processor: list[float]) -> None:
    control = blocks["control"]
    usual = percentile(np.ravel(control.steps), 50)
    print(
        f"state {work.num_bytes / 1e6:,.0f} MB, usual step {usual * 1e3:.0f} ms, {len(control.steps)} blocks of "
        f"{len(control.steps[0])} steps of each kind, a save durable after {percentile(written, 50) / usual:.2f} steps"
    )
    for name, its in blocks.items():
        step = [percentile(np.ravel(its.steps), percent) / usual for percent in (50, 90, 99)]
        ratios = [_ratio(its.steps, control.steps, percent) for percent in (50, 90, 99)]
        print(
            f"{name:14} p50 {step[0]:5.2f}  p90 {step[1]:5.2f}  p99 {step[2]:5.2f} usual steps   of the control's: "
            f"p50 {ratios[0]}  p90 {ratios[1]}  p99 {ratios[2]}"
        )
    per_gb = percentile(processor, 50) / (work.num_bytes / 1e9)
    print(f"the save thread's processor time: {per_gb:.2f} s/GB, {percentile(processor, 50) / usual:.2f} usual steps")
    places = [
        f"{percentile(one, 50) / percentile(other, 50):.2f}"
        for one, other in zip(
            zip(*blocks["with a save"].steps, strict=True), zip(*control.steps, strict=True), strict=True
        )
    ]
    print(f"median of the 1st, 2nd, … step after a save, of the control's: {', '.join(places)}")


def _ratio(steps: list[list[float]], control: list[list[float]], percent: float) -> str:
    """Returns the ratio of the percentiles, and the middle 90 % of it when blocks are drawn again and again."""
    draw = np.random.default_rng(0)
    one, other = np.array(steps), np.array(control)
    found = [
        np.percentile(one[draw.integers(len(one), size=len(one))], percent)
        / np.percentile(other[draw.integers(len(other), size=len(other))], percent)
        for _ in range(_DRAWS)
    ]
    whole = np.percentile(one, percent) / np.percentile(other, percent)
    return f"{whole:.2f} ({np.percentile(found, 5):.2f} – {np.percentile(found, 95):.2f})"


def _seconds(work: Workload) -> float:
    start = time.perf_counter()
    work.forward_and_backward()
    work.step()
    return time.perf_counter() - start
