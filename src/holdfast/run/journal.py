"""What a run writes down as it goes: the history of its epochs, results.csv, TensorBoard curves, lines for scripts.

The history is part of every checkpoint. The files are only its picture: at a resume they are put back to the step that
was resumed from, so no step ever stands in them twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.errors import RunError
from holdfast.run.curves import Curves
from holdfast.run.directory import RunDirectory

Row = dict[str, float]
_BESIDE = ("epoch", "step", "train_loss", "lr")  # of a row; what else it has was measured on the validation set


def make_row(epoch: int, step: int, metrics: Mapping[str, float]) -> Row:
    """Returns the row of an epoch: `train_loss` and `lr` as they are, every other metric as `val_…`."""
    measured = {f"val_{name}": value for name, value in metrics.items() if name not in _BESIDE}
    nan = float("nan")
    first = {"epoch": epoch, "step": step, "train_loss": metrics.get("train_loss", nan)}
    return {**first, "val_loss": nan, **measured, "lr": metrics.get("lr", 0.0)}


def metrics_of(row: Row) -> dict[str, float]:
    """Returns what the row says of the validation set, by the metrics' own names."""
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


class Journal:
    """The running loss of the epoch and one row for each epoch that is over.

    Args:
        directory: the run's folder.
        curves: TensorBoard's event files, or None.
        trace: file for `step epoch index index …` lines, appended to; or None.
        warn: told when a file cannot be written, in place of an error: a full disk does not end the training.
        metrics: what an epoch measures besides losses, for the header of results.csv.
    """

    def __init__(
        self,
        directory: RunDirectory,
        curves: Curves | None = None,
        trace: Path | None = None,
        warn: Callable[[str], None] | None = None,
        metrics: tuple[str, ...] = ("accuracy",),
    ) -> None:
        self._metrics = metrics
        self.history: list[Row] = []
        self.first_epoch = 0  # above 0 in a fork
        self._directory = directory
        self._curves = curves
        self._warn = warn
        self._loss_sum: Tensor | float = 0.0
        self._loss_count = 0
        self._trace = None
        if trace is not None:
            try:
                self._trace = trace.open("ab", buffering=0)
            except OSError as error:
                raise RunError(f"Opening the trace file {trace}: {error.strerror}.") from error

    def state_dict(self) -> dict[str, Any]:
        """Returns the history and the running loss."""
        return {
            "history": self.history,
            "loss_sum": float(self._loss_sum),
            "loss_count": self._loss_count,
            "first_epoch": self.first_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the history and the running loss back."""
        self.history = list(state_dict["history"])
        self.first_epoch = int(state_dict["first_epoch"])
        self._loss_sum, self._loss_count = state_dict["loss_sum"], state_dict["loss_count"]

    def note_step(self, step: int, epoch: int, loss: Tensor, lr: float | None, indices: Tensor) -> None:
        """Takes in one step. The loss stays on its device, and is read only where a curve has a point."""
        # Apple's GPUs have no float64.
        self._loss_sum = self._loss_sum + (loss if loss.device.type == "mps" else loss.double())
        self._loss_count += 1
        if self._trace is not None:
            line = " ".join(map(str, [step, epoch, *indices.tolist()]))
            with self._going_on("the trace file", "this step's line is missing in it"):
                self._trace.write(f"{line}\n".encode())
        if self._curves is not None and self._curves.wants(step):
            self._draw(step, {"train/loss": float(loss), "train/lr": lr or 0.0})

    def mean_loss(self) -> float:
        """Returns the mean loss of the epoch so far."""
        return float(self._loss_sum) / max(self._loss_count, 1)

    def end_epoch(self, row: Row) -> None:
        """Adds the row of an epoch that is over and evaluated, and starts the next."""
        self.history.append(row)
        self._loss_sum, self._loss_count = 0.0, 0
        with self._going_on("results.csv", "it is written again, whole, after the next epoch"):
            self._write_results()
        if self._curves is not None:
            curves = {f"val/{name}": value for name, value in metrics_of(row).items()}
            self._draw(int(row["step"]), {**curves, "train/epoch_loss": row["train_loss"]}, flush=True)

    def rewind(self, step: int) -> None:
        """Puts the files back to what they were at `step`."""
        with self._going_on("results.csv", "it is written again, whole, after the next epoch"):
            self._write_results()
        if self._curves is not None:
            with self._going_on("the TensorBoard curves", "points of the time before the stop may stand in them twice"):
                self._curves.rewind(step)

    def close(self) -> None:
        """Closes the files."""
        if self._trace is not None:
            self._trace.close()
        if self._curves is not None:
            with self._going_on("the TensorBoard curves", "their last points are missing"):
                self._curves.close()

    def _draw(self, step: int, points: dict[str, float], *, flush: bool = False) -> None:
        assert self._curves is not None
        with self._going_on("the TensorBoard curves", "some of their points are missing"):
            self._curves.add(step, points)
            if flush:
                self._curves.flush()

    @contextmanager
    def _going_on(self, what: str, consequence: str) -> Iterator[None]:
        """Within it, a file that cannot be written is told and passed over, if there is somebody to tell."""
        try:
            yield
        except (OSError, RunError) as error:
            if self._warn is None:
                raise
            text = f"Writing {what}: {error.strerror or error}." if isinstance(error, OSError) else str(error)
            self._warn(f"{text} Training goes on; {consequence}.")

    def _write_results(self) -> None:
        text = io.StringIO()
        # An epoch may lack a metric that could not be told; its cell stays empty.
        columns = ["epoch", "step", "train_loss", "val_loss", *(f"val_{name}" for name in self._metrics), "lr"]
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.history)
        self._directory.write("results.csv", text.getvalue())
