from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import holdfast
from holdfast.checkpoints import write_single_file
from holdfast.errors import CheckpointCorrupt, CheckpointMismatch
from holdfast.fitting import load_into
from holdfast.fitting.direct import check_types
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.crc32 import Crc32
from holdfast.formats.lazy_tensor import StoredBytes
from holdfast.formats.proving import prove


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300), nn.Linear(300, 7))
    for tensor in net[1].state_dict().values():  # bytes that are nowhere else in a file
        tensor.copy_(torch.rand(300) if tensor.ndim else torch.tensor(0x1234567812345678))
    return net


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def _store(path: Path, state: dict[str, Tensor]) -> None:  # a store saves objects
    with holdfast.CheckpointStore(path, background=False) as store:
        store.save(1, {"model": _net(1)})


def _dcp(path: Path, state: dict[str, Tensor]) -> None:
    from torch.distributed.checkpoint import state_dict_saver

    state_dict_saver.save(state, checkpoint_id=path, no_dist=True)


PROVEN: dict[str, Callable[[Path, dict[str, Tensor]], Any]] = {
    "zip": lambda path, state: torch.save(state, path),
    "our own file": lambda path, state: write_single_file(path, state, {"step": 1}),
    "our own checkpoint": _store,
    "DCP": _dcp,
}


@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")
@pytest.mark.parametrize("name", list(_net().state_dict()))
@pytest.mark.parametrize("layout", PROVEN)
def test_a_flipped_bit_anywhere_changes_nothing(tmp_path: Path, layout: str, name: str) -> None:
    """In every layout with a checksum and in each tensor in turn: the model is as it was before."""
    saved = _net(1).state_dict()
    PROVEN[layout](tmp_path / "a", saved)
    spoilt = [
        path for path in (tmp_path / "a", *(tmp_path / "a").rglob("*")) if path.is_file() and _flip(path, saved[name])
    ]
    assert spoilt
    model = _net(2)
    before = _state(model)
    place = tmp_path / "a" / "step-00000001"
    with pytest.raises(CheckpointCorrupt, match=r"does not match its (checksum|digest)"):
        load_into(model, place if place.exists() else tmp_path / "a")
    assert _unchanged(model, before)


