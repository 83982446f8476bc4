from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.lazy_tensor import LazyTensor

GOLDEN = Path(__file__).parents[2] / "golden/foreign"

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.distributed is (disabled|unavailable)", "ignore:.*single process"
)


@pytest.fixture
def truth() -> dict[str, Tensor]:
    """The whole tensors of the directories that two ranks wrote."""
    return safetensors.torch.load_file(GOLDEN / "truth.safetensors")


@pytest.fixture
def two_ranks(tmp_path: Path) -> Path:
    """A copy of what two ranks wrote, to be damaged."""
    return Path(shutil.copytree(GOLDEN / "two-ranks", tmp_path / "two-ranks"))


def _under(truth: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in truth.items() if name.startswith(prefix)}


def _equal(found: dict[str, Tensor], truth: dict[str, Tensor]) -> bool:
    return found.keys() == truth.keys() and all(
        (t.dtype, t.shape) == (truth[n].dtype, truth[n].shape) and torch.equal(t, truth[n]) for n, t in found.items()
    )


@pytest.mark.row("S4", "S7", "S11")
def test_what_two_ranks_wrote_opens_as_one(truth: dict[str, Tensor]) -> None:
    """Rows in two files, columns, replicas, pieces without rows: all whole, with the optimizer by parameter name."""
    opened = open_checkpoint(GOLDEN / "two-ranks")
    assert (opened.kind, opened.made_by) == ("DCP directory", "torch.distributed.checkpoint")
    assert sorted(opened.roles) == ["model", "odd"]
    assert _equal(opened.weights(), _under(truth, "model."))
    assert _equal(opened.weights("odd"), _under(truth, "odd."))
    assert opened.metadata == {"train_state": {"epoch": 3, "note": "two ranks"}}
    assert opened.optimizer is not None
    (group,) = opened.optimizer["param_groups"]
    assert (group["lr"], group["betas"]) == (0.01, (0.9, 0.999))
    assert group["params"] == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    slots = {f"{n}.{s}": t.to_torch() for n, held in opened.optimizer["state"].items() for s, t in held.items()}
    assert _equal(slots, {n: t for n, t in truth.items() if not n.startswith(("model.", "odd."))})


def test_names_are_in_the_order_in_which_they_were_saved() -> None:
    """Not in that in which ranks and files hold the pieces."""
    assert list(open_checkpoint(GOLDEN / "two-ranks").role()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
        "2.weight", "2.bias",
    ]  # fmt: skip


def test_a_flattened_optimizer_is_an_optimizer_again(truth: dict[str, Tensor]) -> None:
    """`state.0.weight.exp_avg` and `param_groups.0.weight.lr`, saved asynchronously, become state and groups."""
    opened = open_checkpoint(GOLDEN / "two-ranks-async")
    assert opened.optimizer is not None
    (group,) = opened.optimizer["param_groups"]
    assert (group["params"], group["lr"], group["amsgrad"]) == (["0.weight", "0.bias"], 0.01, False)
    moment = opened.optimizer["state"]["0.weight"]["exp_avg"].to_torch()
    assert torch.equal(moment, truth["0.weight.exp_avg"])


def test_slices_in_safetensors_of_several_ranks_are_put_together(truth: dict[str, Tensor], tmp_path: Path) -> None:
    """Without a table of contents: where a slice lies stands in the header of its file."""
    opened = open_checkpoint(GOLDEN / "two-ranks-slices")
    assert opened.kind == "folder of weights"
    assert _equal(opened.weights(), _under(truth, "model."))
    folder = Path(shutil.copytree(GOLDEN / "two-ranks-slices", tmp_path / "slices"))
    next(folder.glob("shard-00001*")).unlink()
    with pytest.raises(CheckpointCorrupt, match=r"slices: '[012].(weight|bias)' lies in pieces of .*a hole is left"):
        open_checkpoint(folder)


