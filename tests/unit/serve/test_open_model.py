from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore, Last, write_single_file
from holdfast.errors import CheckpointCorrupt, CheckpointError, ConfigError
from holdfast.serve import open_model

METADATA = {"classes": ["a", "b"], "epoch": 1}


def _weights(step: int) -> nn.Linear:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, step)
    return model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints at 10, 20 and 30, of which 20 is the best; each one's weights are its step."""
    path = tmp_path / "run"
    store = CheckpointStore(path / "checkpoints", Last(5))
    for step, accuracy in ((10, 0.5), (20, 0.75), (30, 0.625)):
        store.save(step, {"model": _weights(step)}, {"accuracy": accuracy, "loss": 1.0}, METADATA)
    store.close()
    (path / "config.yaml").write_text("data: x\n")
    return path


@pytest.mark.row("U1", "S8", "S9")
@pytest.mark.parametrize(("which", "step"), [("", 20), ("@best", 20), ("@last", 30), ("@10", 10), ("@30", 30)])
def test_a_run_means_its_best_and_others_on_request(run: Path, which: str, step: int) -> None:
    """`runs/x` is the best; `@last` and `@STEP` name another; weights and metadata are that checkpoint's."""
    file = open_model(f"{run}{which}")
    assert file.path == run / "checkpoints" / f"step-{step:08d}"
    assert file.run == run
    assert torch.equal(file.tensors["weight"], torch.full((2, 2), float(step)))
    assert file.metadata["step"] == step and file.metadata["classes"] == ["a", "b"]


@pytest.mark.row("U1")
def test_a_checkpoint_directory_knows_its_run(run: Path) -> None:
    """A checkpoint can be named by its folder; the run it lies in is found, and only if it is one."""
    file = open_model(str(run / "checkpoints" / "step-00000010"))
    assert (file.metadata["step"], file.run) == (10, run)
    (run / "config.yaml").unlink()
    assert open_model(str(run / "checkpoints" / "step-00000010")).run is None


@pytest.mark.row("U1", "S1")
def test_a_single_file(run: Path, tmp_path: Path) -> None:
    """A file is opened with its metadata; it belongs to a run when it lies in one."""
    tensors = {n: t.detach() for n, t in _weights(7).state_dict().items()}
    for folder, expected in ((run, run), (tmp_path, None)):
        write_single_file(folder / "best.safetensors", tensors, METADATA)
        file = open_model(str(folder / "best.safetensors"))
        assert file.run == expected
        assert file.metadata["classes"] == ["a", "b"]
        assert torch.equal(file.tensors["weight"], tensors["weight"])


def test_a_path_with_an_at_sign_is_a_path_first(run: Path) -> None:
    """A folder that has @ in its name is opened as it is."""
    odd = run.rename(run.parent / "me@home")
    assert open_model(str(odd)).metadata["step"] == 20
    assert open_model(f"{odd}@last").metadata["step"] == 30


def test_fails_when_there_is_nothing(tmp_path: Path) -> None:
    """A path that is not there is refused with what may be given."""
    with pytest.raises(ConfigError, match=r"There is no model at .*nowhere\. Give a run directory"):
        open_model(str(tmp_path / "nowhere@last"))


def test_fails_when_a_folder_is_neither(tmp_path: Path) -> None:
    """A folder without checkpoints and manifest is refused."""
    with pytest.raises(ConfigError, match=r"neither a run \(it has no checkpoints folder\) nor a checkpoint"):
        open_model(str(tmp_path))


@pytest.mark.parametrize("which", ["40", "worst", "-10"])
def test_fails_on_a_checkpoint_that_is_not_there_and_lists_those_that_are(run: Path, which: str) -> None:
    """The refusal names the steps there are."""
    with pytest.raises(ConfigError, match=rf"has no checkpoint '{which}'. Ask for best, last, or a step: 10, 20, 30\."):
        open_model(f"{run}@{which}")


def test_fails_when_a_run_has_no_checkpoint_yet(tmp_path: Path) -> None:
    """A run that has only begun has no model."""
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        open_model(str(tmp_path))


def test_best_fails_before_anything_was_evaluated_and_last_works(tmp_path: Path) -> None:
    """Without an evaluation there is no best, and the message says how to get the newest."""
    CheckpointStore(tmp_path / "checkpoints", background=False).save(5, {"model": _weights(5)})
    with pytest.raises(CheckpointError, match=r"has been evaluated yet\. Ask for the newest: .*@last"):
        open_model(str(tmp_path))
    assert open_model(f"{tmp_path}@last").metadata["step"] == 5


@pytest.mark.parametrize("form", ["checkpoint", "file"])
def test_damaged_weights_fail(run: Path, form: str) -> None:
    """One flipped bit in a tensor is found, in a checkpoint as in a single file."""
    if form == "file":
        path = run / "best.safetensors"
        write_single_file(path, {n: t.detach() for n, t in _weights(7).state_dict().items()}, METADATA)
        spec = str(path)
    else:
        path = run / "checkpoints" / "step-00000020" / "model.safetensors"
        spec = str(run)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointCorrupt):
        open_model(spec)
