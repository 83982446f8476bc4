from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from holdfast.errors import RunError
from holdfast.run.curves import Curves
from holdfast.run.directory import RunDirectory
from holdfast.run.journal import Journal, Row, make_row, metrics_of


def _row(epoch: int, step: int) -> Row:
    measured = {"train_loss": 1.5, "val_loss": 0.25, "val_accuracy": 0.75, "lr": 0.1, "seconds": 2.0}
    return {"epoch": epoch, "step": step, **measured}


def _note(journal: Journal, step: int, loss: float, indices: tuple[int, ...] = (4, 2)) -> None:
    journal.note_step(step, 0, torch.tensor(loss), 0.1, torch.tensor(indices))


def _results(directory: Path) -> list[dict[str, str]]:
    with (directory / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.row("T1")
def test_the_mean_loss_is_that_of_the_epoch_so_far(tmp_path: Path) -> None:
    """Losses add up over the steps of an epoch, and begin anew with the next."""
    journal = Journal(RunDirectory(tmp_path))
    assert journal.mean_loss() == 0.0
    for step, loss in enumerate((1.0, 2.0, 6.0)):
        _note(journal, step, loss)
    assert journal.mean_loss() == 3.0
    journal.end_epoch(_row(1, 3))
    assert journal.mean_loss() == 0.0
    _note(journal, 4, 5.0)
    assert journal.mean_loss() == 5.0


@pytest.mark.row("S10")
def test_the_mean_loss_after_a_resume_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Saved in mid-epoch as JSON and taken back, the running loss goes on as if nothing had been."""
    losses = [0.1, 0.7, 1 / 3, 2.9, 0.3]
    whole, first, second = (Journal(RunDirectory(tmp_path)) for _ in range(3))
    for step, loss in enumerate(losses):
        _note(whole, step, loss)
    for step, loss in enumerate(losses[:2]):
        _note(first, step, loss)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step, loss in enumerate(losses[2:]):
        _note(second, step, loss)
    assert second.mean_loss() == whole.mean_loss()
    assert second.state_dict() == whole.state_dict()


@pytest.mark.row("S10")
def test_the_history_comes_back(tmp_path: Path) -> None:
    """Rows and the first epoch of a fork are state."""
    journal = Journal(RunDirectory(tmp_path))
    journal.first_epoch = 3
    journal.end_epoch(_row(4, 40))
    fresh = Journal(RunDirectory(tmp_path))
    fresh.load_state_dict(json.loads(json.dumps(journal.state_dict())))
    assert (fresh.history, fresh.first_epoch) == ([_row(4, 40)], 3)


@pytest.mark.row("T5")
def test_results_csv_has_one_row_an_epoch(tmp_path: Path) -> None:
    """The table has the columns in order, and the numbers as they were."""
    journal = Journal(RunDirectory(tmp_path))
    journal.end_epoch(_row(1, 10))
    journal.end_epoch(_row(2, 20))
    rows = _results(tmp_path)
    assert list(rows[0]) == ["epoch", "step", "train_loss", "val_loss", "val_accuracy", "lr"]
    assert [(float(r["epoch"]), float(r["step"]), float(r["val_accuracy"])) for r in rows] == [
        (1, 10, 0.75),
        (2, 20, 0.75),
    ]


def test_a_metric_that_cannot_be_told_is_an_empty_cell(tmp_path: Path) -> None:
    """Columns are those of the task, in every epoch; a row without one of its metrics leaves the cell empty."""
    journal = Journal(RunDirectory(tmp_path), metrics=("mae", "r2"))
    journal.end_epoch(make_row(1, 10, {"loss": 0.5, "mae": 2.0, "train_loss": 1.0, "lr": 0.1}))
    assert _results(tmp_path) == [
        {
            "epoch": "1",
            "step": "10",
            "train_loss": "1.0",
            "val_loss": "0.5",
            "val_mae": "2.0",
            "val_r2": "",
            "lr": "0.1",
        }
    ]


def test_a_row_gives_its_metrics_back() -> None:
    """What was measured on the validation set goes into a row and comes out by its own name."""
    row = make_row(2, 20, {"nme": 0.25, "loss": 0.5, "train_loss": 1.0, "lr": 0.1})
    assert metrics_of(row) == {"nme": 0.25, "loss": 0.5}
    assert (row["epoch"], row["step"], row["train_loss"], row["lr"]) == (2, 20, 1.0, 0.1)


@pytest.mark.row("S10")
def test_after_a_resume_results_csv_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    """Rows that the killed process wrote after its newest checkpoint go away: no epoch stands in the table twice."""
    journal = Journal(RunDirectory(tmp_path))
    journal.end_epoch(_row(1, 10))
    saved = json.loads(json.dumps(journal.state_dict()))
    journal.end_epoch(_row(2, 20))
    resumed = Journal(RunDirectory(tmp_path))
    resumed.load_state_dict(saved)
    resumed.rewind(10)
    assert [r["step"] for r in _results(tmp_path)] == ["10"]
    resumed.end_epoch(_row(2, 20))
    assert [r["step"] for r in _results(tmp_path)] == ["10", "20"]


@pytest.mark.row("T7", "S10")
def test_curves_have_the_steps_and_the_epochs_and_go_on_after_a_resume(tmp_path: Path) -> None:
    """Loss and rate have a point a step, validation a point an epoch; after a rewind none stands twice."""

    def start() -> Journal:
        return Journal(RunDirectory(tmp_path), Curves(tmp_path / "tensorboard", 10))

    first = start()
    for step in range(1, 6):
        _note(first, step, float(step))
    first.end_epoch(_row(1, 5))
    saved = first.state_dict()
    _note(first, 6, 6.0)
    first.close()
    second = start()
    second.load_state_dict(saved)
    second.rewind(5)
    for step in range(6, 11):
        _note(second, step, 10.0 * step)
    second.end_epoch(_row(2, 10))
    second.close()
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert sorted(accumulator.Tags()["scalars"]) == [
        "train/epoch_loss", "train/loss", "train/lr", "val/accuracy", "val/loss",
    ]  # fmt: skip
    assert [(e.step, e.value) for e in accumulator.Scalars("train/loss")] == [
        (step, float(step) if step < 6 else 10.0 * step) for step in range(1, 11)
    ]
    assert [(e.step, e.value) for e in accumulator.Scalars("val/accuracy")] == [(5, 0.75), (10, 0.75)]


def test_the_trace_has_one_line_a_step_at_once(tmp_path: Path) -> None:
    """Step, epoch and indices are in the file before the next step begins; a second start appends."""
    trace = tmp_path / "trace.txt"
    first = Journal(RunDirectory(tmp_path), trace=trace)
    _note(first, 1, 0.5, (3, 1, 2))
    assert trace.read_text() == "1 0 3 1 2\n"
    first.close()
    second = Journal(RunDirectory(tmp_path), trace=trace)
    second.note_step(2, 1, torch.tensor(0.5), None, torch.tensor([9]))
    second.close()
    assert trace.read_text() == "1 0 3 1 2\n2 1 9\n"


def test_the_trace_fails_where_no_file_can_be(tmp_path: Path) -> None:
    """A trace into a folder that is not there is refused by name."""
    with pytest.raises(RunError, match=r"Opening the trace file .*nowhere.*trace\.txt: No such file or directory"):
        Journal(RunDirectory(tmp_path), trace=tmp_path / "nowhere" / "trace.txt")
