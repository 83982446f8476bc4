"""Which stretch of a run is replayed, and the copy that is made of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.checkpoints import CheckpointStore
from holdfast.config import Config
from holdfast.errors import CheckpointCorrupt, ConfigError, RunError
from holdfast.run.directory import RunDirectory
from holdfast.run.stretch import Stretch, choose_start, choose_stretch, copy_run, refuse_what_is_no_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory of 2 epochs of 10 steps, with checkpoints at 4, 9 and 10."""
    with RunDirectory(tmp_path / "run") as directory:
        directory.write("split.csv", "path,label,set,bytes,digest\n")
        directory.begin(Config(data="digits", epochs=2), {"versions": {}})
    _save(tmp_path / "run", 4, 9, 10)
    return tmp_path / "run"


def _save(run: Path, *steps: int, **journal: Any) -> None:
    with CheckpointStore(run / "checkpoints") as store:
        for step in steps:
            parts = {"model": {"w": torch.full((3,), float(step))}, "journal": {"first_epoch": 0, **journal}}
            store.save(step, parts, metadata={"epoch": step // 10})


def _damage(run: Path, step: int) -> None:
    file = run / f"checkpoints/step-{step:08d}/model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("steps", "at_end", "expected"),
    [
        ([100, 200, 300], False, 200),
        ([100, 200, 201], True, 100),  # one step is too few for a kill between two
        ([7, 8, 9], False, 7),
        ([40], False, 0),  # short enough to replay from the first weights, with evidence at its end
        ([51], False, 51),
        ([51], True, 0),
        ([], False, 0),
    ],
)
def test_the_start_is_the_newest_that_a_later_checkpoint_follows(steps: list[int], at_end: bool, expected: int) -> None:
    """Else the beginning when that is near or the only way, else the newest."""
    assert choose_start(steps, at_end=at_end, forked=False) == expected


def test_a_fork_is_never_replayed_from_its_first_weights() -> None:
    """Its first weights are another run's: it begins at its checkpoint, and fails when that is its end."""
    assert choose_start([40], at_end=False, forked=True) == 40
    with pytest.raises(
        ConfigError, match=r"^There is nothing to replay from: .*another run's \(a fork\).*--save-every"
    ):
        choose_start([40], at_end=True, forked=True)


@pytest.mark.parametrize(
    ("start", "steps", "own", "expected"),
    [
        (40, None, [40, 60], Stretch(40, 51, 60)),  # 50 would be the end of an epoch
        (40, None, [40, 41, 60], Stretch(40, 51, 60)),  # to the first that leaves room for a kill
        (0, None, [200], Stretch(0, 26, 50)),
        (0, None, [], Stretch(0, 11, 20)),
        (90, None, [90], Stretch(90, 96, 100)),  # the run ends
        (40, 2, [], Stretch(40, 41, 42)),
        (49, 2, [], Stretch(49, 50, 51)),  # nowhere else to kill
        (40, 60, [], Stretch(40, 71, 100)),
    ],
)
def test_the_stretch_reaches_the_next_checkpoint_with_a_kill_inside_an_epoch(
    start: int, steps: int | None, own: list[int], expected: Stretch
) -> None:
    """A run of 100 steps in epochs of 5."""
    per_epoch = 5 if start != 0 else 25 if own else 10
    assert choose_stretch(start, steps, 100, per_epoch, own) == expected


@pytest.mark.parametrize(("start", "steps", "left"), [(99, None, 1), (100, None, 0), (90, 11, 10)])
def test_the_stretch_fails_past_the_end_of_the_run(start: int, steps: int | None, left: int) -> None:
    """The message says how many steps are left there, and what to do."""
    with pytest.raises(ConfigError, match=rf"from step {start}: the run has 100 steps, so {left} are left.*--from"):
        choose_stretch(start, steps, 100, 5, [])


def test_the_copy_holds_the_chosen_checkpoint_alone(run: Path, tmp_path: Path) -> None:
    """Settings, environment, sets and one checkpoint, byte for byte; the run itself is as it was."""
    before = {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}
    said: list[str] = []
    assert copy_run(run, tmp_path / "copy", None, said.append) == 4
    assert CheckpointStore(tmp_path / "copy/checkpoints").steps() == [4]
    for name in ("config.yaml", "environment.json", "split.csv", "checkpoints/step-00000004/model.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (run / name).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]} == before
    assert said == []


def test_a_damaged_checkpoint_is_passed_over_aloud_and_left_where_it_is(run: Path, tmp_path: Path) -> None:
    """The next one that is followed is taken, and the damaged one stays in the run."""
    _save(run, 15)
    _damage(run, 10)
    said: list[str] = []
    assert copy_run(run, tmp_path / "copy", None, said.append) == 9
    assert len(said) == 1 and said[0].startswith("Passed over step 10: ") and "model.safetensors" in said[0]
    assert 10 in CheckpointStore(run / "checkpoints").steps()


def test_a_damaged_checkpoint_fails_when_it_is_asked_for(run: Path, tmp_path: Path) -> None:
    """`--from` of a damaged one is an error that points at the others."""
    _damage(run, 9)
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors.*Begin from another step with --from\.$"):
        copy_run(run, tmp_path / "copy", 9, print)


def test_a_step_without_a_checkpoint_fails_with_those_there_are(run: Path, tmp_path: Path) -> None:
    """The message lists the steps to choose from."""
    with pytest.raises(ConfigError, match=r"^--from 5: .* It has: 4, 9, 10; and 0, its beginning\.$"):
        copy_run(run, tmp_path / "copy", 5, print)


def test_the_beginning_of_a_fork_fails(run: Path, tmp_path: Path) -> None:
    """--from 0 is no choice where the journal says that the run began at a later epoch."""
    assert copy_run(run, tmp_path / "copy", 0, print) == 0
    _save(run, 12, first_epoch=1)
    with pytest.raises(ConfigError, match=r"^--from 0: .* is a fork, .*: 9, 10, 12\.$"):
        copy_run(run, tmp_path / "other", 0, print)


def test_a_run_without_its_split_fails_naming_the_file(run: Path, tmp_path: Path) -> None:
    """What the replays need and is gone is named."""
    (run / "split.csv").unlink()
    with pytest.raises(RunError, match=r"^Reading .*run/split\.csv: No such file.*Put it back\.$"):
        copy_run(run, tmp_path / "copy", None, print)


def test_what_is_no_run_is_refused_with_what_it_is(run: Path, tmp_path: Path) -> None:
    """Nothing, a file, a checkpoint, a folder of them, another folder: each by its name, with what to give instead."""
    refuse_what_is_no_run(run)
    cases = {
        tmp_path / "nowhere": r"there is no such folder\. Give a run directory",
        tmp_path / "run@9": r"there is no such folder\. Give .*run --from 9\.$",
        run / "config.yaml": r"it is a file; only a run can be replayed",
        run / "checkpoints/step-00000009": r"it is a checkpoint; .*: \S*/run --from 9\.$",
        run / "checkpoints": r"it is a folder of checkpoints, .*Is the run \S*/run\?$",
        tmp_path: r"it is a folder without config\.yaml, so no run began in it",
    }
    for path, message in cases.items():
        with pytest.raises(ConfigError, match=message):
            refuse_what_is_no_run(path)
    (run / "checkpoints").rename(tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"can be replayed\.$"):  # no run is near, and none is proposed
        refuse_what_is_no_run(tmp_path / "mine")
