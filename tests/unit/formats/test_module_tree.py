from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import open_checkpoint
from holdfast.formats.module_tree import module_attributes

Write = Callable[[Any, Path], None]

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_buffer("scale", torch.full((1,), 2.0))
        self.register_parameter("unused", None)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.head = nn.Linear(4, 2)
        self.tied = nn.Linear(4, 2)
        self.tied.weight = self.head.weight
        self.settings = {"width": 4}
"""


@pytest.fixture
def lost_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Callable[[], None]]:
    """A net whose class stands in a file of its own, and what takes that file away."""
    source = tmp_path / "source" / "lost_project.py"
    source.parent.mkdir()
    source.write_text(SOURCE)
    monkeypatch.syspath_prepend(source.parent)
    torch.manual_seed(0)
    net = importlib.import_module("lost_project").Net()

    def lose() -> None:
        source.unlink()
        del sys.modules["lost_project"]
        importlib.invalidate_caches()

    return net, lose


@pytest.mark.row("S2")
@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "DataParallel"])
def test_a_whole_pickled_module_opens_without_its_class(
    write: Write, lost_net: tuple[nn.Module, Callable[[], None]], wrap: bool, tmp_path: Path
) -> None:
    """Names, order and bits are those of state_dict(), though the class can no longer be imported."""
    net, lose = lost_net
    net = nn.DataParallel(net) if wrap else net
    truth = net.state_dict()
    write(net, tmp_path / "whole.pt")
    lose()
    with pytest.raises(ModuleNotFoundError, match="No module named 'lost_project'"):
        importlib.import_module("lost_project")
    opened = open_checkpoint(tmp_path / "whole.pt")
    found = opened.weights(names="file")
    assert list(opened.roles) == ["model"]
    assert list(found) == list(truth)
    assert all(torch.equal(found[name], tensor) for name, tensor in truth.items())
    prefix = "module." if wrap else ""
    assert found[f"{prefix}head.weight"].data_ptr() == found[f"{prefix}tied.weight"].data_ptr()


def test_modules_pickled_beside_others_are_roles_of_their_own(
    lost_net: tuple[nn.Module, Callable[[], None]], tmp_path: Path
) -> None:
    """A half-precision average beside the model, as some programs pickle them whole, is the role ema."""
    net, lose = lost_net
    half = copy.deepcopy(net).half()
    torch.save({"model": net, "ema": half, "updates": 7, "epoch": -1}, tmp_path / "m.pt")
    lose()
    opened = open_checkpoint(tmp_path / "m.pt")
    assert sorted(opened.roles) == ["ema", "model"]
    assert {tensor.dtype for name, tensor in opened.weights("ema").items() if "num_" not in name} == {torch.float16}
    assert opened.weights()["head.weight"].dtype == torch.float32
    assert opened.metadata == {"updates": 7, "epoch": -1}


def test_traced_graphs_are_modules_too(tmp_path: Path) -> None:
    """A torch.fx graph keeps its attributes elsewhere, and its tensors have the same names."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    torch.save(torch.fx.symbolic_trace(net), tmp_path / "fx.pt")
    found = open_checkpoint(tmp_path / "fx.pt").weights()
    assert {name: t.tolist() for name, t in found.items()} == {n: t.tolist() for n, t in net.state_dict().items()}


def test_a_compiled_module_pickled_whole_keeps_its_word(tmp_path: Path) -> None:
    """torch.compile's module is pickled as a call with the module in it; its names begin with `_orig_mod.`."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    compiled = torch.compile(net, backend="eager")
    torch.save(compiled, tmp_path / "compiled.pt")
    found = open_checkpoint(tmp_path / "compiled.pt").role()
    assert list(found) == list(compiled.state_dict()) == ["_orig_mod.0.weight", "_orig_mod.0.bias"]
    assert torch.equal(found["_orig_mod.0.weight"].to_torch(), net[0].weight)


def test_a_module_without_tensors_is_no_role(tmp_path: Path) -> None:
    """A loss function beside the model does not make the model any less obvious."""
    torch.save({"learner": nn.Linear(2, 2), "loss_func": nn.CrossEntropyLoss()}, tmp_path / "c.pt")
    assert list(open_checkpoint(tmp_path / "c.pt").roles) == ["learner"]


def test_what_is_no_module_has_no_attributes_of_one() -> None:
    """Neither plain values nor other records are taken for modules."""
    assert [module_attributes(v) for v in ({"_parameters": {}, "_modules": {}}, 3, None, Tensor)] == [None] * 4
