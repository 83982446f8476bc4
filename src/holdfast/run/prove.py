"""`prove`: replays a stretch of a run twice, once straight through and once killed on the way, and compares the bits.

The run is only read, and may be under way. What is needed of it is copied into a temporary folder, which is removed
however this ends.
"""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.checkpoints.flatten import flatten
from holdfast.errors import CheckpointError, ConfigError, HoldfastError
from holdfast.run.cause import cause_against_run, cause_between_replays, hidden_differences
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory
from holdfast.run.fingerprint import differences
from holdfast.run.proof import Difference, OwnCheckpoint, Proof, difference_of
from holdfast.run.replay import Replay
from holdfast.run.step_record import StepRecord, record_of
from holdfast.run.stretch import choose_stretch, copy_run, refuse_what_is_no_run

_COPY = "run"  # where in the temporary folder
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def prove(
    run: str | Path,
    *,
    start: int | None = None,
    steps: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    console: Console | None = None,
) -> Proof:
    """Replays a stretch of a run, uninterrupted and interrupted, and says whether every bit is the same.

    Both replays begin from one checkpoint. The interrupted one saves half-way, is killed by SIGKILL, and goes on in a
    fresh process with another number of workers. They are compared after every step, and with the run's own checkpoints
    where there are some. Memory for two copies of the training is needed.

    Args:
        run: the run directory. Nothing in it is changed; it may be under way, or read-only.
        start: the step to begin from, one with a checkpoint, or 0 for the first weights. By default the newest
            checkpoint that a later one follows.
        steps: how many, 2 or more. By default to the run's next checkpoint, 50 at most.
        workers: processes that prepare pictures; by default the run's own. 0 is kept to throughout.
        device: where to replay; by default the run's own.
        console: whom to talk to.

    Returns:
        The outcome; `Proof.bit_exact` is the short of it.

    Raises:
        ConfigError: `run` is no run, or the stretch is not in it.
        DataError: the data is not what the run began with.
        CheckpointCorrupt: the checkpoint asked for is damaged.
        RunError: a replay failed.
    """
    console = console or Console(quiet=True, to_stderr=True)
    run = Path(run)
    refuse_what_is_no_run(run)
    if steps is not None and steps < 2:
        raise ConfigError(f"--steps {steps}: expected 2 or more, one before the kill and one after it.")
    with temporary_folder() as folder, _naming(run, folder / _COPY), contextlib.ExitStack() as processes:
        first = copy_run(run, folder / _COPY, start, console.warn)
        return _Comparison(run, folder, processes, console).run_through(first, steps, workers, device)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end of the block: also on an error, and on SIGTERM, SIGHUP and SIGUSR1.

    These raise SystemExit within the block, with the exit code a command of ours ends on.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    wanted = [n for n in _ENDING if in_main_thread and signal.getsignal(n) != signal.SIG_IGN]  # nohup stays nohup
    former = {number: signal.signal(number, _end) for number in wanted}
    try:
        with tempfile.TemporaryDirectory(prefix="holdfast-prove-") as folder:
            yield Path(folder)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    for other in _ENDING:
        signal.signal(other, signal.SIG_IGN)  # a second one would cut the clean-up short
    raise SystemExit(129 if number == signal.SIGHUP else 143)


@contextlib.contextmanager
def _naming(run: Path, copy: Path) -> Iterator[None]:
    """Has errors of ours name the run, not the copy that was worked with."""
    try:
        yield
    except HoldfastError as error:
        if str(copy) not in str(error):
            raise
        raise type(error)(str(error).replace(str(copy), str(run))) from error


class _Own(NamedTuple):
    """What a checkpoint of the run's own holds, read before the run may prune it."""

    record: StepRecord
    recipe: str | None


Pair = tuple[StepRecord, StepRecord]  # the uninterrupted replay's and the interrupted one's


