from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from holdfast.run.curves import Curves

pytestmark = pytest.mark.row("T7")


def _points(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns name → (step, value) of every point in every event file, read record by record."""
    found: dict[str, list[tuple[int, float]]] = {}
    # Files of one second and process differ in their last number alone, which may have two digits.
    for path in sorted(directory.glob("*tfevents*"), key=lambda path: int(path.suffix[1:])):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def _write(directory: Path, steps: range, value: float) -> None:
    curves = Curves(directory, 10)
    for step in steps:
        curves.add(step, {"train/loss": value, "train/lr": value / 10})
    curves.close()


def test_points_are_read_back_by_tensorboard(tmp_path: Path) -> None:
    """What was added stands in the files, by name and step, and TensorBoard itself reads it."""
    _write(tmp_path, range(1, 5), 0.5)
    assert _points(tmp_path)["train/loss"] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)]
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [(e.step, e.value) for e in accumulator.Scalars("train/loss")] == [(s, 0.5) for s in range(1, 5)]


def test_nothing_is_written_before_the_first_point(tmp_path: Path) -> None:
    """Without points there is no folder."""
    curves = Curves(tmp_path / "tensorboard", 10)
    curves.rewind(0)
    curves.flush()
    curves.close()
    assert not (tmp_path / "tensorboard").exists()


def test_after_a_rewind_no_step_stands_twice_and_none_after_it(tmp_path: Path) -> None:
    """A resumed run's curve goes on where it was: old points up to the checkpoint, new ones after it."""
    _write(tmp_path, range(1, 8), 1.0)
    curves = Curves(tmp_path, 10)
    curves.rewind(4)
    assert [step for step, _ in _points(tmp_path)["train/loss"]] == [1, 2, 3, 4]
    for step in range(5, 11):
        curves.add(step, {"train/loss": 2.0, "train/lr": 0.2})
    curves.close()
    assert _points(tmp_path)["train/loss"] == [(s, 1.0) for s in range(1, 5)] + [(s, 2.0) for s in range(5, 11)]
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [e.step for e in accumulator.Scalars("train/lr")] == list(range(1, 11))


def test_rewinding_goes_through_every_file_of_earlier_starts(tmp_path: Path) -> None:
    """After several kills there are several files; each loses its points after the step."""
    _write(tmp_path, range(1, 7), 1.0)
    Curves(tmp_path, 10).rewind(5)
    _write(tmp_path, range(6, 9), 2.0)
    Curves(tmp_path, 10).rewind(3)
    _write(tmp_path, range(4, 6), 3.0)
    assert len(list(tmp_path.iterdir())) == 3
    assert [step for step, _ in _points(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5]
    Curves(tmp_path, 10).rewind(0)
    assert _points(tmp_path) == {}


def test_rewinding_closes_its_own_file_first(tmp_path: Path) -> None:
    """Points of this very process that are still in a buffer are rewound too."""
    curves = Curves(tmp_path, 10)
    for step in range(1, 6):
        curves.add(step, {"val/loss": 1.0})
    curves.rewind(2)
    curves.add(3, {"val/loss": 2.0})
    curves.close()
    assert _points(tmp_path)["val/loss"] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_point_that_was_added_again_after_a_kill_stands_once(tmp_path: Path) -> None:
    """The end of an epoch, noted by the killed process and again by the next, is kept once; its neighbours stay."""
    _write(tmp_path, range(1, 4), 1.0)
    curves = Curves(tmp_path, 10)
    curves.add(3, {"train/loss": 1.0, "val/loss": 7.0})
    curves.rewind(3)
    points = _points(tmp_path)
    assert points["train/loss"] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert points["val/loss"] == [(3, 7.0)]


@pytest.mark.parametrize("cut", [1, 5, 12, 20, 39])
def test_a_file_cut_in_the_middle_of_a_record_loses_that_record_only(tmp_path: Path, cut: int) -> None:
    """After a kill in mid-write the whole records stay, and the curve goes on after them."""
    _write(tmp_path, range(1, 6), 1.0)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    curves = Curves(tmp_path, 10)
    curves.rewind(9)
    points = _points(tmp_path)
    assert points["train/loss"] == [(s, 1.0) for s in range(1, 6)]
    assert points["train/lr"] == [(s, pytest.approx(0.1)) for s in range(1, 5)]
    curves.add(6, {"train/loss": 2.0})
    curves.close()
    assert [step for step, _ in _points(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5, 6]


def test_a_file_that_holds_nothing_whole_is_removed(tmp_path: Path) -> None:
    """A file cut within its first record is of no use to anybody."""
    _write(tmp_path, range(1, 3), 1.0)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:7])
    Curves(tmp_path, 10).rewind(5)
    assert list(tmp_path.iterdir()) == []


def test_rewinding_leaves_nothing_else_behind(tmp_path: Path) -> None:
    """The rewritten file has its old name, and there is no other."""
    _write(tmp_path, range(1, 5), 1.0)
    names = [path.name for path in tmp_path.iterdir()]
    Curves(tmp_path, 10).rewind(2)
    assert [path.name for path in tmp_path.iterdir()] == names


def test_the_points_of_a_long_training_are_thinned_by_step_alone() -> None:
    """Which steps have a point depends on the length of the training and the step: every start agrees."""
    curves = Curves(Path("nowhere"), 5000)
    assert [step for step in range(1, 21) if curves.wants(step)] == [5, 10, 15, 20]
    assert all(Curves(Path("nowhere"), 999).wants(step) for step in range(1, 21))
