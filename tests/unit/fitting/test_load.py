from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from torch.optim.swa_utils import AveragedModel

import holdfast
from holdfast.errors import CheckpointCorrupt, CheckpointMismatch, ConfigError, TooLittleMatched
from holdfast.fitting import load_into


class Net(nn.Module):
    """A convolution with batch norm, two blocks of the same shapes, a head."""

    def __init__(self, classes: int = 4, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.fc = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits."""
        x = self.features(images).mean((2, 3))
        for block in self.blocks:
            x = x + block(x)
        return self.fc(x)


def _trained(classes: int = 4, channels: int = 3) -> Net:
    torch.manual_seed(7)
    net = Net(classes, channels)
    net(torch.randn(8, channels, 8, 8)).sum().backward()  # moves the batch statistics
    return net


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = list(one.state_dict().values()), list(other.state_dict().values())
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- S7: wrapped and plain, both ways -------------------------------------------------------------------------------


def _features_only(net: Net) -> Net:
    net.features = DataParallel(net.features)  # type: ignore[assignment]
    return net


def _compiled_block(net: Net) -> Net:
    net.blocks[1] = torch.compile(net.blocks[1])  # type: ignore[assignment]
    return net


def _checkpointed(net: Net) -> Net:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    net.blocks[0] = checkpoint_wrapper(net.blocks[0])
    return net


WRAPPINGS: dict[str, Callable[[Net], nn.Module]] = {
    "plain": lambda net: net,
    "DataParallel": DataParallel,
    "DataParallel of .features": _features_only,
    "DataParallel of DataParallel of .features": lambda net: DataParallel(_features_only(net)),
    "compiled": lambda net: torch.compile(net),  # type: ignore[return-value]  # noqa: PLW0108  # it has overloads
    "a compiled block": _compiled_block,
    "compiled DataParallel": lambda net: torch.compile(DataParallel(net)),  # type: ignore[return-value]
    "DataParallel of compiled": lambda net: DataParallel(torch.compile(net)),  # type: ignore[type-var]
    "averaged": AveragedModel,
    "averaged DataParallel": lambda net: AveragedModel(DataParallel(net)),
    "a block in a checkpoint wrapper": _checkpointed,
}


@pytest.mark.row("S7")
@pytest.mark.parametrize("live", WRAPPINGS)
@pytest.mark.parametrize("saved", WRAPPINGS)
def test_every_wrapping_opens_in_every_other(tmp_path: Path, saved: str, live: str) -> None:
    """What one kind of wrapped model saved, the plain one and every other one load in full, and values are the same."""
    expected = _trained()
    torch.save(WRAPPINGS[saved](copy.deepcopy(expected)).state_dict(), tmp_path / "a.pt")
    model = WRAPPINGS[live](Net())
    report = load_into(model, tmp_path / "a.pt")
    assert report.fraction == 1
    counters = ["n_averaged"] if "averaged" in live and "averaged" not in saved else []
    assert [t.name for t in report.of("fresh")] == counters
    ours = [tensor for name, tensor in model.state_dict().items() if name != "n_averaged"]
    assert all(torch.equal(a, b) for a, b in zip(ours, expected.state_dict().values(), strict=True))


@pytest.mark.row("S7")
def test_models_spread_over_processes_open_both_ways(tmp_path: Path) -> None:
    """Two processes: a plain file into DDP and FSDP, each with its share, and what they saved into the plain model."""
    torch.save(_trained().state_dict(), tmp_path / "plain.pt")
    script = Path(__file__).with_name("two_processes.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), str(tmp_path), str(rank)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    for name in ("ddp", "fsdp"):
        model = Net()
        report = load_into(model, tmp_path / f"{name}.pt")
        assert report.fraction == 1
        assert _same(model, _trained())


# --- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.row("S1")
def test_an_exact_file_is_taken_whole_and_the_report_says_so(tmp_path: Path) -> None:
    """Every tensor matched, nothing renamed, cast, fresh or left over."""
    expected = _trained()
    torch.save(expected.state_dict(), tmp_path / "a.pt")
    model = Net()
    report = load_into(model, tmp_path / "a.pt")
    assert _same(model, expected)
    assert report.is_exact
    assert report.num_loaded == report.num_values == sum(p.numel() for p in model.parameters())
    assert str(report) == f"{tmp_path / 'a.pt'}: 100.0% of 292 parameters loaded\n  matched   13 tensors"
    assert repr(report) == f"<LoadReport of {tmp_path / 'a.pt'}: 100.0% loaded; 13 matched, 0 unused>"


@pytest.mark.row("S5")
def test_another_number_of_classes_keeps_the_fresh_head(tmp_path: Path) -> None:
    """The rest is taken; the head is as it was, and both of its tensors are listed with both shapes."""
    torch.save({"epoch": 3, "model": _trained(9).state_dict()}, tmp_path / "a.pt")
    model = Net(4)
    before = _state(model)
    report = load_into(model, tmp_path / "a.pt")
    assert torch.equal(model.fc.weight, before["fc.weight"])
    assert torch.equal(model.blocks[1].weight, _trained(9).blocks[1].weight)  # type: ignore[arg-type]
    assert {t.name: t.note for t in report.of("fresh")} == {
        "fc.weight": "another number of outputs: [9, 6] in the file, [4, 6] in the model",
        "fc.bias": "another number of outputs: [9] in the file, [4] in the model",
    }
    assert report.unused == ("fc.weight", "fc.bias")
    assert report.fraction == pytest.approx(264 / 292)


@pytest.mark.row("S5")
def test_rows_of_the_head_go_by_the_names_of_classes(tmp_path: Path) -> None:
    """Known classes keep their rows wherever they stand; those that the file does not know stay fresh."""
    saved = _trained(3)
    torch.save({"model": saved.state_dict(), "classes": ["ant", "bee", "wasp"]}, tmp_path / "a.pt")
    model = Net(4)
    before = _state(model)
    report = load_into(model, tmp_path / "a.pt", classes=["wasp", "moth", "ant", "fly"])
    assert torch.equal(model.fc.weight[[0, 2]], saved.fc.weight[[2, 0]])
    assert torch.equal(model.fc.bias[[0, 2]], saved.fc.bias[[2, 0]])
    assert torch.equal(model.fc.weight[[1, 3]], before["fc.weight"][[1, 3]])
    assert {t.name: (t.num_values, t.note) for t in report.of("reshaped")} == {
        "fc.weight": (12, "rows of 2 of 4 classes, by name"),
        "fc.bias": (2, "rows of 2 of 4 classes, by name"),
    }


@pytest.mark.row("S5")
def test_as_many_classes_in_another_order_are_put_in_order(tmp_path: Path) -> None:
    """The shapes agree, and the rows would be wrong: only the head is re-ordered, not a layer of as many outputs."""
    saved = _trained(6)
    names = [f"c{n}" for n in range(6)]
    torch.save(
        {"model": saved.state_dict(), "class_to_idx": dict(zip(names, range(6), strict=True))}, tmp_path / "a.pt"
    )
    model = Net(6)
    load_into(model, tmp_path / "a.pt", classes=names[::-1])
    assert torch.equal(model.fc.weight, saved.fc.weight.flip(0))
    assert torch.equal(model.blocks[1].weight, saved.blocks[1].weight)  # type: ignore[arg-type]


class _Layers(nn.Module):
    """Layers by name, to be looked at and never run."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


@pytest.mark.row("S5")
@pytest.mark.parametrize(
    ("layers", "ordered"),
    [
        ({"head": nn.Linear(5, 3), "head_dist": nn.Linear(5, 3)}, ["head", "head_dist"]),
        ({"aux_fc": nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3)), "fc": nn.Linear(5, 3)}, ["fc"]),
        ({"cls": nn.Linear(5, 3), "box": nn.Linear(5, 3)}, ["cls"]),
        ({"fc2": nn.Linear(5, 3), "fc3": nn.Linear(3, 3)}, ["fc3"]),
        ({"fc": nn.Linear(5, 3), "norm": nn.BatchNorm1d(3)}, ["fc"]),
        ({"one": nn.Linear(5, 3), "two": nn.Linear(5, 3)}, []),
    ],
)
def test_only_layers_whose_outputs_are_the_classes_are_put_in_order(
    layers: dict[str, nn.Module], ordered: list[str]
) -> None:
    """Every head is, a box regressor and a hidden layer of as many outputs are not; a note says where nothing tells."""
    saved = {name: t.clone() for name, t in _Layers(**copy.deepcopy(layers)).state_dict().items()}
    opened = _opened_with(saved, ["a", "b", "c"])
    model = _Layers(**copy.deepcopy(layers))
    report = load_into(model, opened, classes=["c", "b", "a"])
    for name, tensor in model.state_dict().items():
        is_head = name.split(".")[0] in ordered
        assert torch.equal(tensor, saved[name].flip(0) if is_head else saved[name]), name
    assert any("is not known (one, two)" in note for note in report.notes) == (not ordered)


