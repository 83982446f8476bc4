"""Around the replays: the folder that always goes, sizes of differences, errors that name the run."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import holdfast.run.prove as module
from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.config import Config
from holdfast.errors import ConfigError
from holdfast.run.directory import RunDirectory
from holdfast.run.proof import Difference, Proof
from holdfast.run.prove import measured, prove, temporary_folder
from holdfast.run.step_record import Ready, record_of

Value = Callable[[str, int], float]  # (the replay's role, step) → what the one tensor holds


class Scripted:
    """A replay without a process: its tensor holds what the script says. The third that is made is the fresh one."""

    value: Value
    made: list[Scripted]

    def __init__(self, *_: Path) -> None:
        self.role = ("whole", "broken", "fresh")[len(self.made)]
        self.made.append(self)
        self.killed = False

    def begin(self, *, restore: Path | None, workers: int | None, **_: Any) -> None:
        """Stands at the newest checkpoint of `restore`."""
        self.at = CheckpointStore(restore).steps()[-1] if restore else 0
        self.workers = workers

    def ready(self) -> Ready:
        """Says that the run has 4 steps an epoch, 12 in all, on 2 threads."""
        return Ready(record_of(self.at, self._trees()), 4, 12, self.workers or 0, True, "r", {"threads": 2})

    def step(self) -> Any:
        """Goes one on."""
        assert not self.killed
        self.at += 1
        return replace(record_of(self.at, self._trees()), batch={"inputs": "i"}, loss="0x1p0")

    def save(self, root: Path) -> None:
        """Really saves."""
        with CheckpointStore(root) as store:
            store.save(self.at, self._trees())

    def kill(self) -> None:
        """Is gone."""
        self.killed = True

    def _trees(self) -> dict[str, Any]:
        return {"model": {"w": torch.tensor([float(type(self).value(self.role, self.at))])}}


@pytest.fixture
def proving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Value], Proof]:
    """Proves a run with checkpoints at 2, 6 and 8, whose one tensor holds the step, by replays that follow a script."""
    with RunDirectory(tmp_path / "run") as directory:
        directory.write("split.csv", "")
        directory.begin(Config(data="digits", epochs=3), {"threads": 1})
    with CheckpointStore(tmp_path / "run/checkpoints") as store:
        for step in (2, 6, 8):
            trees = {"model": {"w": torch.tensor([float(step)])}, "journal": {"first_epoch": 0}}
            store.save(step, trees, metadata={"epoch": step // 4, "fingerprints": {"recipe": "r"}})

    def run(value: Value) -> Proof:
        monkeypatch.setattr(Scripted, "value", staticmethod(value), raising=False)
        monkeypatch.setattr(Scripted, "made", [], raising=False)
        monkeypatch.setattr(module, "Replay", Scripted)
        proof = prove(tmp_path / "run", start=2, steps=6)
        assert all(replay.killed for replay in Scripted.made)
        return proof

    return run


def test_replays_that_agree_with_each_other_and_the_run_are_bit_exact(proving: Callable[[Value], Proof]) -> None:
    """Compared at every step, killed in the middle, and with each of the run's own checkpoints on the way."""
    proof = proving(lambda _, step: step)
    assert proof.bit_exact and proof.cause is None
    assert (proof.steps_compared, proof.num_tensors, proof.workers) == (6, 1, (0, 0, 1))
    assert [(own.step, own.difference) for own in proof.own] == [(6, None), (8, None)]
    assert proof.notes == ["not what the run began on: threads 1 → 2"]


def test_a_run_that_did_otherwise_on_another_machine_is_told_so(proving: Callable[[Value], Proof]) -> None:
    """The replays agree; the run's checkpoint at 8 does not: step, size and the number of threads."""
    proof = proving(lambda _, step: step + (0.25 if step > 6 else 0))
    assert proof.difference is None and not proof.bit_exact
    assert [own.difference for own in proof.own] == [None, Difference(8, ["model.w"], [], 1, 0.25)]
    assert proof.cause is not None and proof.cause.kind == "machine" and "threads 1 → 2" in proof.cause.text
    assert proof.notes == []


