"""`train --init`: any checkpoint as the first weights of a run, with a report, and never needed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from holdfast.checkpoints import Checkpoint
from holdfast.models import build_model

QUICK = ("--epochs", "1", "--model", "lenet", "--img-size", "16", "--workers", "0", "--batch-size", "4", "--lr", "1e-9")


def _foreign(path: Path, classes: int = 3, names: list[str] | None = None) -> dict[str, torch.Tensor]:
    """Saves a file as the ImageNet example writes it, of a model wrapped for several GPUs."""
    torch.manual_seed(5)
    state = build_model("lenet", classes, in_channels=3, image_size=16).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 3, "arch": "lenet", "state_dict": wrapped, "best_acc1": 1.0, "classes": names}, path)
    return dict(state)


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return Checkpoint(max((run / "checkpoints").glob("step-*"))).tensors("model")


@pytest.mark.row("S5", "S7")
def test_a_wrapped_models_file_fills_the_plain_model(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """All of it is taken under other names, the terminal and init.json say so, and training begins from there."""
    state = _foreign(tmp_path / "a.pth")
    said = holdfast("train", picture_folder, *QUICK, "--init", "a.pth", "--out", "run")
    assert said.code == 0
    assert "weights: a.pth: 100.0% of" in said.out
    assert "(module. left out): module.conv1.weight → conv1.weight …" in said.out
    assert json.loads((tmp_path / "run/init.json").read_text())["fraction"] == 1
    for name, tensor in _weights(tmp_path / "run").items():
        torch.testing.assert_close(tensor, state[name], atol=1e-4, rtol=0)


@pytest.mark.row("S5")
def test_rows_of_the_head_follow_the_classes(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """The file knows its classes and the data have names: each row finds its class."""
    state = _foreign(tmp_path / "a.pth", 2, ["red", "blue"])
    said = holdfast("train", picture_folder, *QUICK, "--init", "a.pth", "--out", "run")
    assert said.code == 0
    assert "reshaped  fc3.weight [3, 84]: rows of 2 of 3 classes, by name" in said.out
    found = _weights(tmp_path / "run")["fc3.weight"]  # blue, green, red
    torch.testing.assert_close(found[[0, 2]], state["fc3.weight"][[1, 0]], atol=1e-4, rtol=0)


@pytest.mark.row("S5")
def test_too_little_is_refused(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Below a half by default, below --min-matched when it is given: exit 4, with what fits; a lower bar lets it in."""
    _foreign(tmp_path / "a.pth")
    said = holdfast("train", picture_folder, *QUICK[:2], "--model", "mlp", "--img-size", "16", "--init", "a.pth")
    assert said.code == 4
    assert "of the model's" in said.err and "expected 50% at least" in said.err
    _foreign(tmp_path / "b.pth", 7)
    command = ("train", picture_folder, *QUICK, "--init", "b.pth", "--out", "run")
    said = holdfast(*command, "--min-matched", "1")
    assert said.code == 4 and "expected 100% at least" in said.err
    assert holdfast(*command).code == 0


@pytest.mark.row("S5", "S4")
def test_a_run_of_our_own_is_a_source_like_any_other(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """`--init runs/x@best`, also when the file is gone at the resume: the first weights are in the run by then."""
    assert holdfast("train", picture_folder, *QUICK, "--out", "first").code == 0
    command = ("train", picture_folder, *QUICK, "--init", "first@best", "--out", "second")
    said = holdfast(*command)
    assert said.code == 0 and "weights: first@best: 100.0% of" in said.out
    shutil.rmtree(tmp_path / "first")
    assert holdfast(*command[:-2], "--epochs", "+1", "--out", "second").code == 0


def test_names_and_roles_are_chosen_by_flags(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """--prefix takes one of two models, --rename the names as they are wanted, --role the average."""
    state = _foreign(tmp_path / "a.pth")
    two = {f"{side}.{n}": t + k for k, side in enumerate(("left", "right")) for n, t in state.items()}
    torch.save(two, tmp_path / "two.pt")
    command = ("train", picture_folder, *QUICK, "--init", "two.pt")
    said = holdfast(*command, "--out", "x")
    assert said.code == 1 and "its parts left., right. fit the model equally well" in said.err
    assert holdfast(*command, "--prefix", "right", "--out", "y").code == 0
    torch.testing.assert_close(_weights(tmp_path / "y")["fc3.bias"], state["fc3.bias"] + 1, atol=1e-4, rtol=0)
    assert holdfast(*command, "--rename", r"^left\.=>", "--out", "z").code == 0
    torch.testing.assert_close(_weights(tmp_path / "z")["fc3.bias"], state["fc3.bias"], atol=1e-4, rtol=0)
    torch.save({"model": state, "ema": {n: t + 2 for n, t in state.items()}}, tmp_path / "two.pt")
    assert holdfast(*command, "--role", "ema", "--out", "w").code == 0
    torch.testing.assert_close(_weights(tmp_path / "w")["fc3.bias"], state["fc3.bias"] + 2, atol=1e-4, rtol=0)
    said = holdfast(*command, "--rename", "(=>x", "--out", "v")
    assert said.code == 2 and "is no regular expression" in said.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "it is a Git LFS pointer"),
        (b"PK\x03\x04 and no more", "no table of contents at its end"),
        (b"", "it is an empty file"),
    ],
)
def test_what_is_no_checkpoint_is_told(
    holdfast, picture_folder: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    """What it is, and what to do: exit 1, and nothing of a run is left in the way."""
    (tmp_path / "a.pth").write_bytes(content)
    said = holdfast("train", picture_folder, *QUICK, "--init", "a.pth", "--out", "run")
    assert said.code == 1
    assert message in said.err
    assert not (tmp_path / "run").exists()
    assert holdfast("train", picture_folder, *QUICK, "--out", "run").code == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--role", "ema"), "--role says what to take from a file, and there is none. Give it: --init FILE."),
        (("--prefix", "a.", "--rename", "a=>b"), "--prefix, --rename says what to take from a file"),
        (("--init", "a.pth", "--min-matched", "1.5"), "min_matched is 1.5; expected a share from 0 to 1"),
        (("--init", "a.pth", "--min-matched", "-1"), "min_matched is -1; expected a share from 0 to 1"),
        (("--init", "a.pth", "--rename", "zzz=>b"), "none of the 10 names of a.pth contains it"),
        (("--keep", "best:2:acc"), "a run does not measure 'acc'; expected one of accuracy, map,"),
    ],
)
def test_flags_that_cannot_be_meant_are_usage_errors(
    holdfast, picture_folder: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    """A flag that would do nothing is told before the training, not ignored."""
    _foreign(tmp_path / "a.pth")
    said = holdfast("train", picture_folder, *QUICK, *flags, "--out", "run")
    assert said.code == 2
    assert message in said.err


def test_a_rule_may_have_a_comma(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """`{1,2}` in a regular expression does not make two rules, and the file's own name is what the report shows."""
    _foreign(tmp_path / "a.pth")
    rules = r"^m.{1,5}\.fc1=>fc1,module\.=>"
    said = holdfast("train", picture_folder, *QUICK, "--init", "a.pth", "--rename", rules, "--out", "run")
    assert said.code == 0
    assert "renamed   10 tensors (--rename or --prefix): module.conv1.weight → conv1.weight …" in said.out