@pytest.mark.slow
def test_ranks_of_today_write_what_the_golden_files_hold(tmp_path: Path) -> None:
    """Two processes of this torch write directories that open to the same truth."""
    script = GOLDEN / "write_dcp.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True, timeout=300)
    truth = safetensors.torch.load_file(tmp_path / "truth.safetensors")
    for name in ("two-ranks", "two-ranks-slices"):
        assert _equal(open_checkpoint(tmp_path / name).weights(), _under(truth, "model."))
    assert open_checkpoint(tmp_path / "two-ranks-async").optimizer is not None


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves a state in this process alone."""

    def save(state: dict[str, Any], **how: Any) -> Path:
        dcp.save(state, storage_writer=dcp.FileSystemWriter(tmp_path / "dcp", **how), no_dist=True)
        return tmp_path / "dcp"

    return save


def _net_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    return net, torch.optim.Adam([{"params": net[0].parameters(), "lr": 0.5}, {"params": net[1].parameters()}])


@pytest.mark.parametrize("how", [{}, {"single_file_per_rank": False, "thread_count": 2}])
def test_one_process_and_plain_state_dicts(saved: Callable[..., Path], how: dict[str, Any]) -> None:
    """Nested values of all kinds; an optimizer keyed by number has its numbers again."""
    net, optimizer = _net_and_optimizer()
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "history": [0.5, {"loss": 0.25}],
        "scalar": torch.tensor(1.5), "empty": torch.empty(0, 3),
    }  # fmt: skip
    opened = open_checkpoint(saved(state, **how))
    assert _equal(opened.weights(), {**net.state_dict()})
    assert opened.metadata["epoch"] == 3
    assert opened.tree["history"] == [0.5, {"loss": 0.25}]
    assert opened.tree["scalar"].to_torch().tolist() == 1.5
    assert opened.tree["empty"].to_torch().shape == (0, 3)
    assert opened.optimizer is not None
    assert [(g["lr"], g["params"]) for g in opened.optimizer["param_groups"]] == [(0.5, [0, 1]), (0.001, [2, 3])]
    assert torch.equal(
        opened.optimizer["state"][2]["exp_avg"].to_torch(), optimizer.state_dict()["state"][2]["exp_avg"]
    )


def test_an_optimizer_that_has_not_stepped_has_an_empty_state(saved: Callable[..., Path]) -> None:
    """Of what is empty nothing was written; it is there again."""
    net, optimizer = _net_and_optimizer()
    opened = open_checkpoint(saved({"model": net.state_dict(), "optim": optimizer.state_dict()}))
    assert opened.optimizer is not None
    assert (opened.optimizer["state"], len(opened.optimizer["param_groups"])) == ({}, 2)


def test_tensors_of_odd_types_and_layouts_come_back_bit_for_bit(saved: Callable[..., Path]) -> None:
    """Complex, half, eight-bit, boolean; transposed and of a larger storage."""
    state = {
        "t.complex": torch.randn(3, dtype=torch.complex64), "t.half": torch.randn(3).half(),
        "t.eight": torch.randn(4).to(torch.float8_e4m3fn), "t.bool": torch.tensor([True, False]),
        "t.transposed": torch.arange(6.0).reshape(2, 3).T, "t.part": torch.arange(10.0)[2:5],
    }  # fmt: skip
    found = open_checkpoint(saved(state)).weights()
    assert list(found) == list(state)
    for name, tensor in state.items():
        raw = [t.contiguous().view(torch.uint8) for t in (found[name], tensor)]
        assert found[name].dtype == tensor.dtype
        assert torch.equal(*raw)


def test_no_file_but_the_table_is_read_before_a_tensor_is_asked_for(saved: Callable[..., Path]) -> None:
    """Damaged bytes show when their tensor is made, and name it; the others are whole."""
    path = saved({"a.b": torch.ones(1000), "c.d": torch.zeros(1000)})
    data = bytearray((path / "__0_0.distcp").read_bytes())
    at = data.find(torch.ones(50).numpy().tobytes())
    data[at + 1] ^= 1
    (path / "__0_0.distcp").write_bytes(data)
    opened = open_checkpoint(path)
    assert opened.role()["c.d"].to_torch().sum() == 0
    with pytest.raises(CheckpointCorrupt, match=r"__0_0.distcp \(a.b\): .* does not match its checksum"):
        opened.role()["a.b"].to_torch()


def test_what_lightning_keeps_beside_the_pieces_is_part_of_it(saved: Callable[..., Path]) -> None:
    """`meta.pt` has the counters and who wrote it."""
    path = saved({"model": {"fc.weight": torch.ones(2, 2)}, "optimizer_0": {"state": {}, "param_groups": [{"lr": 1}]}})
    torch.save({"pytorch-lightning_version": "2.6.0", "epoch": 4, "hyper_parameters": {"lr": 0.1}}, path / "meta.pt")
    opened = open_checkpoint(path)
    assert opened.made_by == "PyTorch Lightning 2.6.0"
    assert (opened.metadata["epoch"], opened.metadata["hyper_parameters"]) == (4, {"lr": 0.1})
    assert opened.weights()["fc.weight"].tolist() == [[1, 1], [1, 1]]
    assert list(opened.optimizers) == ["optimizer_0"]


def test_a_missing_or_cut_file_is_named(two_ranks: Path) -> None:
    """The message says which file to fetch and what lies in it."""
    file = two_ranks / "__1_0.distcp"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointCorrupt, match=r"two-ranks: '.*' ends at byte [0-9,]+ of __1_0.distcp, which has"):
        open_checkpoint(two_ranks)
    file.unlink()
    with pytest.raises(CheckpointCorrupt, match=r"two-ranks: its file __1_0.distcp, which holds '.*', is missing"):
        open_checkpoint(two_ranks)


def test_files_of_another_save_are_told_apart(two_ranks: Path, saved: Callable[..., Path]) -> None:
    """A file whose tensors are not those that the table speaks of is refused when one is asked for."""
    other = saved({f"model.{n}": torch.zeros(500) for n in range(400)}) / "__0_0.distcp"
    shutil.copy(other, two_ranks / "__0_0.distcp")
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp"):
        open_checkpoint(two_ranks).weights()


class _Info:
    """Pickles as DCP's `_StorageInfo` with any attributes."""

    def __init__(self, **facts: Any) -> None:
        self.facts = facts

    def __reduce__(self) -> Any:
        from torch.distributed.checkpoint.filesystem import _StorageInfo

        return object.__new__, (_StorageInfo,), self.facts