def _opened_with(state: dict[str, Tensor], classes: list[str]) -> Any:
    path = Path(tempfile.mkdtemp()) / "a.pt"
    torch.save({"model": state, "classes": classes}, path)
    return holdfast.open_checkpoint(path)


@pytest.mark.parametrize("channels", [2, 4, 6, 12])
def test_channels_that_are_no_colours_stay_fresh_and_nothing_breaks(channels: int) -> None:
    """Two, four or more channels mean something else: the stem is fresh, the rest is taken."""
    report = load_into(Net(channels=3), _state(_trained(channels=channels)))
    assert [(t.name, t.note.split(":")[0]) for t in report.of("fresh")] == [
        ("features.0.weight", "other input channels")
    ]
    assert load_into(Net(channels=1), _state(_trained(channels=6))).of("fresh")[0].name == "features.0.weight"


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_values_are_not_taken_for_weights(dtype: torch.dtype) -> None:
    """Without their scale they are other numbers: fresh, and said."""
    state = _state(_trained()) | {"fc.weight": torch.ones(4, 6).to(dtype)}
    report = load_into(Net(), state)
    assert [t.name for t in report.of("fresh")] == ["fc.weight"]
    assert report.of("fresh")[0].note.endswith("in the model: quantised values, which need their scale")