@pytest.mark.parametrize(
    ("parts_at", "kind", "own"),
    [
        (2, "restore", []),
        (4, "nondeterminism", []),
        (5, "restore", []),
        (6, "optimizer", []),
        (7, "nondeterminism", [6]),
    ],
)
def test_the_walk_ends_at_the_first_difference(
    proving: Callable[[Value], Proof], parts_at: int, kind: str, own: list[int]
) -> None:
    """At the start, before the kill at 5, in the restore after it, at the next step, and later."""

    def value(role: str, at: int) -> float:
        other = role == "fresh" or (role == "broken" and parts_at < 5)
        return at + (0.5 if other and at >= parts_at else 0)

    proof = proving(value)
    assert proof.difference == Difference(parts_at, ["model.w"], [], 1, 0.5)
    assert proof.cause is not None and proof.cause.kind == kind
    assert [one.step for one in proof.own] == own


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_folder_is_removed_after_an_error(temporary: Path) -> None:
    """With all that lies in it; and the error goes on."""

    def fail() -> None:
        with temporary_folder() as folder:
            (folder / "run").mkdir()
            assert folder.parent == temporary
            raise ValueError("odd")

    with pytest.raises(ValueError, match=r"^odd$"):
        fail()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 143)])
def test_the_folder_is_removed_after_a_signal(temporary: Path, number: signal.Signals, code: int) -> None:
    """The command then ends with the exit code promised, and the former way to take signals is back."""
    former = signal.getsignal(number)
    with pytest.raises(SystemExit) as ending, temporary_folder():
        os.kill(os.getpid(), number)
    assert ending.value.code == code
    assert list(temporary.iterdir()) == []
    assert signal.getsignal(number) == former


def test_an_ignored_signal_stays_ignored(temporary: Path) -> None:
    """What nohup protects is not ended by SIGHUP."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with temporary_folder() as folder:
            os.kill(os.getpid(), signal.SIGHUP)
            assert folder.is_dir()
    finally:
        signal.signal(signal.SIGHUP, former)


def _checkpoint(root: Path, model: dict[str, torch.Tensor]) -> Checkpoint:
    with CheckpointStore(root) as store:
        store.save(3, {"model": model})
        return store.open(3)


def test_the_size_is_that_of_the_first_tensor(tmp_path: Path) -> None:
    """The largest absolute difference over its elements."""
    one = _checkpoint(tmp_path / "a", {"x": torch.tensor([1.0, 2.0]), "y": torch.zeros(1)})
    other = _checkpoint(tmp_path / "b", {"x": torch.tensor([1.5, 1.0]), "y": torch.ones(1) * 9})
    difference = Difference(3, ["model.x", "model.y"], [], 2)
    assert measured(difference, one, other).max_abs_difference == 1.0


@pytest.mark.parametrize(
    "second",
    [torch.tensor([float("nan"), 2.0]), torch.zeros(3), torch.zeros(2).double()],
    ids=["nan", "shape", "dtype"],
)
def test_a_size_that_means_nothing_is_not_told(tmp_path: Path, second: torch.Tensor) -> None:
    """Against NaN, another shape or another type there is none."""
    one = _checkpoint(tmp_path / "a", {"x": torch.tensor([1.0, 2.0])})
    other = _checkpoint(tmp_path / "b", {"x": second})
    difference = Difference(3, ["model.x"], [], 1)
    assert measured(difference, one, other) == difference


def test_prove_fails_before_it_makes_anything(tmp_path: Path, temporary: Path) -> None:
    """No run, or too few steps: no process, no folder."""
    with pytest.raises(ConfigError, match=r"there is no such folder"):
        prove(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("data: digits\n")
    with pytest.raises(ConfigError, match=r"^--steps 1: expected 2 or more"):
        prove(tmp_path, steps=1)
    assert list(temporary.iterdir()) == []
