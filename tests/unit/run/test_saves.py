from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from holdfast.checkpoints import files
from holdfast.config import Config
from holdfast.errors import RunError
from holdfast.run.build import Workbench
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory
from holdfast.run.saves import Saves


class _Spoken(Console):
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


PARTS: dict[str, Any] = {"weights": {"w": torch.ones(3)}}


def _saves(directory: RunDirectory, **settings: Any) -> tuple[Saves, _Spoken, SimpleNamespace]:
    """Returns the saves of a run of ten steps an epoch, its console, and its state."""
    state = SimpleNamespace(step=0)
    bench = SimpleNamespace(
        config=Config(data="x", **settings), state=state, steps_per_epoch=10, metadata=lambda: {"classes": ["a"]}
    )
    console = _Spoken()
    return Saves(cast(Workbench, bench), directory, console), console, state


@pytest.mark.row("S9")
@pytest.mark.parametrize(
    ("save_every", "due"),
    [("4", [4, 8, 12, 16, 20]), ("1epoch", [10, 20]), ("2epoch", [20]), ("60min", [])],
)
def test_a_save_is_due_as_the_setting_says(tmp_path: Path, save_every: str, due: list[int]) -> None:
    """Steps count wherever they fall, epochs at their ends, minutes by the clock."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory, save_every=save_every)
        found = []
        for state.step in range(1, 21):
            if saves.is_due() or (state.step % 10 == 0 and saves.is_due(at_epoch_end=True)):
                found.append(state.step)
        assert found == due


def test_without_background_saves_a_save_is_durable_before_the_next_step(tmp_path: Path) -> None:
    """So a kill after it costs no more than what was done since."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory, save_every="4", background_saves=False)
        state.step = 4
        saves.save(PARTS)
        assert saves.durable_step == 4
        assert (directory.checkpoints / "step-00000004" / "manifest.json").exists()


def test_without_background_saves_a_full_disk_is_said_and_the_next_save_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on as it does beside saves in the background."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory, background_saves=False)
        with monkeypatch.context() as patch:
            patch.setattr(files, "sync_file", full)
            state.step = 4
            saves.save(PARTS)
        assert saves.durable_step == -1 and saves.lost == {4}
        assert "No space left on device" in console.lines[0] and "the next save tries again" in console.lines[0]
        state.step = 8
        saves.save(PARTS)
        assert saves.durable_step == 8


@pytest.mark.row("S9")
def test_minutes_count_from_the_last_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes a save is due; handing one over starts them again."""
    clock = [1000.0]
    monkeypatch.setattr("holdfast.run.saves.time.monotonic", lambda: clock[0])
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory, save_every="10min")
        state.step = 3
        clock[0] += 599
        assert not saves.is_due()
        clock[0] += 1
        assert saves.is_due()
        saves.save(PARTS)
        assert not saves.is_due()
        state.step = 4
        clock[0] += 599
        assert not saves.is_due()
        clock[0] += 1
        assert saves.is_due()
        saves.store.close()


def test_a_checkpoint_of_a_run_carries_its_epoch_and_what_is_needed_to_use_it(tmp_path: Path) -> None:
    """Metadata hold the classes and the number of whole epochs; the newest three and the best are kept."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        for state.step, accuracy in ((10, 0.9), (20, 0.5), (30, 0.4), (40, 0.3), (50, 0.2)):
            saves.save(PARTS)
            saves.annotate({"accuracy": accuracy, "loss": 1.0}, is_best=False)
        saves.store.close()
        assert saves.store.steps() == [10, 30, 40, 50]
        assert saves.store.open(30).metadata == {"classes": ["a"], "epoch": 3}
        assert (saves.step, saves.durable_step) == (50, 50)


