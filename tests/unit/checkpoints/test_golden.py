from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from holdfast.checkpoints import Checkpoint, manifest, read_single_file
from holdfast.checkpoints.manifest import VERSION
from holdfast.checkpoints.tensors import DTYPE_NAMES, tensor_bytes

GOLDEN = Path(__file__).parents[2] / "golden"
STEP = GOLDEN / "v1" / "step-00000003"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that wrote the golden files."""
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_format_version_has_golden_files() -> None:
    """For each version that we read there is a folder."""
    assert sorted(entry.name for entry in GOLDEN.glob("v*")) == [f"v{version}" for version in range(1, VERSION + 1)]


def test_the_golden_checkpoint_opens_and_verifies() -> None:
    """Version 1 is read by today's code, every digest included."""
    checkpoint = Checkpoint(STEP)
    checkpoint.verify()
    assert (checkpoint.step, checkpoint.manifest.version) == (3, 1)
    assert checkpoint.metrics == {"loss": 0.75, "accuracy": 0.8125}
    assert checkpoint.metadata == {
        "epoch": 1,
        "classes": ["ants", "bees", "Käfer"],
        "architecture": {"name": "linear", "inputs": 3},
    }
    assert list(checkpoint.manifest.parts) == ["model", "optimizer", "dtypes", "extra"]


def test_the_golden_tensors_have_their_exact_values() -> None:
    """Signed zeros and tiny numbers included; tied names give one tensor."""
    tensors = Checkpoint(STEP).tensors("model")
    weight = torch.tensor([[0.5, -1.25, 3.0], [-0.0, 1e-8, 65504.0]])
    assert bytes(tensor_bytes(tensors["head.weight"])) == bytes(tensor_bytes(weight))
    assert tensors["tied.weight"] is tensors["head.weight"]
    assert tensors["head.bias"].tolist() == [1.0, -2.0]


def test_the_golden_dtypes_are_all_there(generator: ModuleType) -> None:
    """A tensor of every dtype that version 1 began with, a scalar, an empty and a square one."""
    tree = Checkpoint(STEP).read("dtypes")
    assert len(tree) == len(generator.DTYPES) + 3
    for dtype in generator.DTYPES:
        name = DTYPE_NAMES[dtype]
        assert tree[name].dtype == dtype
        assert tree[name].to(torch.complex64).tolist() == [[0, 1], [1, 1]]
    assert (tree["scalar"].shape, tree["scalar"].item()) == ((), 7)
    assert tree["empty"].shape == (0, 2)
    assert tree["column"].tolist() == [[0, 2], [1, 3]]


def test_the_golden_values_are_of_their_exact_kinds() -> None:
    """Everything that is no tensor comes back equal and of its own type."""
    extra: dict[str, Any] = Checkpoint(STEP).read("extra")
    assert extra["plain"] == [None, True, -5, 2**100, 0.1, "grüße", []]
    assert extra["floats"][:2] == [math.inf, -math.inf]
    assert math.isnan(extra["floats"][2])
    assert math.copysign(1, extra["floats"][3]) == -1
    assert extra["tuple"] == (1, (2.5, "x"))
    assert extra["keys"] == {0: "a", "0": "b", (1, 2): "c"}
    assert extra["dollar"] == {"$tensor": "not one"}
    assert extra["bytes"] == b"\x00\xffPK"
    assert extra["complex"] == 1 - 2j
    assert extra["sets"] == [{1, 2, 3}, {"a"}]
    assert [type(item) for item in extra["sets"]] == [set, frozenset]
    assert (extra["array"].dtype, extra["array"].tolist()) == (np.uint16, [[1, 2], [3, 4]])
    assert (type(extra["scalar"]), extra["scalar"]) == (np.float32, np.float32(0.1))
    assert extra["size"] == torch.Size([2, 3]) and isinstance(extra["size"], torch.Size)
    assert extra["dtype"] is torch.bfloat16


@pytest.mark.row("S3")
def test_the_golden_checkpoint_restores_into_live_objects() -> None:
    """A tied model and an optimizer whose groups stand the other way round get exactly what was saved."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)
            self.tied = nn.Linear(3, 2, bias=False)
            self.tied.weight = self.head.weight

    model = Model()
    groups = [{"params": [model.head.bias]}, {"params": [model.head.weight]}]
    optimizer = torch.optim.SGD(groups, lr=5.0)
    Checkpoint(STEP).restore({"model": model, "optimizer": optimizer})
    assert model.head.bias.tolist() == [1.0, -2.0]
    assert model.tied.weight is model.head.weight
    assert [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (0.01, 0.9, 0),
        (0.1, 0.9, 5e-4),
    ]
    assert optimizer.state[model.head.bias]["momentum_buffer"].tolist() == [0.125, -0.25]
    assert optimizer.state[model.head.weight]["momentum_buffer"].tolist() == [[0, 0.125, 0.25], [0.375, 0.5, 0.625]]


@pytest.mark.row("S1")
def test_the_golden_model_file_opens() -> None:
    """The one-file form of version 1 is read by today's code, and by any safetensors reader."""
    read = read_single_file(GOLDEN / "v1" / "model.safetensors")
    assert read.metadata["classes"] == ["ants", "bees", "Käfer"]
    assert read.metadata["step"] == 3
    assert read.tensors["head.bias"].tolist() == [1.0, -2.0]
    plain = safetensors.torch.load_file(GOLDEN / "v1" / "model.safetensors")
    assert torch.equal(plain["head.weight"], read.tensors["head.weight"])


def test_the_format_has_not_drifted(tmp_path: Path, generator: ModuleType) -> None:
    """Today's code writes the very bytes that are kept of the newest version."""
    manifest._own_name.cache_clear()
    generator.write_golden(tmp_path)
    manifest._own_name.cache_clear()
    newest = GOLDEN / f"v{VERSION}"
    kept = {path.relative_to(newest): path.read_bytes() for path in newest.rglob("*") if path.is_file()}
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == kept
    assert sum(map(len, kept.values())) < 20_000


def test_version_2_holds_every_kind_of_tensor(generator: ModuleType) -> None:
    """Memory orders and types without a name come back as they were handed over."""
    checkpoint = Checkpoint(GOLDEN / "v2" / "step-00000003")
    checkpoint.verify()
    assert (checkpoint.manifest.version, checkpoint.manifest.written_by) == (2, "holdfast 0.1.0")
    assert checkpoint.metrics == {"loss": 0.75, "accuracy": 0.8125}
    found, expected = checkpoint.read("kinds"), generator.golden_kinds()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].stride() == tensor.stride(), name
    assert found["columns_again"] is found["columns"]
    for name in ("channels_last", "columns", "complex128"):
        assert torch.equal(found[name], expected[name])
    assert torch.equal(found["float8_e8m0fnu"].float(), expected["float8_e8m0fnu"].float())


def test_both_versions_give_the_same_state() -> None:
    """What version 1 held is in version 2 unchanged."""
    old, new = Checkpoint(STEP), Checkpoint(GOLDEN / "v2" / "step-00000003")
    for part in old.manifest.parts:
        assert {n: bytes(tensor_bytes(t)) for n, t in old.tensors(part).items()} == {
            n: bytes(tensor_bytes(t)) for n, t in new.tensors(part).items()
        }
        assert old.skeletons[part] == new.skeletons[part]
