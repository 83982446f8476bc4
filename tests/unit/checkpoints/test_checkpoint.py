from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.evaluation import EVALUATION_FILE
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.errors import CheckpointCorrupt, CheckpointMismatch


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4, bias=False)
        self.decoder = nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of two tensors, some values, metrics and metadata."""
    parts = {"model": {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}, "counters": {"epoch": 3}}
    return CheckpointStore(tmp_path, background=False).save(12, parts, {"accuracy": 0.5}, {"classes": ["ants", "bees"]})


def _flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _sign(directory: Path, change: Any) -> None:
    """Changes the manifest's table and makes its digest right again."""
    table = json.loads((directory / FILE_NAME).read_bytes())
    del table["digest"]
    change(table)
    for digest in ({}, {"digest": digest_of((json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode())}):
        (directory / FILE_NAME).write_text(json.dumps({**table, **digest}, indent=1, ensure_ascii=False) + "\n")


def test_a_checkpoint_tells_what_it_is(saved: Path) -> None:
    """Step, metrics and metadata are there as soon as it is opened."""
    checkpoint = Checkpoint(str(saved))
    assert (checkpoint.step, checkpoint.metrics, checkpoint.metadata) == (
        12,
        {"accuracy": 0.5},
        {"classes": ["ants", "bees"]},
    )
    assert repr(checkpoint) == f"Checkpoint('{saved}', step=12)"


def test_a_part_reads_back_as_it_was_handed_out(saved: Path) -> None:
    """`read` gives the tree, with its tensors."""
    tree = Checkpoint(saved).read("model")
    assert tree["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tree["b"].tolist() == [1, 2]
    assert Checkpoint(saved).read("counters") == {"epoch": 3}


def test_tensors_are_given_by_name(saved: Path) -> None:
    """`tensors` gives the model's tensors; a part without any has none."""
    assert list(Checkpoint(saved).tensors()) == ["w", "b"]
    assert Checkpoint(saved).tensors("counters") == {}


@pytest.mark.row("S1")
def test_the_safetensors_library_reads_the_weights_of_a_checkpoint(saved: Path) -> None:
    """`model.safetensors` has the plain names, for any reader."""
    read = safetensors.torch.load_file(saved / "model.safetensors")
    assert read["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_is_on_disk_is_no_pickle_and_no_archive(saved: Path) -> None:
    """Every file is JSON, or safetensors; none begins as a pickle or a zip archive does."""
    CheckpointStore(saved.parent, background=False).annotate(12, {"loss": 1.0})
    names = sorted(entry.name for entry in saved.iterdir())
    assert names == ["evaluation.json", "manifest.json", "model.safetensors", "state.json"]
    for entry in saved.iterdir():
        data = entry.read_bytes()
        assert not data.startswith((b"\x80", b"PK", b"\x1f\x8b")), entry
        if entry.suffix == ".json":
            json.loads(data)


@pytest.mark.row("S4")
def test_tied_weights_are_stored_once_and_restored_tied(tmp_path: Path) -> None:
    """The file holds one matrix, both names are given, and the restored model is still tied."""
    torch.manual_seed(0)
    model, other = _Tied(), _Tied()
    path = CheckpointStore(tmp_path, background=False).save(1, {"model": model})
    assert list(safetensors.torch.load_file(path / "model.safetensors")) == ["encoder.weight"]
    checkpoint = Checkpoint(path)
    assert checkpoint.manifest.parts["model"].aliases == {"decoder.weight": "encoder.weight"}
    tensors = checkpoint.tensors()
    assert tensors["decoder.weight"] is tensors["encoder.weight"]
    checkpoint.restore({"model": other})
    assert other.decoder.weight is other.encoder.weight
    assert torch.equal(other.encoder.weight, model.encoder.weight)
    with torch.no_grad():
        other.encoder.weight.zero_()
    assert other.decoder.weight.sum() == 0


def test_training_on_does_not_touch_the_file(tmp_path: Path) -> None:
    """What was restored may be changed in place; the checkpoint verifies afterwards."""
    tree = {"w": torch.ones(3)}
    path = CheckpointStore(tmp_path, background=False).save(1, {"tree": tree})
    read: dict[str, Tensor] = {}
    Checkpoint(path).restore({"tree": read})
    read["w"].mul_(7)
    Checkpoint(path).verify()
    assert Checkpoint(path).read("tree")["w"].tolist() == [1, 1, 1]


def test_verify_passes_over_a_sound_checkpoint_in_silence(saved: Path) -> None:
    """Nothing is wrong, nothing is said."""
    assert Checkpoint(saved).verify() is None


def test_verify_fails_with_every_problem_at_once(saved: Path) -> None:
    """A missing, a cut and a changed file are all named."""
    CheckpointStore(saved.parent, background=False).annotate(12, {"loss": 1.0})
    (saved / "state.json").unlink()
    _flip(saved / EVALUATION_FILE, 20)
    _flip(saved / "model.safetensors")
    with pytest.raises(CheckpointCorrupt) as caught:
        Checkpoint(saved).verify()
    message = str(caught.value)
    assert message.startswith(f"{saved}: ")
    assert "model.safetensors does not match its digest (damaged: b)" in message
    assert "state.json is missing" in message
    assert "evaluation.json is damaged" in message


def test_verify_fails_with_the_sizes_of_a_file_that_was_cut(saved: Path) -> None:
    """The size found and the size written are both told."""
    path = saved / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointCorrupt, match=rf"model\.safetensors is {size - 5} bytes, the manifest says {size}"):
        Checkpoint(saved).verify()


def test_verify_fails_with_the_names_of_the_tensors_that_were_hit(tmp_path: Path) -> None:
    """Of many damaged tensors the first three are named."""
    path = CheckpointStore(tmp_path, background=False).save(1, {"model": {f"t{n}": torch.zeros(8) for n in range(6)}})
    file = path / "model.safetensors"
    start = file.stat().st_size - 6 * 32
    for number in (1, 2, 4, 5):
        _flip(file, start + 32 * number)
    with pytest.raises(CheckpointCorrupt, match=r"\(damaged: t1, t2, t4 …\)"):
        Checkpoint(path).verify()


def test_verify_fails_with_the_header_when_no_tensor_was_hit(saved: Path) -> None:
    """A change in the header that leaves it readable is named as the header."""
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"pt"', b'"qt"'))
    with pytest.raises(CheckpointCorrupt, match=r"\(damaged: its header\)"):
        Checkpoint(saved).verify()


def test_verify_fails_with_the_reason_when_a_file_cannot_be_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses to read is a problem, with the system's reason."""
    checkpoint, real_read = Checkpoint(saved), Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "state.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real_read(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(CheckpointCorrupt, match=r"state\.json cannot be read \(Input/output error\)"):
        checkpoint.verify()


@pytest.mark.parametrize(("file", "part"), [("model.safetensors", "model"), ("state.json", "counters")])
def test_reading_fails_when_its_bytes_are_not_those_that_were_saved(saved: Path, file: str, part: str) -> None:
    """No byte is used that does not match its digest."""
    _flip(saved / file)
    with pytest.raises(CheckpointCorrupt, match=rf"{file} does not match its digest"):
        Checkpoint(saved).read(part)


def test_restoring_fails_when_damaged_and_changes_nothing(saved: Path) -> None:
    """Damage in the last part is found before the first is changed."""
    _flip(saved / "model.safetensors")
    counters: dict[str, int] = {"epoch": 0}
    with pytest.raises(CheckpointCorrupt):
        Checkpoint(saved).restore({"counters": counters, "model": {"w": torch.zeros(1)}})
    assert counters == {"epoch": 0}


def test_restoring_fails_when_a_part_was_not_saved(saved: Path) -> None:
    """The missing part is named, and nothing is changed."""
    counters: dict[str, int] = {"epoch": 0}
    with pytest.raises(CheckpointMismatch, match="part 'ema' was not saved"):
        Checkpoint(saved).restore({"counters": counters, "ema": {}})
    assert counters == {"epoch": 0}


@pytest.mark.parametrize("method", ["read", "tensors"])
def test_reading_fails_when_there_is_no_such_part(saved: Path, method: str) -> None:
    """An unknown part is answered with the known ones."""
    with pytest.raises(CheckpointMismatch, match=r"has no part 'generator'; it holds model, counters\."):
        getattr(Checkpoint(saved), method)("generator")


def test_opening_fails_when_there_is_no_checkpoint(tmp_path: Path) -> None:
    """An empty directory, and none at all, are not checkpoints."""
    with pytest.raises(CheckpointCorrupt, match="it is not a finished checkpoint"):
        Checkpoint(tmp_path)
    with pytest.raises(CheckpointCorrupt, match="it is not a finished checkpoint"):
        Checkpoint(tmp_path / "gone")


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_reading_fails_when_the_manifest_leaves_a_file_out(saved: Path, name: str) -> None:
    """A file that is not in the manifest is not proved, and not used."""
    _sign(saved, lambda table: table["files"].pop(name))
    with pytest.raises(CheckpointCorrupt, match=rf"{name} is not in the manifest"):
        Checkpoint(saved).read("model")


def test_files_that_the_manifest_does_not_know_do_no_harm(saved: Path) -> None:
    """What else lies in the directory is ignored."""
    (saved / "notes.txt").write_text("mine")
    (saved / ".holdfast-evaluation.json.1").write_text("half")
    Checkpoint(saved).verify()


def test_metrics_measured_later_win(saved: Path) -> None:
    """An evaluation is added to the metrics that were saved, and replaces those of the same name."""
    CheckpointStore(saved.parent, background=False).annotate(12, {"accuracy": 0.75, "loss": 2.0})
    assert Checkpoint(saved).metrics == {"accuracy": 0.75, "loss": 2.0}


def test_metrics_fail_when_the_evaluation_is_damaged(saved: Path) -> None:
    """A changed score is an error for who asks for metrics."""
    CheckpointStore(saved.parent, background=False).annotate(12, {"accuracy": 0.75})
    path = saved / EVALUATION_FILE
    path.write_bytes(path.read_bytes().replace(b"0.75", b"0.95"))
    with pytest.raises(CheckpointCorrupt, match="its bytes do not match its digest"):
        _ = Checkpoint(saved).metrics
