from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from holdfast import open_checkpoint
from holdfast.errors import CheckpointError
from holdfast.formats.folder_kinds import inner_checkpoint, what_else

WEIGHTS = {"fc.weight": torch.ones(2)}


def _cache(root: Path, *commits: str, main: str | None = None) -> Path:
    for commit in commits:
        (root / "snapshots" / commit).mkdir(parents=True)
        save_file(WEIGHTS, root / "snapshots" / commit / "model.safetensors")
    (root / "refs").mkdir()
    if main is not None:
        (root / "refs/main").write_text(main)
    return root


def test_a_repository_in_the_cache_of_hugging_face_opens_at_its_main_commit(tmp_path: Path) -> None:
    """`main` decides; without it there must be one commit."""
    root = _cache(tmp_path / "models--a--b", "one", "two", main="two")
    assert open_checkpoint(root).path.endswith("snapshots/two/model.safetensors")
    assert inner_checkpoint(str(_cache(tmp_path / "c", "one")), ["refs", "snapshots"]) == "snapshots/one"
    assert inner_checkpoint(str(_cache(tmp_path / "d", "one", "two")), ["refs", "snapshots"]) is None


@pytest.mark.parametrize("name", ["..", "../../etc", "/etc", "gone", "one/../../.."])
def test_a_commit_or_tag_that_leads_elsewhere_is_not_followed(name: str, tmp_path: Path) -> None:
    """Only names of entries of the folder itself are taken."""
    root = _cache(tmp_path / "c", "one", "two", main=name)
    assert inner_checkpoint(str(root), ["refs", "snapshots"]) is None
    (tmp_path / "latest").write_text(name)
    assert inner_checkpoint(str(tmp_path), ["latest", "x"]) is None


def test_the_logs_of_lightning_lead_to_their_checkpoint(tmp_path: Path) -> None:
    """They have a folder `checkpoints` as our runs have; what lies in it tells them apart."""
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": WEIGHTS}, tmp_path / "checkpoints/epoch=1.ckpt")
    assert open_checkpoint(tmp_path).weights()["fc.weight"].tolist() == [1, 1]


def test_a_folder_of_several_says_which_to_name(tmp_path: Path) -> None:
    """Files that look like checkpoints, or folders that hold some."""
    for name in ("b.pth", "a.pth"):
        torch.save(WEIGHTS, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"It holds a.pth, b.pth, and none is the obvious one. Name the file."):
        open_checkpoint(tmp_path)
    for name in ("checkpoint-1", "checkpoint-2", "logs"):
        (tmp_path / "run" / name).mkdir(parents=True)
    for name in ("checkpoint-1", "checkpoint-2"):
        save_file(WEIGHTS, tmp_path / "run" / name / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"folders with weights: checkpoint-1, checkpoint-2. Name one of these."):
        open_checkpoint(tmp_path / "run")


def test_folders_of_other_frameworks_are_named() -> None:
    """TensorFlow's and JAX's are known by the files they always have."""
    assert what_else(["saved_model.pb", "variables"]) == "TensorFlow folder"
    assert what_else(["checkpoint", "model-1.index", "model-1.data-00000-of-00001"]) == "TensorFlow folder"
    assert what_else(["_METADATA", "d"]) == "JAX (Orbax) folder"
    assert what_else(["notes.txt"]) == "folder"


def test_a_folder_opens_at_what_its_last_checkpoint_names(tmp_path: Path) -> None:
    """detectron2 writes the name, mmengine the path it had on the machine of the training."""
    torch.save({"model": {"fc.weight": torch.ones(2)}}, tmp_path / "model_0000003.pth")
    torch.save({"model": {"fc.weight": torch.zeros(2)}}, tmp_path / "model_final.pth")
    for said in ("model_final.pth", "/home/x/work_dirs/model_final.pth"):
        (tmp_path / "last_checkpoint").write_text(said)
        assert open_checkpoint(tmp_path).weights()["fc.weight"].tolist() == [0, 0]
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(CheckpointError, match="none is the obvious one"):
        open_checkpoint(tmp_path)


def test_a_folder_with_weights_of_other_programs_only_says_so(tmp_path: Path) -> None:
    """It names them, and what to fetch."""
    for name in ("config.json", "flax_model.msgpack", "tf_model.h5"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=r"other programs \(flax_model.msgpack, tf_model.h5\). Fetch PyTorch's"):
        open_checkpoint(tmp_path)


def test_a_model_of_mlflow_opens_at_its_data(tmp_path: Path) -> None:
    """It keeps the module in `data/model.pth`, and what it needs beside it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}")
    torch.save(torch.nn.Linear(2, 1), tmp_path / "data/model.pth")
    assert sorted(open_checkpoint(tmp_path).weights()) == ["bias", "weight"]
