from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast import CheckpointStore, open_checkpoint
from holdfast.checkpoints import write_single_file
from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from holdfast.formats import Limits

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


def equal(found: dict[str, Tensor], truth: dict[str, Tensor]) -> bool:
    """Returns whether two state dicts have the same names in the same order, types and values."""
    alike = [(n, t.dtype, t.shape) for n, t in found.items()] == [(n, t.dtype, t.shape) for n, t in truth.items()]
    return alike and all(
        torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
        for a, b in zip(found.values(), truth.values(), strict=True)
    )


class TestSafetensors:
    """Files of the safetensors library."""

    def test_every_type_is_read(self, tmp_path: Path) -> None:
        """Types, shapes, bits and the header's metadata."""
        truth = {f"t.{dtype}": torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES}
        truth |= {"t.scalar": torch.tensor(1.5), "t.empty": torch.empty(0, 3)}
        safetensors.torch.save_file(truth, tmp_path / "s.safetensors", {"format": "pt"})
        opened = open_checkpoint(tmp_path / "s.safetensors")
        assert opened.kind == "safetensors"
        assert opened.metadata == {"format": "pt"}
        assert equal({n: opened.weights()[n] for n in truth}, truth)

    def test_the_name_of_the_file_does_not_matter(self, tmp_path: Path) -> None:
        """A safetensors file called .bin, and a compressed one, open too."""
        data = safetensors.torch.save({"a.b": torch.ones(2)})
        (tmp_path / "s.bin").write_bytes(data)
        (tmp_path / "s.gz").write_bytes(gzip.compress(data[:40]) + gzip.compress(data[40:]))
        assert open_checkpoint(tmp_path / "s.bin").weights()["a.b"].tolist() == [1, 1]
        opened = open_checkpoint(tmp_path / "s.gz")
        assert opened.kind == "safetensors in gzip"
        assert opened.weights()["a.b"].tolist() == [1, 1]

    def test_values_of_half_a_byte_are_read(self, tmp_path: Path) -> None:
        """The library writes how many there are, torch has two in each byte."""
        truth = torch.arange(8, dtype=torch.uint8).reshape(2, 4).view(torch.float4_e2m1fn_x2)
        safetensors.torch.save_file({"w.x": truth}, tmp_path / "f.safetensors")
        found = open_checkpoint(tmp_path / "f.safetensors").weights()["w.x"]
        assert (found.dtype, found.shape) == (truth.dtype, truth.shape)
        assert torch.equal(found.view(torch.uint8), truth.view(torch.uint8))

    def test_a_name_that_is_there_twice_is_refused(self, tmp_path: Path) -> None:
        """One reader would take the first, another the last."""
        entry = json.dumps({"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})
        header = f'{{"w": {entry}, "w": {entry}}}'.encode()
        (tmp_path / "s.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
        with pytest.raises(CheckpointCorrupt, match="two entries called 'w'"):
            open_checkpoint(tmp_path / "s.safetensors")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"dtype": "F4", "shape": [1, 15]}, r"tensor 'w' of F4 \[1, 7.5\] in 8 bytes"),
            ({"dtype": "F3"}, r"tensor 'w' of the type 'F3' and shape \[2\]"),
            ({"shape": [3]}, r"tensor 'w' of F32 \[3\] in 8 bytes"),
            ({"shape": [-2]}, r"of the type 'F32' and shape \[-2\]"),
            ({"data_offsets": [0, 8, 9]}, "an entry of 'w' without shape or place"),
            ({"data_offsets": [4, 12]}, "from byte 4, where the one before ends at 0"),
            ({"shape": [1] * 70 + [2]}, "a tensor of 71 extents"),
        ],
    )
    def test_a_header_that_contradicts_the_file_is_refused(
        self, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        """Types, shapes and places that cannot be are named."""
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}
        header = json.dumps({"w": entry}).encode()
        (tmp_path / "s.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        with pytest.raises(CheckpointCorrupt, match=f"s.safetensors: it is a safetensors file with .*{message}"):
            open_checkpoint(tmp_path / "s.safetensors")


class TestShards:
    """Weights in several files with an index."""

    @pytest.fixture(params=["safetensors", "bin"])
    def folder(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        """Two shards and their index, as transformers names them."""
        kind, base = request.param, "model" if request.param == "safetensors" else "pytorch_model"
        save = safetensors.torch.save_file if kind == "safetensors" else torch.save
        names = {}
        for number in (1, 2):
            shard = f"{base}-0000{number}-of-00002.{kind}"
            save({f"layer{number}.weight": torch.full((2,), float(number))}, tmp_path / shard)
            names[f"layer{number}.weight"] = shard
        index = {"metadata": {"total_size": 16}, "weight_map": names}
        (tmp_path / f"{base}.{kind}.index.json").write_text(json.dumps(index))
        return tmp_path

    def test_index_and_folder_open_as_one(self, folder: Path) -> None:
        """The index, and the folder it lies in, give all tensors."""
        (index,) = folder.glob("*.index.json")
        for path in (folder, index):
            opened = open_checkpoint(path)
            assert {n: t.tolist() for n, t in opened.weights().items()} == {
                "layer1.weight": [1, 1],
                "layer2.weight": [2, 2],
            }
            assert opened.metadata == {"total_size": 16}

    def test_a_shard_that_is_missing_is_named(self, folder: Path) -> None:
        """The message says which file to fetch."""
        shard = next(folder.glob("*-00002-of*"))
        shard.unlink()
        with pytest.raises(CheckpointCorrupt, match=f"its shard {shard.name} is missing"):
            open_checkpoint(folder)

    def test_a_shard_of_another_save_is_refused(self, folder: Path) -> None:
        """A tensor that is not where the index says is named with its shard."""
        first, second = sorted(folder.glob("*-of-*"))
        shutil.copy(first, second)
        with pytest.raises(CheckpointCorrupt, match=rf"layer2.weight \(expected in {second.name}\)"):
            open_checkpoint(folder)

    @pytest.mark.parametrize("name", ["../x.safetensors", "/x", "a/b", "..", "", "C:x", "a\\b"])
    def test_an_index_that_leads_elsewhere_is_not_followed(self, folder: Path, name: str) -> None:
        """Only files beside the index are opened."""
        (index,) = folder.glob("*.index.json")
        index.write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(CheckpointError, match="expected names of files beside it"):
            open_checkpoint(index)


class TestArrays:
    """.npz and .npy."""

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_arrays_of_numbers_are_tensors(self, tmp_path: Path, save: Callable[..., None]) -> None:
        """Types, both orders in memory, both byte orders."""
        arrays = {
            "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
            "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "big": np.arange(3, dtype=">i4"),
            "half": np.ones(2, np.float16),
            "flag": np.array([True, False]),
            "scalar": np.array(3, np.int64),
            "none": np.empty((0, 2), np.float32),
            "complex": np.array([1 + 2j]),
        }
        save(tmp_path / "a.npz", **arrays)
        opened = open_checkpoint(tmp_path / "a.npz")
        found = opened.weights()
        assert (opened.kind, list(opened.roles)) == ("npz", ["model"])
        assert {n: t.tolist() for n, t in found.items()} == {n: a.tolist() for n, a in arrays.items()}
        assert [str(t.dtype) for t in found.values()] == [
            "torch.float32", "torch.float64", "torch.int32", "torch.float16", "torch.bool", "torch.int64",
            "torch.float32", "torch.complex128",
        ]  # fmt: skip
        assert found["columns"].stride() == (1, 2)

    def test_text_alone_is_refused_by_name(self, tmp_path: Path) -> None:
        """What no tensor can hold is named with its entry; Python objects have no weights unless they hold some."""
        np.savez(tmp_path / "t.npz", a=np.array(["x"]))
        with pytest.raises(CheckpointError, match=r"t.npz \(a.npy\): its values are 'U1'; expected numbers"):
            open_checkpoint(tmp_path / "t.npz")
        np.save(tmp_path / "o.npy", np.array([{}], object))
        with pytest.raises(CheckpointError, match=r"o.npy: it is an npy without weights; expected names with tensors"):
            open_checkpoint(tmp_path / "o.npy").weights()

    @pytest.mark.parametrize("save", ["npy", "npz"])
    def test_weights_in_a_pickled_dictionary_are_read_inertly(self, tmp_path: Path, save: str) -> None:
        """`np.save` of a dictionary, as older converters left it, is a pickle within an array."""
        weights = {"conv1": {"weights": np.ones((2, 3), "f4"), "biases": np.zeros(2, "f4")}}
        path = tmp_path / f"w.{save}"
        np.save(path, weights) if save == "npy" else np.savez(path, model=weights, epoch=3)  # type: ignore[arg-type]
        opened = open_checkpoint(path)
        found = opened.weights()
        assert found["conv1.weights"].tolist() == [[1.0] * 3] * 2 and found["conv1.biases"].tolist() == [0.0, 0.0]

    def test_text_beside_numbers_is_metadata(self, tmp_path: Path) -> None:
        """Names of classes beside weights do not keep these from being read; they are plain values."""
        texts = {"names": np.array(["ant", "bée"]), "arch": np.array("net"), "raw": np.array([b"x", b"yz"]),
                 "grid": np.array([["a", "b"], ["c", "d"]]), "big": np.array(["q"], ">U1")}  # fmt: skip
        np.savez(tmp_path / "t.npz", weight=np.ones(2), epoch=3, **texts)
        opened = open_checkpoint(tmp_path / "t.npz")
        assert {n: t.tolist() for n, t in opened.weights().items()} == {"weight": [1.0, 1.0]}
        assert {name: opened.metadata[name] for name in texts} == {
            "names": ["ant", "bée"], "arch": "net", "raw": ["x", "yz"], "grid": [["a", "b"], ["c", "d"]], "big": ["q"],
        }  # fmt: skip

    def test_an_array_that_was_cut_is_refused(self, tmp_path: Path) -> None:
        """The bytes must be as many as the shape says."""
        np.save(tmp_path / "c.npy", np.ones(10))
        (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-1])
        with pytest.raises(CheckpointCorrupt, match=r"c.npy: 207 bytes for float64 \[10\]"):
            open_checkpoint(tmp_path / "c.npy")


class TestOwn:
    """What Holdfast wrote itself."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> tuple[Path, nn.Module]:
        """A run with two checkpoints of a model, its average and its optimizer."""
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        net[1].weight = net[0].weight
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
        store = CheckpointStore(tmp_path / "run/checkpoints", background=False)
        for step in (1, 2):
            net(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            parts = {"model": net, "ema": net, "optimizer": optimizer}
            store.save(step, parts, metrics={"accuracy": 1.0 / step}, metadata={"epoch": step})
        return tmp_path / "run", net

    def test_runs_and_checkpoints_open_like_any_other(self, run: tuple[Path, nn.Module]) -> None:
        """Weights by part, the optimizer by parameter name, step and metadata."""
        folder, net = run
        for path, kind in ((folder, "run"), (folder / "checkpoints/step-00000002", "checkpoint")):
            opened = open_checkpoint(path)
            assert opened.kind == f"Holdfast {kind}"
            assert sorted(opened.roles) == ["ema", "model"]
            assert equal({n: opened.weights()[n] for n in net.state_dict()}, dict(net.state_dict()))
            assert opened.weights()["0.weight"].data_ptr() == opened.weights()["1.weight"].data_ptr()
            assert opened.optimizer is not None
            assert opened.optimizer["param_groups"][0]["lr"] == 0.5
            assert (opened.metadata["step"], opened.metadata["epoch"]) == (2, 2)
            assert str(opened.made_by).startswith("holdfast ")

    def test_a_checkpoint_of_a_run_can_be_chosen(self, run: tuple[Path, nn.Module]) -> None:
        """@last and @1 are those steps; what is not there is an error that lists them."""
        folder, _ = run
        steps = [open_checkpoint(f"{folder}@{which}").metadata["step"] for which in ("last", "1", "2")]
        assert steps == [2, 1, 2]
        with pytest.raises(CheckpointError, match=r"there is no checkpoint '7'. Ask for best, last, or a step: 1, 2"):
            open_checkpoint(f"{folder}@7")

    def test_a_changed_bit_shows_when_it_is_read(self, run: tuple[Path, nn.Module]) -> None:
        """The tensor's digest is compared when it is made, and names it."""
        path = run[0] / "checkpoints/step-00000002"
        data = bytearray((path / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (path / "model.safetensors").write_bytes(data)
        with pytest.raises(CheckpointCorrupt, match=r"step-00000002: 1.bias in model.safetensors does not match"):
            open_checkpoint(path).weights()

    def test_model_files_are_proven_too(self, tmp_path: Path) -> None:
        """best.safetensors gives weights and metadata, and a changed bit shows."""
        path = tmp_path / "best.safetensors"
        write_single_file(path, {"w.x": torch.ones(4)}, {"classes": ["a", "b"], "step": 3})
        opened = open_checkpoint(path)
        assert (opened.kind, opened.metadata["classes"]) == ("Holdfast model file", ["a", "b"])
        assert opened.weights()["w.x"].tolist() == [1, 1, 1, 1]
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(CheckpointCorrupt, match=r"best.safetensors: w.x does not match its digest"):
            open_checkpoint(path).weights()


def test_limits_can_be_widened(tmp_path: Path) -> None:
    """What is refused for its size opens when asked with wider limits."""
    torch.save({"list": list(range(1000)), "a.b": torch.ones(1)}, tmp_path / "l.pt")
    with pytest.raises(CheckpointError, match="more than 100 steps"):
        open_checkpoint(tmp_path / "l.pt", limits=Limits(opcodes=100))
    assert open_checkpoint(tmp_path / "l.pt").weights()["a.b"].tolist() == [1]


def test_a_checkpoint_without_weights_says_so(tmp_path: Path) -> None:
    """Metadata can be read, weights are refused."""
    torch.save({"epoch": 3}, tmp_path / "m.pt")
    opened = open_checkpoint(tmp_path / "m.pt")
    assert (opened.metadata, opened.optimizer, opened.roles) == ({"epoch": 3}, None, {})
    with pytest.raises(CheckpointMismatch, match=r"m.pt: it is a torch zip without weights"):
        opened.weights()


def test_extra_state_of_modules_is_kept_and_is_no_tensor(tmp_path: Path) -> None:
    """What a module saves beside its tensors stands in the role, and not among the weights."""
    torch.save({"a.weight": torch.ones(1), "a._extra_state": {"seen": 3}}, tmp_path / "e.pt")
    opened = open_checkpoint(tmp_path / "e.pt")
    assert opened.roles["model"]["a._extra_state"] == {"seen": 3}
    assert list(opened.weights()) == ["a.weight"]


@pytest.mark.row("S7")
def test_weights_have_plain_names_unless_the_files_are_asked_for(tmp_path: Path) -> None:
    """The words of wrappers and their counters are left out; the file's own names stay in the roles."""
    tree = {"module._orig_mod.fc.weight": torch.ones(1, 1), "module._orig_mod.fc.bias": torch.zeros(1)}
    torch.save({**tree, "n_averaged": torch.tensor(3)}, tmp_path / "w.pt")
    opened = open_checkpoint(tmp_path / "w.pt")
    assert list(opened.weights()) == ["fc.weight", "fc.bias"]
    assert list(opened.weights(names="file")) == [*tree, "n_averaged"]
    assert list(opened.role()) == [*tree, "n_averaged"]


def test_our_own_names_are_plain_already(tmp_path: Path) -> None:
    """A layer called `model` is one of the net's, not a word of a program around it."""
    store = CheckpointStore(tmp_path / "run/checkpoints", background=False)
    store.save(1, {"model": nn.ModuleDict({"model": nn.Linear(1, 1)})})
    assert list(open_checkpoint(tmp_path / "run").weights()) == ["model.weight", "model.bias"]