@pytest.mark.row("S5")
def test_a_grey_stem_answers_as_the_colour_stem_did_and_the_other_way_round(tmp_path: Path) -> None:
    """Filters are summed, or shared out: a picture without colours gets the same answer from both."""
    colour, grey = _trained(channels=3).eval(), _trained(channels=1).eval()
    x = torch.rand(2, 1, 8, 8)
    made = Net(channels=1)
    report = load_into(made, dict(colour.state_dict()))
    torch.testing.assert_close(made.eval()(x), colour(x.expand(2, 3, 8, 8)))
    assert [(t.name, t.note) for t in report.of("reshaped")] == [("features.0.weight", "3 input channels made 1")]
    made = Net(channels=3)
    load_into(made, dict(grey.state_dict()))
    torch.testing.assert_close(made.eval()(x.expand(2, 3, 8, 8)), grey(x))


def test_only_colours_are_adapted() -> None:
    """A depthwise layer and a full one of the same name are different layers: neither is made into the other."""
    full = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Linear(9, 9))
    depthwise = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Linear(9, 9))
    report = load_into(depthwise, dict(full.state_dict()))
    assert [t.name for t in report.of("fresh")] == ["0.weight"]
    narrow = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    wide = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    wide[1] = nn.Conv2d(3, 4, 3)
    assert [t.name for t in load_into(narrow, dict(wide.state_dict())).of("fresh")] == ["1.weight"]


