from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.checkpoints import Checkpoint
from holdfast.errors import CheckpointError, UnsupportedState
from holdfast.formats import open_checkpoint
from holdfast.toolbox.outgoing import Outgoing, OutgoingModel, OutgoingTensor
from holdfast.toolbox.writers import write_checkpoint, write_npz, write_pth, write_safetensors, write_sharded


def _model(tensors: dict[str, Tensor], ties: dict[str, str] | None = None) -> OutgoingModel:
    made = {n: OutgoingTensor(t.dtype, tuple(t.shape), lambda t=t: t) for n, t in tensors.items()}  # type: ignore[misc]
    return OutgoingModel(made, ties or {})


def _content(tensors: dict[str, Tensor], ties: dict[str, str] | None = None, **rest: Any) -> Outgoing:
    return Outgoing({"model": _model(tensors, ties)}, **rest)


class _SmallDisk(io.FileIO):
    """A file on a disk with room for 2,000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data) or 0


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Tensors of many types, shapes and strides."""
    torch.manual_seed(0)
    return {
        "a.w": torch.randn(3, 4).t(),
        "a.half": torch.randn(5).half(),
        "a.brain": torch.randn(2, 2).bfloat16(),
        "n.count": torch.tensor(7),
        "n.flags": torch.tensor([True, False]),
        "n.empty": torch.zeros(0, 3),
        "z.w": torch.randn(2, 2, dtype=torch.complex64).conj(),
    }


