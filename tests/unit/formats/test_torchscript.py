from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript", "ignore:Lite Interpreter")


class Net(nn.Module):
    """Layers of one class at two depths, tied weights, both kinds of buffers, a tensor that is neither."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
        self.tail = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.tail[1].weight = self.tail[0].weight
        self.scale = nn.Parameter(torch.full((2,), 3.0))
        self.register_buffer("mean", torch.ones(2))
        self.register_buffer("once", torch.zeros(2), persistent=False)
        self.plain = torch.ones(3)
        self.layers = nn.ModuleDict({"first": nn.Linear(2, 2)})

    def forward(self, x: Tensor) -> Tensor:
        """Uses everything."""
        inner = self.head(self.norm(self.conv(x)))
        return self.layers["first"](self.tail(inner)) * self.scale + self.mean + self.once + self.plain[0]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A net to be compiled."""
    return Net().eval()


def _equal(path: Path, truth: dict[str, Tensor]) -> bool:
    found = open_checkpoint(path).weights()
    return list(found) == list(truth) and all(torch.equal(tensor, truth[name]) for name, tensor in found.items())


@pytest.mark.parametrize("way", ["script", "trace", "mobile"])
def test_weights_have_the_names_of_the_programs_own_state_dict(way: str, net: nn.Module, tmp_path: Path) -> None:
    """Scripted, traced and for mobile devices: names, order, ties and bits are those of torch.jit.load."""
    path = tmp_path / "program.pt"
    made = torch.jit.trace(net, torch.randn(1, 3, 8, 8)) if way == "trace" else torch.jit.script(net)
    made._save_for_lite_interpreter(str(path)) if way == "mobile" else torch.jit.save(made, path)
    opened = open_checkpoint(path)
    assert (opened.kind, opened.made_by, list(opened.roles)) == ("TorchScript", "torch.jit", ["model"])
    assert _equal(path, dict(made.state_dict()))
    assert "plain" not in opened.role()
    assert set(net.state_dict()) <= set(opened.role())
    found = opened.weights()
    assert found["tail.0.weight"].data_ptr() == found["tail.1.weight"].data_ptr()


def test_files_beside_the_program_are_passed_over(net: nn.Module, tmp_path: Path) -> None:
    """Extra files, which anybody may name and fill, change nothing."""
    extra = {"labels.txt": "cat", "data.pkl": "cos\nsystem\n(S'false'\ntR.", "code/evil.py": "class Net(Module):"}
    torch.jit.save(torch.jit.script(net), tmp_path / "p.pt", _extra_files=extra)
    assert _equal(tmp_path / "p.pt", dict(torch.jit.load(tmp_path / "p.pt").state_dict()))


def test_names_that_wrappers_use_stay_in_a_program(tmp_path: Path) -> None:
    """A program's tree of modules is known: a layer called `model` is one."""
    torch.jit.save(torch.jit.script(nn.Sequential()), tmp_path / "empty.pt")
    assert open_checkpoint(tmp_path / "empty.pt").roles == {}
    torch.jit.save(torch.jit.trace_module(_Outer(), {"forward": torch.ones(1, 2)}), tmp_path / "p.pt")
    assert list(open_checkpoint(tmp_path / "p.pt").weights()) == ["model.weight", "model.bias"]


class _Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the model."""
        out: Tensor = self.model(x)
        return out


def test_frozen_weights_without_names_are_refused_with_the_way_out(net: nn.Module, tmp_path: Path) -> None:
    """The message says how many constants there are and what to open instead."""
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), tmp_path / "f.pt")
    with pytest.raises(CheckpointError, match=r"f.pt: it is a TorchScript archive whose weights were frozen into \d+"):
        open_checkpoint(tmp_path / "f.pt")


def test_a_changed_bit_in_a_weight_shows(net: nn.Module, tmp_path: Path) -> None:
    """The archive's checksum is compared when the tensor is made."""
    torch.jit.save(torch.jit.script(net), tmp_path / "p.pt")
    data = bytearray((tmp_path / "p.pt").read_bytes())
    at = data.find(net.head[1].weight.detach().numpy().tobytes()[:64])  # type: ignore[index,union-attr]
    data[at] ^= 1
    (tmp_path / "p.pt").write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"p.pt: .*'p.*/data/\d+' that does not match its checksum"):
        open_checkpoint(tmp_path / "p.pt").weights()


def test_the_layout_before_torch_1_4_is_named(tmp_path: Path) -> None:
    """It keeps its tree in JSON; the way out is torch's own reader."""
    with zipfile.ZipFile(tmp_path / "old.pt", "w") as archive:
        for name in ("version", "model.json", "tensors/0"):
            archive.writestr(f"old/{name}", b"1")
    with pytest.raises(CheckpointError, match=r"it is a TorchScript before 1.4; .* Load it with torch.jit"):
        open_checkpoint(tmp_path / "old.pt")