def _place(**changes: Any) -> dict[str, Any]:
    return {"relative_path": "__0_0.distcp", "offset": 0, "length": 64, **changes}


def _metadata(size: list[int], chunks: list[tuple[list[int], list[int]]], places: list[Any], **more: Any) -> Metadata:
    described = [ChunkStorageMetadata(torch.Size(o), torch.Size(s)) for o, s in chunks]
    return Metadata(
        {"w": TensorStorageMetadata(TensorProperties(torch.float32), torch.Size(size), described)},
        storage_data={MetadataIndex("w", o): _Info(**p) for (o, _), p in zip(chunks, places, strict=False)},
        **more,
    )


WHOLE = [([0], [4])]
HALVES = [([0], [2]), ([2], [2])]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (_metadata([4], [([0], [2])], [_place()]), "'w' in pieces of 2 values for 4: a hole is left"),
        (_metadata([4], [*HALVES, ([1], [2])], [_place()] * 3), "'w' in pieces of 6 values for 4: they overlap"),
        (_metadata([4], [([0], [5])], [_place()]), r"'w' in a piece \[5\] at \[0\] that reaches beyond \[4\]"),
        (_metadata([4], HALVES, [_place()]), r"no place for the piece at \[2\] of 'w'"),
        (_metadata([4], HALVES, [_place(), _place(offset=8)]), "two values over byte 8 of __0_0.distcp"),
        (_metadata([1 << 40], [([0], [1 << 40])], [_place()]), "4,398,046,511,104 bytes of 'w' in 64 bytes of __0_0"),
        (_metadata([4], WHOLE, [_place(offset=-1)]), "a place of 'w' without a file, an offset or a length"),
        (
            _metadata([4], WHOLE, [_place(relative_path="../x")]),
            r"it places weights in '../x'; expected names of files",
        ),
        (_metadata([4], WHOLE, [_place(relative_path="/etc/x")]), "it places weights in '/etc/x'"),
        (_metadata([4], WHOLE, [_place(transform_descriptors=["stream.zstd/1"])]), "stored through stream.zstd/1"),
        (_metadata([4], WHOLE, [_place()], planner_data={"w": ("a",) * 200}), "a way to 'w' that is no tuple of keys"),
        (_metadata([4], WHOLE, [_place()], planner_data={"w": ("a", -1)}), "neither a key nor a position"),
        (Metadata({"b": BytesStorageMetadata()}, storage_data={}), "no place for 'b'"),
        (Metadata({"b": 3}, storage_data={}), "an entry 'b' that is no record of a value"),
        ({"state_dict_metadata": {}}, "no Metadata with state_dict_metadata"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(metadata: Any, message: str, tmp_path: Path) -> None:
    """Holes, overlaps, places that are none, ways out: the table is named with what is wrong with it."""
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    (tmp_path / "__0_0.distcp").write_bytes(bytes(128))
    with pytest.raises(CheckpointError, match=f"Reading .*\\.metadata: .*{message}"):
        open_checkpoint(tmp_path)


def test_positions_far_apart_do_not_fill_memory(tmp_path: Path) -> None:
    """A list of which only the two-billionth value was saved is a table by position."""
    metadata = _metadata([4], WHOLE, [_place()], planner_data={"w": ("a", 2_000_000_000)})
    (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
    (tmp_path / "__0_0.distcp").write_bytes(bytes(128))
    tree = open_checkpoint(tmp_path).tree
    assert list(tree["a"]) == [2_000_000_000]
    assert isinstance(tree["a"][2_000_000_000], LazyTensor)
