"""torch_zip, torch_legacy and torch_tar: three layouts, one promise."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor

Write = Callable[[Any, Path], None]


def same(found: Any, truth: Tensor) -> bool:
    """Returns whether a lazy tensor is the same as a tensor: type, shape, strides, bits."""
    made = found.to_torch()
    described = (f"torch.{found.dtype}", found.shape, found.strides) == (str(truth.dtype), truth.shape, truth.stride())
    kind = (made.dtype, made.shape, made.stride()) == (truth.dtype, truth.shape, truth.stride())
    raw = [t.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8) for t in (made, truth)]
    return described and kind and torch.equal(*raw)


@pytest.mark.row("S1", "S3")
def test_a_training_checkpoint_is_the_same_in_every_layout(
    write: Write, training: dict[str, Any], tmp_path: Path
) -> None:
    """Weights, optimizer, schedule, counters and arguments are read bit for bit, whatever wrote them."""
    write(training, tmp_path / "c.pt")
    opened = open_checkpoint(tmp_path / "c.pt")
    assert list(opened.roles) == ["model"]
    assert list(opened.roles["model"]) == list(training["model_state_dict"])
    assert all(same(opened.roles["model"][name], tensor) for name, tensor in training["model_state_dict"].items())
    assert opened.optimizer is not None
    for number, slots in training["optimizer_state_dict"]["state"].items():
        assert all(same(opened.optimizer["state"][number][slot], tensor) for slot, tensor in slots.items())
    assert opened.optimizer["param_groups"] == training["optimizer_state_dict"]["param_groups"]
    assert opened.schedules["scheduler"] == training["scheduler"]
    assert opened.metadata == {"epoch": 3, "best_acc": 0.5, "args": {"lr": 0.01, "arch": "small"}}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4).t(), torch.randn(4, 4)[1:, ::2], torch.randn(1).expand(3, 2), torch.tensor(3.5),
        torch.empty(0, 3), torch.randn(4).half(), torch.randn(4).bfloat16(), torch.tensor([True, False]),
        torch.tensor([1, 2], dtype=torch.uint16), torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(3, dtype=torch.complex128), torch.randn(3, dtype=torch.complex64).conj().imag,
        torch.randn(4).to(torch.float8_e4m3fn), torch.arange(5, dtype=torch.int8),
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        nn.Parameter(torch.randn(2), requires_grad=False), torch.randn(300_000),
    ],
    ids=lambda t: f"{t.dtype}-{list(t.shape)}"[6:],
)  # fmt: skip
def test_every_kind_of_tensor_keeps_type_shape_strides_and_bits(write: Write, tensor: Tensor, tmp_path: Path) -> None:
    """Views, odd types and lazy conjugates come back as they were."""
    write({"t.x": tensor}, tmp_path / "t.pt")
    found = open_checkpoint(tmp_path / "t.pt").tree["t.x"]
    assert type(found) is LazyTensor
    assert same(found, tensor)
    assert found.is_parameter == isinstance(tensor, nn.Parameter)
    assert found.requires_grad == tensor.requires_grad


def test_tensors_that_shared_memory_share_it_again(write: Write, tmp_path: Path) -> None:
    """A tied tensor and a view of it are over one storage."""
    whole = torch.randn(4, 4)
    write({"a": whole, "b": whole, "c": whole[1:]}, tmp_path / "t.pt")
    found = open_checkpoint(tmp_path / "t.pt").weights()
    places = {found[name].untyped_storage().data_ptr() for name in "abc"}
    assert len(places) == 1
    found["a"][1, 0] = 7.0
    assert found["c"][0, 0] == 7.0


def test_writing_to_a_tensor_leaves_the_file_alone(write: Write, tmp_path: Path) -> None:
    """Memory that is mapped is a copy of its own as soon as it is written to."""
    write({"big": torch.zeros(400_000)}, tmp_path / "t.pt")
    before = (tmp_path / "t.pt").read_bytes()
    open_checkpoint(tmp_path / "t.pt").weights()["big"].fill_(1.0)
    assert (tmp_path / "t.pt").read_bytes() == before


def test_the_old_tar_layout_is_read(write_tar: Write, tmp_path: Path) -> None:
    """Tensors by name from before 0.1.10, one a view of another, come back with their bits."""
    whole = torch.randn(4, 3)
    tensors = {"a.weight": whole, "a.view": whole.t()[1:], "n": torch.arange(3), "s": torch.tensor(1.5).double()}
    write_tar(tensors, tmp_path / "old.pth")
    opened = open_checkpoint(tmp_path / "old.pth")
    assert opened.kind == "torch tar"
    assert all(same(opened.roles["model"][name], tensor) for name, tensor in tensors.items())
    loaded = torch.load(tmp_path / "old.pth", weights_only=False)  # our generator is right: torch reads it too
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_an_archive_of_a_machine_of_the_other_byte_order_is_read(tmp_path: Path) -> None:
    """Values of a big-endian archive are turned round."""
    value, path = torch.tensor([1.5, -2.0]), tmp_path / "big.pt"
    torch.save({"a.b": value}, path)
    with zipfile.ZipFile(path) as old:
        held = {name: old.read(name) for name in old.namelist()}
    held["big/byteorder"], held["big/data/0"] = b"big", value.numpy().byteswap().tobytes()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in held.items():
            new.writestr(name, data)
    assert torch.equal(open_checkpoint(path).weights()["a.b"], value)
    assert torch.equal(torch.load(path)["a.b"], value)


def test_quantised_sparse_and_meta_tensors_are_records(tmp_path: Path) -> None:
    """A tensor that is more than a view of a storage is described, and refused when it is to be made."""
    sparse = torch.eye(2).to_sparse()
    torch.save({"a.sparse": sparse, "a.meta": torch.empty(2, device="meta"), "a.x": torch.ones(1)}, tmp_path / "q.pt")
    opened = open_checkpoint(tmp_path / "q.pt")
    assert [type(v) for v in opened.roles["model"].values()] == [InertObject, InertObject, LazyTensor]
    with pytest.raises(CheckpointError, match=r"q.pt: a.sparse is <inert torch._utils._rebuild_sparse_tensor>"):
        opened.weights()


def test_archives_without_checksums_are_read(tmp_path: Path) -> None:
    """torch can leave the checksums out; that is no damage."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a.b": torch.ones(3)}, tmp_path / "n.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(open_checkpoint(tmp_path / "n.pt").weights()["a.b"], torch.ones(3))