def test_a_step_is_saved_once_and_step_0_never(tmp_path: Path) -> None:
    """A second call for the same step, and one before the first step, do nothing."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        saves.save_for_good(PARTS)
        state.step = 1
        saves.save_for_good(PARTS)
        saves.save_for_good(PARTS)
        assert saves.store.steps() == [1]


def _break(monkeypatch: pytest.MonkeyPatch, failing: list[bool]) -> None:
    real = files.sync_file

    def sync(descriptor: int) -> None:
        if failing and failing.pop(0):
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files, "sync_file", sync)


@pytest.mark.row("S10")
def test_a_save_that_fails_is_said_and_the_next_one_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure names the checkpoint and the reason; its metrics are dropped with it; the next save stands."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory)
        _break(monkeypatch, [True])
        state.step = 10
        saves.save(PARTS)
        saves.annotate({"accuracy": 0.5}, is_best=True)
        saves.store.wait()
        assert (saves.step, saves.durable_step) == (-1, -1)
        state.step = 20
        saves.save(PARTS)
        saves.store.wait()
        assert saves.store.steps() == [20]
        (line,) = console.lines
        assert line == (
            f"Saving {directory.checkpoints / 'step-00000010'}: No space left on device. The checkpoints before it are "
            "unharmed. Training goes on, and the next save tries again."
        )


@pytest.mark.row("S10")
def test_the_last_save_is_tried_twice_with_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first try fails the second carries the same metrics, and nothing is an error."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        state.step = 10
        _break(monkeypatch, [True])
        saves.save(PARTS)
        saves.annotate({"accuracy": 0.5, "loss": 1.0}, is_best=False)
        _break(monkeypatch, [True])
        saves.save_for_good(PARTS)
        assert saves.store.open(10).metrics == {"accuracy": 0.5, "loss": 1.0}


@pytest.mark.row("S10")
def test_a_last_save_that_fails_twice_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the reason, the step that is lost, and the step that the same command goes on from."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        state.step = 10
        saves.save_for_good(PARTS)
        state.step = 13
        _break(monkeypatch, [True] * 9)
        with pytest.raises(RunError, match=r"No space left.* step 13 is lost: make room .* goes on from step 10\."):
            saves.save_for_good(PARTS)


def test_there_is_only_time_to_finish_the_save_that_is_under_way(tmp_path: Path) -> None:
    """With less time left than two saves take, a stop waits for the one that was handed over and begins no other."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory)
        saves.save_seconds = 40.0
        state.step = 10
        saves.save(PARTS)
        saves.durable_step = -1  # as while it is written
        state.step = 11
        saves.save_before_stop(PARTS, seconds_left=30.0)
        assert saves.store.steps() == [10]
        assert console.lines == ["finishing the save of step 10: there is no time for another"]


def test_a_stop_with_time_enough_saves_its_own_step(tmp_path: Path) -> None:
    """Otherwise the step just made is saved too."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        state.step = 10
        saves.save(PARTS)
        state.step = 11
        saves.save_before_stop(PARTS, seconds_left=30.0)
        assert saves.store.steps() == [10, 11]


def test_a_grace_that_is_too_short_is_said_once(tmp_path: Path) -> None:
    """When a step and a save take longer than what is left after SIGTERM, a person hears of it."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, _ = _saves(directory, grace="20s")
        saves.warn_about_grace(3.0)
        saves.save_seconds = 18.0
        saves.warn_about_grace(3.0)
        saves.warn_about_grace(4.0)
        assert len(console.lines) == 1
        assert "about 21 s here (a step 3 s, a save 18 s), and --grace says that 20 s are left" in console.lines[0]


def test_a_folder_that_is_gone_is_no_place_to_save_and_another_in_its_place_ends_the_run(tmp_path: Path) -> None:
    """While it is out of reach nothing is made there; a stranger's folder of the same name is left alone."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory)
        (tmp_path / "run").rename(tmp_path / "away")
        state.step = 10
        saves.save(PARTS)
        assert not (tmp_path / "run").exists()
        assert "run is not there any more" in console.lines[0]
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".holdfast-lock").touch()
        with pytest.raises(RunError, match="was replaced while the run went on"):
            saves.save(PARTS)


@pytest.mark.row("S8", "S10")
def test_metrics_of_a_last_save_that_failed_once_stand_beside_the_one_that_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the first or the second try of the last save works, the best is chosen by all that was measured."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, _, state = _saves(directory)
        state.step = 10
        _break(monkeypatch, [True])
        saves.save(PARTS)
        saves.annotate({"accuracy": 0.5, "loss": 1.0}, is_best=True)
        saves.save_for_good(PARTS)
        assert saves.store.open(10).metrics == {"accuracy": 0.5, "loss": 1.0}
        assert saves.lost == set()


@pytest.mark.row("S8", "S10")
def test_metrics_that_could_not_be_written_are_written_with_the_next_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the wrong moment does not cost the best its metrics."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory)
        state.step = 10
        saves.save(PARTS)
        saves.store.wait()
        failing = [True]
        real = files.replace_durably

        def replace(path: Path, data: bytes) -> None:
            if failing and failing.pop():
                raise OSError(28, "No space left on device")
            real(path, data)

        monkeypatch.setattr(files, "replace_durably", replace)
        saves.annotate({"accuracy": 0.75}, is_best=False)
        saves.store.wait()
        assert len(console.lines) == 1 and "evaluation.json" in console.lines[0]
        state.step = 20
        saves.save(PARTS)
        saves.store.wait()
        assert saves.store.open(10).metrics == {"accuracy": 0.75}


@pytest.mark.row("S10")
def test_a_disk_that_cannot_be_listed_is_a_failed_save_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk before anything is written is said like one while it is written."""
    with RunDirectory(tmp_path / "run") as directory:
        saves, console, state = _saves(directory)
        state.step = 10

        def fail(folder: Path) -> list[str]:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr("holdfast.checkpoints.storage.os.listdir", fail)
            saves.save(PARTS)
        assert "Input/output error" in console.lines[0] and "Training goes on" in console.lines[0]
        saves.save(PARTS)
        saves.store.wait()
        assert saves.store.steps() == [10]
