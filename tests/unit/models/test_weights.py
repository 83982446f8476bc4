from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.models.lenet import LeNet
from holdfast.models.weights import load_pretrained, read_weights


class _Net(nn.Module):
    def __init__(self, classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3)
        self.body = nn.Conv2d(8, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """The state dict of a small net of three classes and three channels."""
    torch.manual_seed(1)
    return _Net().state_dict()


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.row("S1")
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_reads_a_pth_file(tmp_path: Path, state: dict[str, torch.Tensor], wrapper: str | None) -> None:
    """A state dict saved with torch.save is read, also under the usual keys `state_dict` and `model`."""
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    assert _same(read_weights(tmp_path / "w.pth"), state)


@pytest.mark.row("S1")
def test_reads_a_safetensors_file(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """A safetensors file is read to the same bits."""
    save_file(state, tmp_path / "w.safetensors")
    assert _same(read_weights(tmp_path / "w.safetensors"), state)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched-by-a-pickle"),)


def test_a_pickle_that_would_run_code_fails_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile .pth is refused by name, and its code has not run."""
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Trap()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"Reading weights from .*w\.pth"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "touched-by-a-pickle").exists()


@pytest.mark.parametrize("content", [{"weight": 3}, [torch.zeros(2)], torch.zeros(2), {"model": {"a": {"b": 1}}}])
def test_fails_when_the_file_is_no_flat_state_dict(tmp_path: Path, content: object) -> None:
    """What is not a flat dict of tensors is refused, with what to save instead."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: expected a flat state dict.*Save model.state_dict\(\)"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_fails_when_the_file_is_garbage(tmp_path: Path, name: str) -> None:
    """Bytes that are no weights at all are refused by name."""
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match=f"Reading weights from .*{name}"):
        read_weights(tmp_path / name)


@pytest.mark.row("S5")
def test_everything_that_fits_is_taken(state: dict[str, torch.Tensor]) -> None:
    """Into an equal model every tensor is taken, and the report says so."""
    model = _Net()
    report = load_pretrained(model, state, "here")
    assert _same(model.state_dict(), state)
    assert (report.matched, report.adapted, report.fresh, report.unused) == (list(state), [], [], [])
    assert str(report) == f"{len(state)} tensors taken"


@pytest.mark.row("S5")
def test_another_class_count_leaves_the_head_fresh_and_says_so(state: dict[str, torch.Tensor]) -> None:
    """The head of another number of classes keeps its own fresh weights; the rest is taken; both are reported."""
    model = _Net(classes=5)
    own_head = model.head.weight.clone()
    report = load_pretrained(model, state, "here")
    assert torch.equal(model.head.weight, own_head)
    assert torch.equal(model.body.weight, state["body.weight"])
    assert report.fresh == ["head.weight", "head.bias"] and report.unused == ["head.weight", "head.bias"]
    assert "fresh: head.weight, head.bias" in str(report) and "unused: head.weight, head.bias" in str(report)


@pytest.mark.row("S5")
def test_a_grey_stem_answers_as_the_colour_stem_did(state: dict[str, torch.Tensor]) -> None:
    """For grey input the stem's filters are summed: a grey picture gets the answer of its colour copy."""
    grey, colour = _Net(channels=1), _Net()
    colour.load_state_dict(state)
    report = load_pretrained(grey, state, "here")
    assert report.adapted == ["stem.weight"]
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(grey.stem(x), colour.stem(x.expand(2, 3, 8, 8)))


@pytest.mark.row("S5")
def test_a_colour_stem_answers_as_the_grey_stem_did() -> None:
    """A grey stem's filters are spread over three channels: a colourless picture gets the same answer."""
    torch.manual_seed(2)
    grey, colour = _Net(channels=1), _Net(channels=3)
    assert load_pretrained(colour, grey.state_dict(), "here").adapted == ["stem.weight"]
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(colour.stem(x.expand(2, 3, 8, 8)), grey.stem(x))


def test_only_colours_are_adapted() -> None:
    """A depthwise layer and a full one of the same name are different layers: neither is made into the other."""
    torch.manual_seed(0)
    full = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Linear(99, 99))
    depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Linear(99, 99))
    report = load_pretrained(depthwise, full.state_dict(), "here")
    assert report.adapted == []
    assert "0.weight" in report.fresh


@pytest.mark.row("S5")
def test_fails_when_hardly_anything_fits(state: dict[str, torch.Tensor]) -> None:
    """Weights of another model are refused with the share that fits and the names of both; nothing is changed."""
    model = LeNet()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(
        CheckpointMismatch, match=r"from here: 0% of the model's values fit.*begin stem\.weight.*conv1\.weight"
    ):
        load_pretrained(model, state, "here")
    assert _same(model.state_dict(), before)


def test_fails_when_the_names_carry_a_prefix(state: dict[str, torch.Tensor]) -> None:
    """Names under `module.` fit nothing, and the message shows them beside the model's."""
    with pytest.raises(CheckpointMismatch, match=r"begin module\.stem\.weight"):
        load_pretrained(_Net(), {f"module.{n}": t for n, t in state.items()}, "here")