def test_a_value_that_was_changed_in_an_archive_shows(tmp_path: Path) -> None:
    """The checksum of an entry is compared when its tensor is made, and names the entry."""
    torch.save({"a.b": torch.full((64,), 1.25)}, tmp_path / "c.pt")
    data = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(data.replace(b"\xa0\x3f\x00\x00\xa0\x3f", b"\xa0\x3f\x00\x01\xa0\x3f", 1))
    opened = open_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointCorrupt, match=r"c.pt: .* an entry 'c/data/0' that does not match its checksum"):
        opened.weights()


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("layout", ["zip", "legacy", "tar"])
def test_a_file_that_was_cut_is_refused(layout: str, kept: float, write_tar: Write, tmp_path: Path) -> None:
    """Half a file is CheckpointCorrupt, and the message names it."""
    value, path = {"a.w": torch.randn(500), "a.b": torch.randn(500)}, tmp_path / "cut.pt"
    if layout == "tar":
        write_tar(value, path)
        kept = min(kept, 0.5)  # a tar archive ends in kilobytes of nothing
    else:
        torch.save(value, path, _use_new_zipfile_serialization=layout == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(CheckpointCorrupt, match=r"cut.pt: .*(cut|damaged)"):
        open_checkpoint(path)


@pytest.mark.parametrize("protocol", range(6))
def test_what_was_pickled_without_torch_save_is_read_too(net: nn.Module, protocol: int, tmp_path: Path) -> None:
    """pickle.dump of a module and of weights, tied ones among them."""
    tied = torch.randn(3)
    (tmp_path / "p.pkl").write_bytes(
        pickle.dumps({"epoch": 2, "net": net, "ema": {"a.x": tied, "a.y": tied}}, protocol)
    )
    opened = open_checkpoint(tmp_path / "p.pkl")
    assert (opened.kind, opened.metadata, list(opened.roles)) == ("pickle", {"epoch": 2}, ["model", "ema"])
    assert all(same(opened.roles["model"][name], tensor) for name, tensor in net.state_dict().items())
    ema = opened.weights("ema")
    assert torch.equal(ema["a.x"], tied)
    assert ema["a.x"].data_ptr() == ema["a.y"].data_ptr()


def test_a_pickle_without_weights_says_so(tmp_path: Path) -> None:
    """Its values can be read, weights are refused."""
    (tmp_path / "p.pkl").write_bytes(pickle.dumps({"epoch": 2, "names": ["a"]}))
    opened = open_checkpoint(tmp_path / "p.pkl")
    assert opened.metadata == {"epoch": 2, "names": ["a"]}
    with pytest.raises(CheckpointError, match=r"p.pkl: it is a pickle without weights"):
        opened.weights()


def test_the_file_that_was_opened_is_read_even_when_another_takes_its_name(tmp_path: Path) -> None:
    """A save that replaces the file in the meantime does not mix two saves."""
    torch.save({"a.b": torch.ones(300_000)}, tmp_path / "x.pt")
    opened = open_checkpoint(tmp_path / "x.pt")
    torch.save({"a.b": torch.zeros(300_000)}, tmp_path / "y.pt")
    (tmp_path / "y.pt").replace(tmp_path / "x.pt")
    assert opened.weights()["a.b"].sum() == 300_000


def test_looking_inside_imports_neither_torch_nor_numpy(tmp_path: Path) -> None:
    """Names, shapes and counters of torch files and safetensors cost no import of torch."""
    torch.save({"epoch": 1, "model": {"a.b": torch.ones(2, 3)}}, tmp_path / "t.pt")
    torch.save({"a.b": torch.ones(2, 3)}, tmp_path / "l.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file({"a.b": torch.ones(2, 3)}, tmp_path / "s.safetensors")
    program = (
        "import sys, holdfast\n"
        "for name in sys.argv[1:]:\n"
        "    print({k: v.shape for k, v in holdfast.open_checkpoint(name).role().items()})\n"
        "print(sorted({'torch', 'numpy', 'dataclasses', 'pathlib', 'pickle'} & set(sys.modules) - {'pathlib'}))"
    )
    files = [tmp_path / name for name in ("t.pt", "l.pt", "s.safetensors")]
    done = subprocess.run([sys.executable, "-c", program, *files], capture_output=True, text=True, check=True)
    assert done.stdout == "{'a.b': (2, 3)}\n" * 3 + "[]\n"