class _Comparison:
    """Two replays side by side.

    Args:
        run: the run, for names and for its own checkpoints.
        folder: a temporary folder that holds the copy of the run, and all the replays write.
        processes: ends the processes when it is closed.
        console: whom to talk to.
    """

    def __init__(self, run: Path, folder: Path, processes: contextlib.ExitStack, console: Console) -> None:
        self.run, self.folder, self.processes, self.console = run, folder, processes, console
        self.store = CheckpointStore(run / "checkpoints")
        self._restless: set[str] = set()
        self._num_made = 0

    def run_through(self, start: int, steps: int | None, workers: int | None, device: str | None) -> Proof:
        """Replays and compares; the copy of the run holds the checkpoint of `start`, none for 0."""
        restore = self.folder / _COPY / "checkpoints" if start else None
        # All at once: what takes longest is importing torch, and the one that goes on later needs it too.
        self.whole, self.broken, self.fresh = self._start(), self._start(), self._start()
        for process in (self.whole, self.broken):
            process.begin(restore=restore, device=device, workers=workers)
        self.ready, now = self.whole.ready(), self.broken.ready()
        stretch = choose_stretch(start, steps, self.ready.total_steps, self.ready.steps_per_epoch, self.store.steps())
        others = 0 if workers == 0 else _another(self.ready.workers)
        self.proof = Proof(self.run, stretch, (self.ready.workers, self.ready.workers, others))
        self.proof.num_tensors = len(self.ready.record.tensors)
        pair = (self.ready.record, now.record)
        if not self._part_ways(pair, pair):
            self._walk(pair, device)
        self._add_notes()
        return self.proof

    def _walk(self, now: Pair, device: str | None) -> None:
        """Takes both replays through the stretch, step by step, to its end or to their first difference."""
        stretch = self.proof.stretch
        own = self._read_own()
        self.console.say(
            f"replaying steps {stretch.start} to {stretch.end} of {self.run} twice, once with a kill at {stretch.kill}"
        )
        with self.console.progress("replaying", stretch.end, stretch.start) as bar:
            for step in range(stretch.start + 1, stretch.end + 1):
                before, now = now, (self.whole.step(), self.broken.step())
                if self._part_ways(before, now):
                    return
                self.proof.steps_compared += 1
                if step <= stretch.kill:
                    self._restless |= set(hidden_differences(*now))
                if step in own:
                    self._compare_own(own[step], now[0])
                bar.update(step)
                if step != stretch.kill:
                    continue
                self.broken.save(root := self._new_place("killed"))
                self.broken.kill()
                self.broken = self.fresh
                self.broken.begin(restore=root, device=device, workers=self.proof.workers[2])
                now = (now[0], self.broken.ready().record)
                if self._part_ways(now, now):
                    return

    def _part_ways(self, before: Pair, now: Pair) -> bool:
        """Whether the replays differ; the proof then says where and why."""
        difference = difference_of(*now, numbers=bool(now[1].batch))
        if difference is None:
            return False
        kept = (self._saved(self.whole, difference.step), self._saved(self.broken, difference.step))
        self.proof.difference = measured(difference, *kept)
        self.proof.cause = cause_between_replays(
            self.proof.stretch, before, now, deterministic=self.ready.deterministic, restless=self._restless
        )
        return True

    def _compare_own(self, own: _Own, now: StepRecord) -> None:
        difference = difference_of(own.record, now)
        if difference is not None:
            with contextlib.suppress(CheckpointError):  # pruned meanwhile: its digests are known, its values are not
                difference = measured(difference, self.store.open(now.step), self._saved(self.whole, now.step))
            self.proof.cause = self.proof.cause or cause_against_run(
                self.ready, self._changed_machine(), own.recipe, self.proof.stretch.start
            )
        self.proof.own.append(OwnCheckpoint(now.step, difference))

    def _read_own(self) -> dict[int, _Own]:
        """Returns what the run's own checkpoints within the stretch hold; damaged ones go into the proof."""
        stretch, found = self.proof.stretch, {}
        for step in self.store.steps():
            if not stretch.start < step <= stretch.end:
                continue
            try:
                checkpoint = self.store.open(step)
                trees = {part: checkpoint.read(part) for part in self.ready.record.numbers}
                recipe = checkpoint.metadata.get("fingerprints", {}).get("recipe")
                found[step] = _Own(record_of(step, trees), recipe)
            except CheckpointError as error:
                if step in self.store.steps():  # if not, the run has pruned it this moment
                    self.proof.own.append(OwnCheckpoint(step, damage=str(error)))
        return found

    def _add_notes(self) -> None:
        proof, told = self.proof, self.proof.cause.kind if self.proof.cause else ""
        if not self.ready.deterministic and told != "settings":
            proof.notes.append("deterministic algorithms are off in the run's settings; equal here is no promise")
        if (changed := self._changed_machine()) and told != "machine":
            proof.notes.append(f"not what the run began on: {'; '.join(changed)}")
        if not proof.own and proof.difference is None:
            later = next((step for step in self.store.steps() if step > proof.stretch.end), None)
            reach = f"; --steps {later - proof.stretch.start} goes to the next" if later else ""
            proof.notes.append(f"the run has no checkpoint of its own within these steps to compare with{reach}")

    def _changed_machine(self) -> list[str]:
        return differences(RunDirectory(self.folder / _COPY).environment(), self.ready.fingerprint)

    def _start(self) -> Replay:
        process = Replay(self.folder / _COPY, self._new_place("log"))
        self.processes.callback(process.kill)
        return process

    def _saved(self, process: Replay, step: int) -> Checkpoint:
        root = self._new_place("saved")
        process.save(root)
        return CheckpointStore(root).open(step)

    def _new_place(self, name: str) -> Path:
        self._num_made += 1
        return self.folder / f"{name}-{self._num_made}"


def measured(difference: Difference, first: Checkpoint, second: Checkpoint) -> Difference:
    """Returns the difference with the size of the first tensor's, where both have one of the same shape and dtype."""
    if not difference.tensors:
        return difference
    part, _, name = difference.tensors[0].partition(".")
    one, other = (flatten(checkpoint.read(part), part).tensors.get(name) for checkpoint in (first, second))
    if one is None or other is None or (one.dtype, one.shape) != (other.dtype, other.shape) or not one.numel():
        return difference
    wide = torch.complex128 if one.is_complex() else torch.float64
    size = float((one.to(wide) - other.to(wide)).abs().max())
    return replace(difference, max_abs_difference=size if math.isfinite(size) else None)


def _another(workers: int) -> int:
    """Returns another number of worker processes, above 0."""
    return workers - 1 if workers > 1 else workers + 1