def _flip(path: Path, tensor: Tensor) -> bool:
    data, found = bytearray(path.read_bytes()), tensor.contiguous().numpy().tobytes()
    at = data.rfind(found)
    if at < 0:
        return False
    data[at + len(found) // 2] ^= 4
    path.write_bytes(data)
    return True


def test_a_file_that_is_cut_between_the_passes_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told that the model has a part of it now, and that it is to be loaded once more."""
    path = tmp_path / "a.pt"
    torch.save(_net(1).state_dict(), path)

    def proven_then_cut(tensors: object) -> None:
        prove(tensors)  # type: ignore[arg-type]
        with path.open("r+b") as file:
            file.truncate(5000)

    monkeypatch.setattr("holdfast.fitting.load.prove", proven_then_cut)
    with pytest.raises(CheckpointCorrupt, match=r"a\.pt: it ends at byte 5,000; .* the model has a part of it now"):
        load_into(_net(2), path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_large_tensors_are_read_into_the_models_own_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of them is mapped or kept; the parameters stay where they were."""
    saved, path = _net(1), tmp_path / f"a.{suffix}"
    (torch.save if suffix == "pt" else safetensors.torch.save_file)(saved.state_dict(), path)
    buffers: list[int] = []
    buffer = ByteFile.buffer
    monkeypatch.setattr(ByteFile, "buffer", lambda self, start, n: (buffers.append(n), buffer(self, start, n))[1])
    model = _net(2)
    places = [tensor.data_ptr() for tensor in model.state_dict().values()]
    opened = holdfast.open_checkpoint(path)
    buffers.clear()
    load_into(model, opened)
    assert _unchanged(model, _state(saved))
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == places
    assert max(buffers) == 300 * 7 * 4
    assert not opened.role()["0.weight"].storage.data.is_read


def test_nothing_is_proven_a_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum of the one large tensor is computed once."""
    torch.save({"weight": torch.ones(512, 512), "bias": torch.ones(512)}, tmp_path / "a.pt")
    made: list[int] = []

    class Counted(Crc32):
        def __init__(self, num_bytes: int) -> None:
            made.append(num_bytes)
            super().__init__(num_bytes)

    monkeypatch.setattr("holdfast.formats.zip_archive.Crc32", Counted)
    load_into(nn.Linear(512, 512), tmp_path / "a.pt")
    assert [n for n in made if n] == [512 * 512 * 4]


class _Doubling(nn.Linear):
    """A layer that takes its state in its own way."""

    def _load_from_state_dict(self, *arguments: Any, **more: Any) -> None:
        super()._load_from_state_dict(*arguments, **more)
        with torch.no_grad():
            self.weight.mul_(2)


def test_modules_with_a_way_of_their_own_are_asked(tmp_path: Path) -> None:
    """A method, a hook before and a hook after: each runs, and once; the other layers are loaded all the same."""
    expected = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    torch.save(expected.state_dict(), tmp_path / "a.pt")
    model = nn.Sequential(_Doubling(300, 300), nn.Linear(300, 300))
    seen: list[str] = []
    model[1].register_load_state_dict_pre_hook(lambda *_: seen.append("before"))
    model[1].register_load_state_dict_post_hook(lambda *_: seen.append("after"))
    load_into(model, tmp_path / "a.pt")
    assert torch.equal(model[0].weight, 2 * expected[0].weight)  # type: ignore[operator]
    assert torch.equal(model[1].weight, expected[1].weight)  # type: ignore[arg-type]
    assert seen == ["before", "after"]


def test_parametrized_layers_are_loaded(tmp_path: Path) -> None:
    """Weight norm, whose hook looks for older names."""
    saved, model = weight_norm(nn.Linear(200, 200)), weight_norm(nn.Linear(200, 200))
    torch.save(saved.state_dict(), tmp_path / "a.pt")
    assert load_into(model, tmp_path / "a.pt").is_exact
    assert torch.equal(model.weight, saved.weight)


def test_a_model_with_its_own_load_state_dict_is_loaded_by_it(tmp_path: Path) -> None:
    """It is handed the tensors themselves."""

    class Own(nn.Linear):
        def load_state_dict(self, state: Any, *arguments: Any, **more: Any) -> Any:
            return super().load_state_dict({n: t + 1 for n, t in state.items()}, *arguments, **more)

    torch.save({"weight": torch.ones(99, 99), "bias": torch.ones(99)}, tmp_path / "a.pt")
    model = Own(99, 99)
    load_into(model, tmp_path / "a.pt")
    assert (model.weight == 2).all()


def test_parameters_that_share_memory_get_the_values_of_the_last(tmp_path: Path) -> None:
    """Two layers over overlapping halves of one piece of memory are written to in order, by one thread."""
    flat = torch.zeros(3_000_000)
    model = nn.ParameterDict({"a": nn.Parameter(flat[:2_000_000]), "b": nn.Parameter(flat[1_000_000:])})
    torch.save({"a": torch.full((2_000_000,), 1.0), "b": torch.full((2_000_000,), 2.0)}, tmp_path / "a.pt")
    load_into(model, tmp_path / "a.pt")
    assert flat.unique(return_counts=True)[1].tolist() == [1_000_000, 2_000_000]


@pytest.mark.row("S6")
def test_tied_meta_tensors_stay_tied(tmp_path: Path) -> None:
    """The one real parameter stands in both places."""

    def net() -> nn.Sequential:
        made = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200))
        made[1].weight = made[0].weight
        return made

    saved = net()
    torch.save(saved.state_dict(), tmp_path / "a.pt")
    with torch.device("meta"):
        model = net()
    load_into(model, tmp_path / "a.pt")
    assert model[1].weight is model[0].weight
    assert torch.equal(model[1].weight, saved[1].weight)  # type: ignore[arg-type]


def test_one_storage_of_many_tensors_is_decompressed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty views of one deflated entry, and none of it stays in the file's storage."""
    import zipfile

    from holdfast.formats import zip_archive

    flat = torch.arange(200_000.0)
    torch.save({f"w{n}": flat[n * 10_000 : (n + 1) * 10_000] for n in range(20)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)
    inflated = []
    inflate = zip_archive.inflate
    monkeypatch.setattr(zip_archive, "inflate", lambda *a, **k: (inflated.append(k["place"]), inflate(*a, **k))[1])
    model = nn.ParameterDict({f"w{n}": torch.zeros(10_000) for n in range(20)})
    load_into(model, tmp_path / "a.pt")
    assert torch.equal(torch.cat([model[f"w{n}"] for n in range(20)]), flat)
    assert [place for place in inflated if "/data/" in place] == [" (a/data/0)"]


def test_views_of_a_storage_with_gaps_leave_no_memory_behind(tmp_path: Path) -> None:
    """What cannot be read piece by piece is made from the whole storage, which is let go."""
    whole = torch.arange(400_000.0).reshape(1000, 400)
    torch.save({"a": whole[:, ::2], "b": whole[:, 1::2]}, tmp_path / "a.pt")
    opened = holdfast.open_checkpoint(tmp_path / "a.pt")
    model = nn.ParameterDict({"a": torch.zeros(1000, 200), "b": torch.zeros(1000, 200)})
    load_into(model, opened)
    assert torch.equal(model["a"], whole[:, ::2])
    assert torch.equal(model["b"], whole[:, 1::2])
    assert not opened.role()["a"].storage.data.is_read


def test_types_without_a_conversion_are_told_before_anything_is_changed() -> None:
    """The message names the tensor and both types."""
    strange = torch.empty(4, dtype=torch.bits8)
    with pytest.raises(CheckpointMismatch, match=r"Loading w: it is torch\.bits8 in the file and torch\.float32 in"):
        check_types({"w": strange}, {"w": torch.zeros(4)})
    check_types({"w": torch.ones(4, dtype=torch.float16), "v": torch.ones(1)}, {"w": torch.ones(4), "v": torch.ones(1)})


def test_bytes_that_are_there_are_not_read_again(tmp_path: Path) -> None:
    """A storage that somebody has in memory already stays there."""
    torch.save(_net(1).state_dict(), tmp_path / "a.pt")
    opened = holdfast.open_checkpoint(tmp_path / "a.pt")
    kept = opened.weights()["0.weight"]
    data = opened.role()["0.weight"].storage.data
    assert isinstance(data, StoredBytes)
    load_into(_net(2), opened)
    assert data.is_read
    assert data.to_torch().data_ptr() == kept.untyped_storage().data_ptr()