@pytest.mark.row("S5")
@pytest.mark.filterwarnings("ignore::UserWarning:timm")
@pytest.mark.parametrize(
    ("name", "saved", "live", "expected"),
    [
        (
            "vit_tiny_patch16_224",
            {"depth": 1},
            {"depth": 1, "img_size": 160},
            {"pos_embed": "14 × 14 positions made 10 × 10"},
        ),
        (
            "vit_tiny_patch16_224",
            {"depth": 1, "class_token": False, "global_pool": "avg"},
            {"depth": 1, "class_token": False, "global_pool": "avg", "img_size": 128},
            {"pos_embed": "14 × 14 positions made 8 × 8"},
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"depths": (1, 1), "num_heads": (3, 6)},
            {"depths": (1, 1), "num_heads": (3, 6), "img_size": 256, "window_size": 8},
            {f"layers.{n}.blocks.0.attn.relative_position_bias_table": "windows of 7 made 8" for n in (0, 1)},
        ),
        (
            "vit_tiny_patch16_224",
            {"depth": 1, "no_embed_class": True, "img_size": 64},
            {"depth": 1, "no_embed_class": True, "img_size": 96},
            {"pos_embed": "4 × 4 positions made 6 × 6"},
        ),
        (
            "vit_tiny_patch16_224",
            {"depth": 1},
            {"depth": 1, "img_size": (128, 256)},
            {"pos_embed": "14 × 14 positions made 8 × 16"},
        ),
        (
            "beit_base_patch16_224",
            {"depth": 1, "embed_dim": 48, "num_heads": 2},
            {"depth": 1, "embed_dim": 48, "num_heads": 2, "img_size": 160},
            {"blocks.0.attn.relative_position_bias_table": "windows of 14 made 10"},
        ),
    ],
)
def test_another_picture_size_goes_through_timm(
    tmp_path: Path, name: str, saved: dict[str, Any], live: dict[str, Any], expected: dict[str, str]
) -> None:
    """Position embeddings and window tables are what timm itself makes of the same file."""
    torch.manual_seed(0)
    own = timm.create_model(name, num_classes=3, **saved)
    torch.save(own.state_dict(), tmp_path / "a.pt")
    model = timm.create_model(name, num_classes=3, **live)
    report = load_into(model, tmp_path / "a.pt")
    assert {t.name: t.note for t in report.of("reshaped")} == expected
    assert report.fraction == 1
    reference = timm.create_model(name, num_classes=3, **live)
    filtered = import_module(type(own).__module__).checkpoint_filter_fn(dict(own.state_dict()), reference)
    reference.load_state_dict(filtered, strict=False)
    for key, tensor in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], tensor, msg=key)


@pytest.mark.row("S6")
def test_types_are_cast_and_said(tmp_path: Path) -> None:
    """A half-precision file into a float32 model: values as torch casts them, the model's types kept."""
    saved = _trained().half()
    save_file(saved.state_dict(), tmp_path / "a.safetensors")
    model = Net()
    report = load_into(model, tmp_path / "a.safetensors")
    assert model.fc.weight.dtype == torch.float32
    assert torch.equal(model.fc.weight, saved.fc.weight.float())
    assert {t.cast for t in report.tensors} == {"float16 → float32", ""}
    assert not report.is_exact
    assert report.fraction == 1


@pytest.mark.row("S6")
def test_a_model_without_memory_becomes_a_real_one(tmp_path: Path) -> None:
    """Parameters on the meta device get the file's values and keep what they were: parameters that train or not."""
    torch.save(_trained().state_dict(), tmp_path / "a.pt")
    with torch.device("meta"):
        model = Net()
    model.fc.weight.requires_grad_(False)
    load_into(model, tmp_path / "a.pt")
    (tmp_path / "a.pt").unlink()
    assert _same(model, _trained())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1


def test_tied_weights_are_one_tensor_on_both_sides(tmp_path: Path) -> None:
    """Tied here, there, or both: the one tensor is loaded once, under whichever name the file has."""

    def net(tied: bool) -> nn.Sequential:
        made = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        if tied:
            made[1].weight = made[0].weight
        return made

    saved = net(tied=True)
    torch.save(saved.state_dict(), tmp_path / "a.pt")
    model = net(tied=True)
    report = load_into(model, tmp_path / "a.pt")
    assert _same(model, saved)
    assert model[1].weight is model[0].weight
    assert [t.name for t in report.tensors] == ["0.weight", "0.bias", "1.bias"]
    assert report.unused == ()
    apart = net(tied=False)
    assert load_into(apart, tmp_path / "a.pt").is_exact
    assert apart[1].weight is not apart[0].weight
    differing = {name: tensor.clone() for name, tensor in saved.state_dict().items()} | {"1.weight": torch.ones(5, 5)}
    report = load_into(net(tied=True), differing)
    assert (report.unused, report.is_exact) == (("1.weight",), False)
    assert report.notes == ("0.weight and 1.weight differ, and are one tensor in the model: 0.weight is taken",)
    lacking = {name: tensor for name, tensor in saved.state_dict().items() if name != "0.weight"}
    model = net(tied=True)
    assert load_into(model, lacking).fraction == 1
    assert torch.equal(model[0].weight, saved[0].weight)


