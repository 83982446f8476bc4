from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from holdfast.checkpoints import CheckpointStore, write_single_file
from holdfast.checkpoints.retention import Last

Holdfast = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two checkpoints and a best file, in the folder that the command stands in."""
    store = CheckpointStore(tmp_path / "run" / "checkpoints", Last(None))
    for step in (100, 200):
        store.save(step, {"model": {"a": torch.full((2, 3), float(step)), "b": torch.ones(2)}}, {"accuracy": 0.5})
    assert store.steps() == [100, 200]
    write_single_file(tmp_path / "run" / "best.safetensors", {"a": torch.zeros(2)}, {"step": 100})
    return tmp_path / "run"


def _damage(run: Path) -> None:
    path = run / "checkpoints" / "step-00000200" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


def test_a_sound_run_is_one_line_each_and_exits_with_0(holdfast: Holdfast, run: Path) -> None:
    """Every checkpoint and the best file have their line on stdout; the count is talk, on stderr."""
    said = holdfast("verify", "run")
    assert said.code == 0
    files = {step: list((run / "checkpoints" / f"step-00000{step}").iterdir()) for step in (100, 200)}
    sizes = {step: sum(file.stat().st_size for file in found) / 1000 for step, found in files.items()}
    assert said.out.splitlines() == [
        *(f"step-00000{s}  ok  2 tensors, {len(files[s])} files, {sizes[s]:.1f} KB" for s in (100, 200)),
        f"best.safetensors  ok  1 tensor, {(run / 'best.safetensors').stat().st_size} bytes",
    ]
    assert said.err == "run: 3 of 3 proven\n"


def test_a_damaged_checkpoint_is_named_and_exits_with_4(holdfast: Holdfast, run: Path) -> None:
    """File and tensor stand in its line, the others are proven all the same, and the gate has failed."""
    _damage(run)
    said = holdfast("verify", "run")
    assert (said.code, said.err) == (4, "run: 2 of 3 proven\n")
    assert said.out.splitlines()[1] == (
        "step-00000200  DAMAGED  model.safetensors does not match its digest (damaged: b)"
    )
    assert holdfast("verify", "run@last").code == 4
    assert holdfast("verify", "run@100").code == 0


def test_the_folder_one_stands_in_has_a_name_too(holdfast: Holdfast, tmp_path: Path) -> None:
    """The line of `.` does not begin with nothing."""
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert holdfast("verify", ".").out.startswith(".  NOT PROVABLE  ")


def test_json_has_every_finding(holdfast: Holdfast, run: Path) -> None:
    """With --json stdout is one table, the same for a sound and a damaged run, and the exit code is the same."""
    _damage(run)
    (run / "checkpoints" / "damaged-step-00000050").mkdir()
    said = holdfast("verify", "run", "--json")
    assert (said.code, said.err) == (4, "")
    table = json.loads(said.out)
    assert (table["path"], table["ok"], table["problem"]) == ("run", False, None)
    one, other = table["checkpoints"]
    assert set(one) == {"path", "step", "ok", "verdict", "num_tensors", "num_files", "num_bytes", "problem"}
    assert (one["path"], one["step"], one["ok"], one["num_tensors"], one["problem"]) == (
        "run/checkpoints/step-00000100", 100, True, 2, None,
    )  # fmt: skip
    assert (other["ok"], other["verdict"], other["step"]) == (False, "damaged", 200)
    assert [file["path"] for file in table["files"]] == ["run/best.safetensors"]
    assert table["set_aside"] == [
        {"path": "run/checkpoints/damaged-step-00000050", "what": "damaged, set aside before"}
    ]
    assert holdfast("verify", "run@100", "--json").code == 0


def test_leftovers_are_told_and_are_no_failure(holdfast: Holdfast, run: Path) -> None:
    """What was put aside and what a killed save left is named on stderr, and the run is proven."""
    (run / "checkpoints" / "damaged-step-00000050").mkdir()
    (run / "checkpoints" / ".holdfast-step-00000300.7").mkdir()
    said = holdfast("verify", "run")
    assert said.code == 0
    assert said.err.splitlines() == [
        ".holdfast-step-00000300.7  not checked  unfinished, or being written",
        "damaged-step-00000050  not checked  damaged, set aside before",
        "run: 3 of 3 proven",
    ]


def test_quiet_says_only_what_is_wrong(holdfast: Holdfast, run: Path) -> None:
    """A sound run is silence and 0; of a damaged one there is its line."""
    assert (holdfast("verify", "run", "-q").code, holdfast("verify", "run", "-q").out) == (0, "")
    _damage(run)
    said = holdfast("verify", "run", "-q")
    assert (said.code, len(said.out.splitlines()), said.err) == (4, 1, "")


def test_what_cannot_be_proven_exits_with_4(holdfast: Holdfast, tmp_path: Path) -> None:
    """A file without digests and a run without a checkpoint are no proof, and say which of the two they are."""
    safetensors.torch.save_file({"w": torch.ones(3)}, tmp_path / "theirs.safetensors")
    said = holdfast("verify", "theirs.safetensors")
    assert (said.code, said.err) == (4, "theirs.safetensors: 0 of 1 proven\n")
    assert said.out.startswith("theirs.safetensors  NOT PROVABLE  its header and sizes are sound, but it carries no")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.yaml").write_text("model: lenet\n")
    said = holdfast("verify", "new")
    assert (said.code, said.out, said.err) == (4, "", "new: no checkpoint, so nothing is proven\n")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("nowhere", 2, "there is nothing at nowhere."),
        ("s3://bucket/run", 2, "it is a URL; expected a path of this machine."),
        ("run@9", 2, "there is no checkpoint '9'."),
        (".", 2, "nothing of"),
    ],
)
def test_a_path_with_nothing_of_ours_is_a_usage_error(
    holdfast: Holdfast, run: Path, path: str, code: int, message: str
) -> None:
    """What is not there is not a failed proof, and nothing is on stdout."""
    said = holdfast("verify", path)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
