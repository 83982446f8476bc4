"""The run's saves: when one is due, how long it takes, and what happens when it cannot be made.

Training goes on when a disk is full or gone: the checkpoints there are stay, and the next save tries again. Only the
last save of a command must succeed.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, cast

from holdfast.checkpoints import BEST_OF_RUN, CheckpointStore
from holdfast.checkpoints.retention import AnyOf, Best, Policy, parse_keep
from holdfast.config import Config, nearest, parse_duration, parse_save_every
from holdfast.data.answers import FIGURES
from holdfast.data.targets import Task
from holdfast.errors import CheckpointError, ConfigError, RunError
from holdfast.run.best import BEST_FILE, keep_best
from holdfast.run.build import Workbench
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory

_ALWAYS = ("loss", "train_loss", "lr")  # what an epoch of any run measures


def keep_of(config: Config) -> Policy:
    """Returns which checkpoints of a run stay. Raises ConfigError for words that say nothing, or a metric of no run.

    Args:
        config: with its task, once that is known.
    """
    own = (
        FIGURES[cast(Task, config.task)] if config.task else tuple(name for names in FIGURES.values() for name in names)
    )
    keep = parse_keep(str(config.keep), own[0])
    metrics = (*dict.fromkeys(own), *_ALWAYS)
    for policy in keep.policies if isinstance(keep, AnyOf) else [keep]:
        if isinstance(policy, Best) and policy.metric not in metrics:
            raise ConfigError(
                f"keep is {config.keep!r}: a run does not measure {policy.metric!r}; expected one of "
                f"{', '.join(metrics)}.{nearest(policy.metric, metrics)}"
            )
    return keep


class Saves:
    """Saves of one run into its store.

    Args:
        bench: the objects; its `state.step` names the checkpoints.
        directory: the run's folder, held.
        console: what is said.

    Attributes:
        store: the run's checkpoints.
        step: the newest step that was restored, or handed over and not refused since; -1 for none.
        durable_step: the newest step that is on the disk; -1 for none.
        lost: steps whose save failed.
        save_seconds: the longest time from handing over to durable so far.
    """

    def __init__(self, bench: Workbench, directory: RunDirectory, console: Console) -> None:
        config = bench.config
        self._bench, self._directory, self._console = bench, directory, console
        keep = BEST_OF_RUN | keep_of(config)  # the first `Best` is what `@best` means
        self.store = CheckpointStore(
            directory.checkpoints,
            keep,
            background=config.background_saves,
            on_failure=self._note_failure,
            say=console.warn,
        )
        self.step = -1
        self.durable_step = -1
        self.save_seconds = 0.0
        self._every, self._unit = parse_save_every(config.save_every)
        self._grace_seconds = parse_duration(config.grace, "grace")
        self._handed_over_at = time.monotonic()
        self._failures: list[CheckpointError] = []
        self._consequence = "Training goes on, and the next save tries again."
        self._has_warned = False
        self._measured: dict[int, dict[str, float]] = {}  # by step, until it stands beside its checkpoint
        self.lost: set[int] = set()

    def is_due(self, *, at_epoch_end: bool = False) -> bool:
        """Whether `--save-every` asks for a save now."""
        step = self._bench.state.step
        if self.step == step:
            return False
        if self._unit == "steps":
            return step % int(self._every) == 0
        if self._unit == "minutes":
            return time.monotonic() - self._handed_over_at >= self._every * 60
        return at_epoch_end and (step // self._bench.steps_per_epoch) % int(self._every) == 0

    def save(self, parts: dict[str, Any]) -> None:
        """Hands the state over to be saved, unless this step's was. A failure is said, now or later."""
        step = self._bench.state.step
        if step in (0, self.step):
            return  # at step 0 there is nothing that the next start would not find again
        if not self._directory.is_there():
            self._note_failure(CheckpointError(f"Saving step {step:,}: {self._directory.path} is not there any more."))
            return
        began = time.monotonic()
        metadata = {**self._bench.metadata(), "epoch": step // self._bench.steps_per_epoch}
        self.step, self._handed_over_at = step, began
        try:
            self.store.save(step, parts, metadata=metadata)
        except CheckpointError as error:
            if not isinstance(error.__cause__, OSError):
                raise  # no fault of the disk: it would come again at every save
            self._note_failure(error)
            return
        self.store.then(lambda: self._note_durable(step, began))
        self._hand_over_metrics()

    def save_for_good(self, parts: dict[str, Any]) -> None:
        """Saves and waits until state and metrics are durable; what fails is tried once more.

        Raises:
            RunError: it failed again; says what to do.
        """
        step = self._bench.state.step
        if not step:
            return  # nothing that the next start would not find again
        self._consequence = "Trying once more."
        self.store.wait()
        for self._consequence in ("Trying once more.", ""):
            self._failures.clear()
            self.save(parts)
            self._hand_over_metrics()
            self.store.wait()
            if self.durable_step == step and step not in self._measured:
                return
        reached = f"step {self.durable_step:,}" if self.durable_step >= 0 else "its beginning"
        reason = self._failures[0] if self._failures else "Saving failed."
        raise RunError(
            f"{reason} The state of step {step:,} is lost: make room or mend the disk, and run the same command again. "
            f"It goes on from {reached}."
        )

    def save_before_stop(self, parts: dict[str, Any], seconds_left: float) -> None:
        """Saves as `save_for_good` does, unless there is only time to finish the save that is under way."""
        if self.durable_step < self.step < self._bench.state.step and seconds_left < 2 * self.save_seconds:
            self._console.warn(f"finishing the save of step {self.step:,}: there is no time for another")
            self.store.wait()
            if self.durable_step == self.step:
                return
        self.save_for_good(parts)

    def annotate(self, metrics: dict[str, float], *, is_best: bool) -> None:
        """Writes the metrics beside the checkpoint of this step and makes it `best.safetensors` if it is the best."""
        self._measured[self._bench.state.step] = metrics
        self._hand_over_metrics()
        if is_best:
            path = self._directory.path / BEST_FILE
            self.store.then(lambda: keep_best(self.store, path, self._console.warn))

    def restored(self, step: int) -> None:
        """Notes that the run goes on from the checkpoint of `step`."""
        self.step = self.durable_step = step

    def close(self) -> None:
        """Waits for what is under way; what fails now is said, and is no reason to fail."""
        self._consequence = "Run the same command again to make it good."
        self.store.close()

    def warn_about_grace(self, step_seconds: float) -> None:
        """Says once when a stop takes longer than the system leaves for it."""
        needed = step_seconds + self.save_seconds
        if needed > self._grace_seconds and not self._has_warned:
            self._has_warned = True
            self._console.warn(
                f"A stop takes about {needed:.0f} s here (a step {step_seconds:.0f} s, a save "
                f"{self.save_seconds:.0f} s), and --grace says that {self._grace_seconds:.0f} s are left: a SIGTERM "
                "may come too late for its save. Ask the system for more (SLURM: --signal=TERM@120)."
            )

    def _hand_over_metrics(self) -> None:
        """Hands over what was measured and is not known to be durable: a failure is made good by the next save."""
        for step, metrics in list(self._measured.items()):
            if step in (self.step, self.durable_step) or step < self.durable_step:
                self.store.then(partial(self._annotate, step, metrics))

    def _annotate(self, step: int, metrics: dict[str, float]) -> None:
        if step in self.store.steps():
            self.store.annotate(step, metrics)
        elif step == self.step:
            return  # its save failed, and may be made again
        self._measured.pop(step, None)

    def _note_durable(self, step: int, began: float) -> None:
        if step in self.store.steps():
            self.durable_step = step
            self.lost.discard(step)
            self.save_seconds = max(self.save_seconds, time.monotonic() - began)

    def _note_failure(self, error: CheckpointError) -> None:
        if self.step > self.durable_step:
            self.lost.add(self.step)
        self.step = self.durable_step
        self._failures.append(error)
        if self._consequence:
            self._console.warn(f"{error} {self._consequence}")