def test_the_average_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    """The obvious role is the model; the other is there by name, and the report tells that it exists."""
    model, average = _trained(), _trained()
    with torch.no_grad():
        average.fc.bias.add_(1)
    torch.save({"state_dict": model.state_dict(), "state_dict_ema": average.state_dict()}, tmp_path / "a.pt")
    live = Net()
    report = load_into(live, tmp_path / "a.pt")
    assert _same(live, model)
    assert report.notes == ("the file also holds ema",)
    report = load_into(live, tmp_path / "a.pt", role="ema")
    assert _same(live, average)
    assert str(report).startswith(f"{tmp_path / 'a.pt'} (ema): 100.0%")
    with pytest.raises(CheckpointMismatch, match="no weights called 'teacher'; it has ema, model"):
        load_into(live, tmp_path / "a.pt", role="teacher")


class _Counting(nn.Linear):
    """Keeps a number beside its tensors."""

    n = 0

    def get_extra_state(self) -> int:
        """Returns the number."""
        return self.n

    def set_extra_state(self, state: int) -> None:
        """Takes the number."""
        self.n = state


def test_what_only_the_module_understands_is_left_and_said(tmp_path: Path) -> None:
    """Extra state is listed as unused: the load was not exact."""
    saved = _Counting(3, 3)
    saved.n = 7
    torch.save(saved.state_dict(), tmp_path / "a.pt")
    model = _Counting(3, 3)
    report = load_into(model, tmp_path / "a.pt")
    assert (model.n, report.is_exact, report.unused) == (0, False, ("_extra_state",))
    assert report.notes == ("not loaded, for only the module's own code understands it: _extra_state",)


# --- rules by hand --------------------------------------------------------------------------------------------------


def test_names_can_be_changed_by_hand(tmp_path: Path) -> None:
    """Rules are applied one after another to the file's names, and the report says where a name came from."""
    odd = {
        name.replace("fc.", "classifier.final_").replace("blocks.", "b"): t for name, t in _state(_trained()).items()
    }
    torch.save(odd, tmp_path / "a.pt")
    model = Net()
    rules = [r"^classifier\.final_=>fc.", r"^b(\d)=>blocks.\1"]
    report = load_into(model, tmp_path / "a.pt", rename=rules)
    assert _same(model, _trained())
    assert report.fraction == 1
    assert next(t for t in report.tensors if t.name == "fc.bias").rule == "--rename or --prefix"


def test_equal_branches_of_a_model_are_told() -> None:
    """One network for a model of two: the first branch has it, the other begins fresh, and a note says so."""
    model = nn.ModuleDict({"left": Net(), "right": Net()})
    report = load_into(model, _state(_trained()))
    assert _same(model["left"], _trained()) and report.fraction == 0.5  # type: ignore[arg-type]
    assert any("fits left. and right. equally well, and left. alone has it" in note for note in report.notes)
    assert load_into(model, model.state_dict()).notes == ()


def test_a_prefix_chooses_a_part_of_the_file() -> None:
    """Two models that fit equally well are refused with what to say, and nothing is changed; a prefix says it."""
    first, second = _state(_trained()), {name: t + 1 for name, t in _state(_trained()).items()}
    both = {f"left.{n}": t for n, t in first.items()} | {f"right.{n}": t for n, t in second.items()}
    model = Net()
    before = _state(model)
    with pytest.raises(
        CheckpointMismatch, match=r"its parts left\., right\. fit the model equally well.*--prefix left"
    ):
        load_into(model, both)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    report = load_into(model, both, prefix="right.")
    assert torch.equal(model.fc.bias, second["fc.bias"])
    assert report.unused == ()


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("fc", "expected 'regex=>replacement'"),
        ("=>x", "expected 'regex=>replacement'"),
        ("(=>x", "is no regular expression"),
        (r"a=>\2", "expected a replacement whose .* are groups of the regex"),
        ("nowhere=>x", "none of the 13 names of the given tensors contains it; .* They are like features.0.weight"),
    ],
)
def test_a_rule_that_is_none_is_a_usage_error(rule: str, problem: str) -> None:
    """It is told before anything is read into the model."""
    with pytest.raises(ConfigError, match=problem):
        load_into(Net(), _state(_trained()), rename=[rule])


def test_rules_may_not_make_two_tensors_one() -> None:
    """Both names are told."""
    with pytest.raises(CheckpointMismatch, match=r"blocks\.0\.weight and blocks\.1\.weight both become b\.weight"):
        load_into(Net(), _state(_trained()), rename=[r"blocks\.\d=>b"])
    with pytest.raises(CheckpointMismatch, match=r"no name is left with the prefix 'head\.'; its names begin features"):
        load_into(Net(), _state(_trained()), prefix="head.")