def test_safetensors_are_read_by_their_own_library(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Every tensor comes back with type and bits, and the header names the format."""
    write_safetensors(tmp_path / "a.safetensors", _content(tensors, header={"by": "me"}))
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    assert all(found[n].dtype is t.dtype and torch.equal(found[n], t) for n, t in tensors.items())
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"by": "me", "format": "pt"}


def test_tied_tensors_in_safetensors_load_as_those_of_save_model(tmp_path: Path) -> None:
    """The names that are left out are noted so that the library's load_model takes the file for whole."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = model.state_dict()
    kept = {name: state[name] for name in ("0.weight", "0.bias", "1.bias")}
    write_safetensors(tmp_path / "a.safetensors", _content(kept, {"1.weight": "0.weight"}))
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other[1].weight = other[0].weight
    assert safetensors.torch.load_model(other, str(tmp_path / "a.safetensors")) == (set(), [])
    assert torch.equal(other[1].weight, model[0].weight)


def test_a_tied_tensor_whose_name_is_the_headers_own_is_repeated(tmp_path: Path) -> None:
    """A tensor called `format` cannot be noted in a header that has that word; it is written again."""
    write_safetensors(tmp_path / "a.safetensors", _content({"w": torch.ones(2)}, {"format": "w"}))
    assert sorted(safetensors.torch.load_file(tmp_path / "a.safetensors")) == ["format", "w"]


def test_what_a_file_of_ours_knows_goes_into_a_model_file(tmp_path: Path) -> None:
    """With facts it is a model file: metadata, digests, and tied tensors under each name."""
    facts = {"classes": ["a", "b"]}
    content = _content({"w": torch.ones(2)}, {"v": "w"}, facts=facts, step=3, metrics={"accuracy": 0.5})
    write_safetensors(tmp_path / "a.safetensors", content)
    opened = open_checkpoint(tmp_path / "a.safetensors")
    assert opened.kind == "Holdfast model file"
    assert opened.metadata["classes"] == ["a", "b"]
    assert (opened.metadata["step"], opened.metadata["metrics"]) == (3, {"accuracy": 0.5})
    assert sorted(opened.role()) == ["v", "w"]


def test_a_state_dict_that_the_disk_refuses_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's own error is told, and not what torch's archive makes of it."""
    target = tmp_path / "a.pth"
    target.write_bytes(b"old")
    real = Path.open

    def small(path: Path, mode: str = "r", **options: Any) -> Any:
        return (
            _SmallDisk(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "wb")
            if mode == "xb"
            else real(path, mode, **options)
        )

    monkeypatch.setattr(Path, "open", small)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_pth(target, _content({"w": torch.ones(5000)}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert target.read_bytes() == b"old"


def test_shards_have_the_layout_of_hugging_face(tmp_path: Path) -> None:
    """No shard is larger than asked, all tensors are in the index with their shard, and the folder opens as one."""
    tensors = {f"l{n}.w": torch.full((10,), float(n)) for n in range(5)}
    assert write_sharded(tmp_path / "out", _content(tensors, {"tied.w": "l4.w"}), 80) == 3
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*names, "model.safetensors.index.json"]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {f"l{n}.w": names[n // 2] for n in range(5)}
    assert index["metadata"] == {"total_size": 200, "tied.w": "l4.w"}
    opened = open_checkpoint(tmp_path / "out").weights()
    assert all(torch.equal(opened[name], value) for name, value in tensors.items())


def test_what_fits_into_one_shard_needs_no_index(tmp_path: Path) -> None:
    """One file is called model.safetensors; a tensor larger than a shard gets one of its own."""
    assert write_sharded(tmp_path / "one", _content({"w": torch.ones(10)}), 1000) == 1
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["model.safetensors"]
    assert write_sharded(tmp_path / "two", _content({"w": torch.ones(10), "v": torch.ones(10)}), 8) == 2


def test_a_state_dict_loads_with_weights_only(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """torch.load in its safe form gives plain tensors, equal to the bit; tied ones are one memory."""
    write_pth(tmp_path / "a.pth", _content(tensors, {"tied.w": "a.w"}))
    found = torch.load(tmp_path / "a.pth", weights_only=True)
    assert list(found) == [*tensors, "tied.w"]
    assert all(found[n].dtype is t.dtype and torch.equal(found[n], t) for n, t in tensors.items())
    assert found["tied.w"].data_ptr() == found["a.w"].data_ptr()


def test_a_state_dict_holds_no_more_than_its_tensors(tmp_path: Path) -> None:
    """A small view of a large memory is written as itself."""
    write_pth(tmp_path / "a.pth", _content({"w": torch.zeros(1_000_000)[:3]}))
    assert (tmp_path / "a.pth").stat().st_size < 5000


def test_an_npz_is_read_by_numpy(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """NumPy reads every array without pickles; tied ones are there under each name; the same tensors make one file."""
    content = _content({n: t for n, t in tensors.items() if n != "a.brain"}, {"tied.w": "a.w"})
    write_npz(tmp_path / "a.npz", content)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert sorted(found) == sorted([*content.model.tensors, "tied.w"])
        for name, tensor in content.model.all_names().items():
            assert np.array_equal(found[name], tensor.read().resolve_conj().numpy())
    write_npz(tmp_path / "b.npz", content)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_checkpoint_is_proven_and_holds_all_parts(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Models, optimizer, facts and step come back; every digest fits; other types keep their bits."""
    tensors = {**tensors, "d.w": torch.randn(2, dtype=torch.complex128), "d.q": torch.tensor([1], dtype=torch.uint16)}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.5, "params": [0]}]}
    content = Outgoing(
        {"model": _model(tensors, {"tied.w": "a.w"}), "ema": _model({"w": torch.ones(2)})},
        {"optimizer": optimizer},
        {"classes": ["x"]},
        step=7,
        metrics={"accuracy": 0.25},
    )
    write_checkpoint(tmp_path / "out", content)
    checkpoint = Checkpoint(tmp_path / "out")
    checkpoint.verify()
    assert (checkpoint.step, checkpoint.metrics, checkpoint.metadata) == (7, {"accuracy": 0.25}, {"classes": ["x"]})
    found = checkpoint.read("model")
    assert list(found) == [*tensors, "tied.w"]
    assert all(found[n].dtype is t.dtype and torch.equal(found[n], t) for n, t in tensors.items())
    assert found["tied.w"] is found["a.w"]
    assert torch.equal(checkpoint.read("ema")["w"], torch.ones(2))
    assert checkpoint.read("optimizer")["param_groups"] == [{"lr": 0.5, "params": [0]}]
    assert torch.equal(checkpoint.read("optimizer")["state"][0]["exp_avg"], torch.ones(2))


@pytest.mark.parametrize("kind", ["safetensors", "sharded"])
def test_writing_fails_when_safetensors_has_no_name_for_a_type(tmp_path: Path, kind: str) -> None:
    """All tensors that do not fit are told at once, and nothing is written."""
    content = _content({"a": torch.ones(1, dtype=torch.complex128), "__metadata__": torch.ones(1), "b": torch.ones(1)})
    with pytest.raises(
        UnsupportedState, match=r"(?s)2 tensors are none .*a: complex128.*__metadata__: a name"
    ) as error:
        write_safetensors(tmp_path / "out", content) if kind == "safetensors" else write_sharded(
            tmp_path / "out", content, 9
        )
    assert "b:" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_writing_fails_when_numpy_has_no_such_type(tmp_path: Path) -> None:
    """bfloat16 is refused by name, with the way out."""
    with pytest.raises(UnsupportedState, match=r"(?s)1 tensor.*a\.brain: bfloat16.*--dtype float32"):
        write_npz(tmp_path / "a.npz", _content({"a.brain": torch.ones(1).bfloat16(), "b": torch.ones(1)}))
    assert list(tmp_path.iterdir()) == []
