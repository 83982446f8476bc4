"""The run itself: steps, saves, evaluations, in the one order that can be stopped anywhere and taken up again.

An epoch ends so: save (if due), evaluate, write the metrics beside the checkpoint, note the best. Whatever is cut short
in between is done again by the next start, from the same weights.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from holdfast.checkpoints import BEST_OF_RUN, Checkpoint, Saved
from holdfast.checkpoints.evaluation import finite
from holdfast.data.answers import format_figure
from holdfast.errors import RunError
from holdfast.run.build import Workbench
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory
from holdfast.run.journal import Journal, make_row, metrics_of
from holdfast.run.saves import Saves
from holdfast.run.signals import StopRequest
from holdfast.training import Evaluation, evaluate, train_steps


class Session:
    """One process's work on a run.

    Args:
        bench: the objects, built.
        directory: the run's folder, held.
        saves: its checkpoints.
        journal: what is written down.
        console: what is said.
    """

    def __init__(
        self, bench: Workbench, directory: RunDirectory, saves: Saves, journal: Journal, console: Console
    ) -> None:
        self.bench, self.directory, self.saves, self.journal, self.console = bench, directory, saves, journal, console
        self.state = bench.state
        self.parts: dict[str, Any] = {**self.state.parts(), "loader": bench.loader, "journal": journal}
        self._val_loader = bench.eval_loader("val")
        self._step_seconds = 0.0
        self._epoch_began, self._epoch_first_step = time.monotonic(), 0

    def restore(self) -> Checkpoint | None:
        """Restores the newest valid checkpoint; returns it, or None for a fresh start."""
        settings = group_settings(self.state.optimizer)
        step = self.saves.store.restore_latest(self.parts)
        put_back(self.state.optimizer, settings)
        if not step:
            self.journal.rewind(0)
            return None
        checkpoint = self.saves.store.open(step)
        self.saves.restored(step)
        # Epoch ends are evaluated after they are saved: a row may stand beside the checkpoint, and not in it.
        if self._epoch_is_over() and "loss" in checkpoint.metrics:
            epoch = step // self.bench.steps_per_epoch
            self.journal.end_epoch(make_row(epoch, step, dict(checkpoint.metrics)))
        self.journal.rewind(step)
        return checkpoint

    def begin_at_epoch(self, epoch: int) -> None:
        """Puts a session that has not begun to the start of an epoch (counted from 0)."""
        self.state.step = epoch * self.bench.steps_per_epoch
        self.bench.loader.seek(self.state.step)
        self.journal.first_epoch = epoch

    def close(self) -> None:
        """Finishes the save that is under way, ends the worker processes and closes the files."""
        self.saves.close()
        self.bench.loader.close()
        self._val_loader.close()
        self.journal.close()

    def run(self, stop: StopRequest) -> bool:
        """Trains to the end; returns whether it got there. When `stop` was asked for, the state has been saved."""
        total = self.bench.total_steps
        self._epoch_first_step = self.state.step
        with self.console.progress("training", total, self.state.step) as bar:
            while not stop:
                if self._epoch_is_over() and not self._finish_epoch(stop):
                    break
                if self.state.step >= total:
                    self.saves.save_for_good(self.parts)
                    return True
                last = time.monotonic()
                for result in train_steps(self.state, self.bench.loader, until=total):
                    epoch = (result.step - 1) // self.bench.steps_per_epoch
                    self.journal.note_step(result.step, epoch, result.loss, result.lr, result.batch.indices)
                    self._log_step(result.step, epoch, result.loss, result.lr)
                    if bar.is_shown:
                        bar.update(result.step, f"loss {self.journal.mean_loss():.4f}")
                    if stop:
                        break
                    if self.saves.is_due():
                        self._save()
                    last = self._note_pace(stop, last)
            self._refuse_broken_loss()
            self.saves.save_before_stop(self.parts, stop.seconds_left())
        return False

    def _note_pace(self, stop: StopRequest, last: float) -> float:
        """Takes in how long a step took, for those who must stop in time; returns the time now."""
        now = time.monotonic()
        self._step_seconds = max(self._step_seconds, now - last)
        stop.has_worked = True
        stop.reserve_seconds = 1.0 + 2 * (self._step_seconds + self.saves.save_seconds)
        self.saves.warn_about_grace(self._step_seconds)
        return now

    def _epoch_is_over(self) -> bool:
        """Whether the step just made was the last of an epoch that has no row in the history yet."""
        done = int(self.journal.history[-1]["epoch"]) if self.journal.history else self.journal.first_epoch
        return self.state.step == (done + 1) * self.bench.steps_per_epoch

    def _finish_epoch(self, stop: StopRequest) -> bool:
        """Saves if due, evaluates, notes the best. Returns False when a stop was asked for before it was done."""
        mean_loss = self.journal.mean_loss()
        self._refuse_broken_loss()
        if self.saves.is_due(at_epoch_end=True):
            self._save()
        seconds = time.monotonic() - self._epoch_began
        self._val_loader.seek(0)  # a transform that draws random numbers draws the same at every evaluation
        evaluation = evaluate(
            self.state.model,
            self._val_loader,
            self.state.loss_fn,
            precision=self.state.precision,
            should_stop=lambda: bool(stop),
            measure=self.bench.measure,
        )
        if evaluation is None or stop:
            return False
        self._refuse_broken_loss(evaluation.loss)
        self._note_epoch(evaluation, mean_loss, seconds)
        if report := self.bench.cache.report():
            self.console.warn(report)
        self._epoch_began, self._epoch_first_step = time.monotonic(), self.state.step
        return True

    def _note_epoch(self, evaluation: Evaluation, mean_loss: float, seconds: float) -> None:
        step = self.state.step
        lr = self.state.schedule(step - 1) if self.state.schedule else 0.0
        measured = finite({**evaluation.metrics, "loss": evaluation.loss})
        metrics = {**measured, "train_loss": mean_loss, "lr": lr}
        epoch = step // self.bench.steps_per_epoch
        row = make_row(epoch, step, metrics)
        rows = [*(row for row in self.journal.history if row["step"] not in self.saves.lost), row]
        is_best = BEST_OF_RUN.best([Saved(int(row["step"]), metrics_of(row)) for row in rows]) == step
        if is_best or step == self.bench.total_steps:
            self._save()
        self.saves.annotate(metrics, is_best=is_best)
        self.journal.end_epoch(row)
        self.saves.store.then(self.directory.mirror)
        num_pictures = (step - self._epoch_first_step) * self.bench.loader.batch_size
        rate = f"{num_pictures / seconds:,.0f} img/s" if num_pictures else ""
        said = "  ".join(f"val {name} {format_figure(name, n):>6}" for name, n in evaluation.metrics.items())
        self.console.say(
            f"epoch {epoch:>3}/{self.bench.config.epochs}  loss {mean_loss:.4f}  val loss {evaluation.loss:.4f}  "
            f"{said}  {rate}{'  best so far' if is_best else ''}"
        )

    def _refuse_broken_loss(self, val_loss: float = 0.0) -> None:
        """Raises RunError once a loss is no number: such weights must not push good checkpoints out."""
        if not math.isfinite(self.journal.mean_loss() + val_loss):
            raise RunError(
                f"The loss is not a number any more (epoch {len(self.journal.history) + 1}, step {self.state.step}). "
                f"The checkpoints before it are kept in {self.directory.checkpoints}. Lower the learning rate "
                f"(--lr {(self.bench.config.lr or 0) / 3:.2g}) with a new --out."
            )

    def _save(self) -> None:
        self._refuse_broken_loss()
        self.saves.save(self.parts)

    def _log_step(self, step: int, epoch: int, loss: Any, lr: float | None) -> None:
        every = self.bench.config.log_every
        if every is None or step % every:
            return
        self.console.line(
            f"step {step}/{self.bench.total_steps} epoch {epoch + 1}/{self.bench.config.epochs} "
            f"loss {float(loss):.6f} lr {lr or 0:.6g}"
        )


def group_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Returns every group's settings (weight decay, momentum, betas …), as the recipe has them."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def put_back(optimizer: torch.optim.Optimizer, settings: list[dict[str, Any]]) -> None:
    """Gives the groups these settings again: what a checkpoint brought with it was the recipe's of then."""
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