# --- refusals -------------------------------------------------------------------------------------------------------


def test_too_little_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    """The part that fits is told, with names of both sides; exit code 4 is that of a gate."""
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "a.pt")
    model = Net()
    before = _state(model)
    with pytest.raises(TooLittleMatched, match=r"0\.0% of the model's 292 parameters fit; expected some\.") as caught:
        load_into(model, tmp_path / "a.pt")
    assert "Its names begin features.0.weight, features.0.bias" in str(caught.value)
    assert caught.value.exit_code == 4
    with pytest.raises(TooLittleMatched, match=r"90\.4% of .* expected 95% at least"):
        load_into(model, _state(_trained(9)), min_matched=0.95)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert load_into(model, _state(_trained(9)), min_matched=0.9).fraction == pytest.approx(264 / 292)


def test_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    """A flipped bit in the last tensor is found before the first one is loaded."""
    torch.save(_trained().state_dict(), tmp_path / "a.pt")
    data = bytearray((tmp_path / "a.pt").read_bytes())
    at = data.index(_trained().fc.weight.detach().numpy().tobytes())
    data[at] ^= 1
    (tmp_path / "a.pt").write_bytes(data)
    model = Net()
    before = _state(model)
    with pytest.raises(CheckpointCorrupt, match="does not match its checksum"):
        load_into(model, tmp_path / "a.pt")
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_layers_without_sizes_are_refused() -> None:
    """A lazy layer has nothing to compare with, and is told by its name."""
    with pytest.raises(CheckpointMismatch, match=r"0\.weight has no shape yet"):
        load_into(nn.Sequential(nn.LazyLinear(3)), {"0.weight": torch.zeros(3, 3)})


# --- the optimizer --------------------------------------------------------------------------------------------------


@pytest.mark.row("S5")
def test_the_optimizers_moments_come_with_the_weights(tmp_path: Path) -> None:
    """A plain torch file into a model with another head: every kept moment is the file's, the head's are fresh."""
    saved = _trained(9)
    optimizer = torch.optim.AdamW(saved.parameters(), lr=1e-3)
    optimizer.step()
    torch.save({"model": saved.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    model = Net(4)
    ours = torch.optim.AdamW(model.parameters(), lr=5e-3)
    report = load_into(model, tmp_path / "a.pt", optimizer=ours)
    assert report.optimizer is not None
    assert set(report.optimizer.fresh) == {"fc.weight", "fc.bias"}
    moments = ours.state[model.blocks[1].weight]["exp_avg"]
    assert torch.equal(moments, optimizer.state[saved.blocks[1].weight]["exp_avg"])
    assert ours.param_groups[0]["lr"] == 5e-3
    assert json.loads(json.dumps(report.to_json()))["optimizer"]["num_kept_parameters"] == 8


def test_an_optimizer_without_a_state_in_the_file_is_an_error(tmp_path: Path) -> None:
    """It is told before the weights are loaded."""
    torch.save(_trained().state_dict(), tmp_path / "a.pt")
    model = Net()
    before = _state(model)
    with pytest.raises(CheckpointMismatch, match=r"it holds none; expected one beside the weights"):
        load_into(model, tmp_path / "a.pt", optimizer=torch.optim.SGD(model.parameters()))
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


@pytest.mark.row("S5")
def test_our_own_checkpoints_load_by_the_same_call(tmp_path: Path) -> None:
    """A checkpoint of the store: weights by name, the optimizer by name, classes known."""
    saved = _trained()
    optimizer = torch.optim.AdamW(saved.parameters(), lr=1e-3)
    optimizer.step()
    store = holdfast.CheckpointStore(tmp_path, background=False)
    store.save(1, {"model": saved, "optimizer": optimizer}, metadata={"classes": ["a", "b", "c", "d"]})
    model = Net()
    ours = torch.optim.AdamW(model.parameters(), lr=1e-3)
    report = load_into(model, tmp_path / "step-00000001", optimizer=ours, classes=["a", "b", "c", "d"])
    assert report.is_exact
    assert report.optimizer is not None
    assert report.optimizer.fraction == 1
    assert _same(model, saved)
