from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.checkpoints.finding import Finding
from holdfast.errors import CheckpointError, CheckpointMismatch, ConfigError
from holdfast.formats import open_checkpoint
from holdfast.toolbox import convert, diff, verify

Save = Callable[..., Path]
KINDS = ["a.safetensors", "a.pth", "a.npz", "checkpoint", "shards"]


@pytest.fixture
def wrapped(save: Save, tied: nn.Module) -> Path:
    """A wrapped model with tied weights, its average, an optimizer that has stepped, counters."""
    optimizer = torch.optim.AdamW(tied.parameters(), lr=0.125)
    tied(torch.rand(3, 4)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in tied.state_dict().items()}
    ema = {name: value * 0.5 if value.is_floating_point() else value for name, value in tied.state_dict().items()}
    return save("w.pt", {"model": state, "model_ema": ema, "optimizer": optimizer.state_dict(), "epoch": 3})


@pytest.mark.row("S1")
@pytest.mark.parametrize("out", KINDS)
def test_every_kind_holds_the_same_tensors_under_plain_names(
    wrapped: Path, tied: nn.Module, tmp_path: Path, out: str
) -> None:
    """Whatever is written, it has each name of the plain model, tied ones too, and not a bit is changed."""
    done = convert(wrapped, tmp_path / out, role="model", shard_size="64B" if out == "shards" else None)
    assert (done.models, done.num_tensors, done.ties) == ({"model": "model"}, 8, {"last.weight": "first.weight"})
    found = diff(wrapped, tmp_path / out, role="model", weights_only=True)
    assert found.equal
    assert [t.name for t in found.tensors["model"]] == list(tied.state_dict())
    assert done.renamed["first.weight"] == "module.first.weight"
    assert json.loads(json.dumps(done.to_json()))["kind"] == done.kind


@pytest.mark.parametrize(
    ("out", "how"), [("a.safetensors", "noted"), ("a.pth", "tied"), ("a.npz", "repeated"), ("checkpoint", "tied")]
)
def test_what_becomes_of_tied_tensors_is_said(wrapped: Path, tmp_path: Path, out: str, how: str) -> None:
    """Tied where the kind can, noted in safetensors, repeated in .npz: the result and its lines say so."""
    done = convert(wrapped, tmp_path / out, role="model")
    words = {"tied": "tied", "noted": "written once, noted in the header", "repeated": "written under each name"}
    assert done.tied_as == how
    assert f"  {words[how]}: last.weight = first.weight" in list(done.lines())


def test_what_is_left_out_is_said(wrapped: Path, tmp_path: Path) -> None:
    """A file of weights names the models and optimizers that it does not hold."""
    done = convert(wrapped, tmp_path / "a.pth")
    assert done.left_out == ["model ema (--role ema)", "optimizer state optimizer"]


@pytest.mark.row("S4")
def test_a_checkpoint_holds_every_model_and_the_optimizer(wrapped: Path, tmp_path: Path) -> None:
    """Without a role, a checkpoint directory has all models as parts, with the optimizer; and it is proven."""
    done = convert(wrapped, tmp_path / "step-00000070")
    checkpoint = Checkpoint(tmp_path / "step-00000070")
    checkpoint.verify()
    assert list(checkpoint.manifest.parts) == ["model", "ema", "optimizer"]
    assert (checkpoint.step, checkpoint.metadata["epoch"]) == (70, 3)
    assert done.optimizers == ["optimizer"]
    assert diff(wrapped, tmp_path / "step-00000070").values[0].path == "step"
    saved = torch.load(wrapped, weights_only=True)["optimizer"]
    assert torch.equal(checkpoint.read("optimizer")["state"][0]["exp_avg"], saved["state"][0]["exp_avg"])
    assert checkpoint.read("optimizer")["param_groups"] == saved["param_groups"]
    convert(wrapped, tmp_path / "bare", strip_optimizer=True)
    assert list(Checkpoint(tmp_path / "bare").manifest.parts) == ["model", "ema"]


def test_the_average_leaves_the_optimizer_of_the_weights_behind(wrapped: Path, tmp_path: Path) -> None:
    """With --role ema the average is the model, and the optimizer, which knows another, is left out and named."""
    done = convert(wrapped, tmp_path / "out", role="ema")
    assert list(Checkpoint(tmp_path / "out").manifest.parts) == ["model"]
    assert done.models == {"model": "ema"}
    assert "optimizer state optimizer" in done.left_out
    assert diff(wrapped, tmp_path / "out", role="ema=model", weights_only=True).equal


@pytest.mark.row("S4")
def test_converting_fails_when_no_model_is_the_obvious_one(save: Save, tmp_path: Path) -> None:
    """Of a generator and a critic one has to be chosen; nothing is written before."""
    path = save("gan.pt", {"generator": {"a.w": torch.ones(1)}, "critic": {"a.w": torch.ones(1)}})
    with pytest.raises(CheckpointMismatch, match="none that is obvious; it has critic, generator"):
        convert(path, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
    assert convert(path, tmp_path / "a.safetensors", role="critic").models == {"model": "critic"}
    assert list(Checkpoint(_made(path, tmp_path / "both")).manifest.parts) == ["generator", "critic"]


def _made(path: Path, out: Path, **options: Any) -> Path:
    convert(path, out, **options)
    return out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of ours with metadata, an optimizer by name, and counters."""
    net = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.5, momentum=0.5)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    metadata = {"classes": ["a", "b"], "preprocessing": {"size": 8}, "architecture": {"name": "x"}, "epoch": 4}
    with CheckpointStore(tmp_path / "run" / "checkpoints") as store:
        parts = {"model": net, "optimizer": optimizer, "counters": {"seen": 9}}
        store.save(40, parts, {"accuracy": 0.75}, metadata)
    return tmp_path / "run"


@pytest.mark.parametrize("out", ["model.safetensors", "checkpoint"])
def test_what_a_run_knows_goes_along_into_our_own_kinds(run: Path, tmp_path: Path, out: str) -> None:
    """Classes, preprocessing, architecture, metrics and step are those of the run."""
    convert(run, tmp_path / out)
    found = open_checkpoint(tmp_path / out).metadata
    expected = {"classes": ["a", "b"], "preprocessing": {"size": 8}, "architecture": {"name": "x"}, "epoch": 4}
    assert {key: found[key] for key in expected} == expected
    assert (found["step"], found["metrics"]) == (40, {"accuracy": 0.75})


def test_what_other_kinds_have_no_place_for_is_said(run: Path, tmp_path: Path) -> None:
    """A .pth of a run names the facts that it loses."""
    left_out = convert(run, tmp_path / "a.pth").left_out
    assert "classes, preprocessing, architecture, epoch: a pth has no place for them" in left_out
    assert "part counters" in left_out


def test_an_optimizer_by_name_follows_renamed_weights(run: Path, tmp_path: Path) -> None:
    """Renaming the weights of our checkpoint renames the moments' parameters too."""
    out = _made(run, tmp_path / "out", rename=["^=>body."])
    state = Checkpoint(out).read("optimizer")
    assert sorted(state["state"]) == ["model.body.bias", "model.body.weight"]
    assert state["param_groups"][0]["params"] == ["model.body.weight", "model.body.bias"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("out", ["a.pth", "a.safetensors", "checkpoint"])
def test_floating_tensors_are_cast_and_others_not(save: Save, tmp_path: Path, dtype: str, out: str) -> None:
    """The values are torch's own casts; integers and complex numbers stay."""
    tensors = {"a.w": torch.rand(5) - 0.5, "a.n": torch.tensor([3]), "a.z": torch.ones(2, dtype=torch.complex64)}
    done = convert(save("x.pt", tensors), tmp_path / out, dtype=dtype)
    found = open_checkpoint(tmp_path / out).weights()
    wanted = getattr(torch, dtype)
    assert torch.equal(found["a.w"], tensors["a.w"].to(wanted)) and found["a.w"].dtype is wanted
    assert torch.equal(found["a.n"], tensors["a.n"]) and torch.equal(found["a.z"], tensors["a.z"])
    assert len(done.losses) == (1 if dtype in ("float16", "bfloat16") else 0)
    assert done.num_exact == (1 if dtype == "float64" else 0)


def test_casting_fails_when_values_are_too_large(save: Save, tmp_path: Path) -> None:
    """Every tensor with such values is named and nothing is written, unless infinities are wanted."""
    path = save("a.pt", {"a.w": torch.tensor([1e6, 1.0]), "b.w": torch.ones(2), "c.w": torch.tensor([float("inf")])})
    with pytest.raises(CheckpointError, match=r"1 tensor with values too large.*\n  a\.w: 1 of 2 values, up to 1e\+06"):
        convert(path, tmp_path / "out.pth", dtype="float16")
    assert not (tmp_path / "out.pth").exists()
    done = convert(path, tmp_path / "out.pth", dtype="float16", allow_overflow=True)
    assert any("1 value became infinite" in line for line in done.lines())
    assert torch.load(tmp_path / "out.pth", weights_only=True)["a.w"].isinf().tolist() == [True, False]


@pytest.mark.row("S7")
def test_names_can_be_those_of_the_file_or_of_another(
    wrapped: Path, save: Save, tied: nn.Module, tmp_path: Path
) -> None:
    """`keep_names` keeps the wrappers' words, `like` gives those that another file has, and its order."""
    convert(wrapped, tmp_path / "a.pth", keep_names=True)
    assert next(iter(torch.load(tmp_path / "a.pth", weights_only=True))) == "module.first.weight"
    other = save("other.pt", {f"_orig_mod.module.{n}": v for n, v in reversed(tied.state_dict().items())})
    convert(wrapped, tmp_path / "b.pth", like=other)
    found = torch.load(tmp_path / "b.pth", weights_only=True)
    assert list(found) == list(torch.load(other, weights_only=True))
    assert found["_orig_mod.module.last.weight"].data_ptr() == found["_orig_mod.module.first.weight"].data_ptr()
    wrapper = nn.Module()
    wrapper._orig_mod = nn.Module()
    wrapper._orig_mod.module = tied
    wrapper.load_state_dict(found)


@pytest.mark.parametrize("out", KINDS)
def test_nothing_is_replaced_unless_asked(save: Save, tmp_path: Path, out: str) -> None:
    """A second conversion to the same place is refused, and with `replace` takes its place."""
    shards = "64B" if out == "shards" else None
    first, second = save("1.pt", {"a.w": torch.ones(2)}), save("2.pt", {"a.w": torch.zeros(2)})
    convert(first, tmp_path / out, shard_size=shards)
    with pytest.raises(ConfigError, match="it is there already"):
        convert(second, tmp_path / out, shard_size=shards)
    assert diff(first, tmp_path / out, weights_only=True).equal
    convert(second, tmp_path / out, shard_size=shards, replace=True)
    assert diff(second, tmp_path / out, weights_only=True).equal
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".holdfast")]


def test_a_file_can_be_converted_onto_itself(save: Save, tmp_path: Path) -> None:
    """With `replace`, the source is read to its end before its place is taken."""
    big: dict[str, Tensor] = {"a.w": torch.arange(600_000.0)}
    path = save("a.pth", {"state_dict": big, "epoch": 1})
    convert(path, path, replace=True)
    assert torch.equal(torch.load(path, weights_only=True)["a.w"], big["a.w"])


def test_a_model_with_a_hostile_name_stays_in_its_folder(save: Save, tmp_path: Path) -> None:
    """A role that is a path becomes the name of a part."""
    path = save("evil.pt", {"../../evil": {"a.w": torch.ones(1)}, "b": {"a.w": torch.ones(1)}})
    convert(path, tmp_path / "in" if (tmp_path / "in").mkdir() else tmp_path / "in" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt", "in"]
    assert "_.._evil.safetensors" in [p.name for p in (tmp_path / "in" / "out").iterdir()]


def test_what_a_partial_conversion_leaves_over_is_said(save: Save, tmp_path: Path) -> None:
    """Both sides' tensors without a partner are counted and named, in the text and in JSON; what fits is written."""
    mine = {"a.w": torch.ones(2), "b.w": torch.ones(3), **{f"mine.{n}": torch.ones(9, n + 1) for n in range(7)}}
    source = save("m.pt", mine)
    other = save("o.pt", {"a.w": torch.ones(2), "b.w": torch.ones(4), "theirs.w": torch.ones(5)})
    done = convert(source, tmp_path / "out.pth", like=other, partial=True)
    assert list(torch.load(tmp_path / "out.pth", weights_only=True)) == ["a.w"]
    expected = [
        f"8 tensors of {source} that nothing in {other} fits: b.w, mine.0, mine.1, mine.2, mine.3 … and 3 more",
        f"2 tensors of {other} that nothing in {source} fits: b.w, theirs.w",
    ]
    assert done.to_json()["left_out"] == expected
    assert [line for line in done.lines() if "left out" in line] == [f"  left out: {what}" for what in expected]


@pytest.mark.parametrize("partial", [True, False])
def test_converting_fails_when_no_tensor_fits_the_other(save: Save, tmp_path: Path, partial: bool) -> None:
    """Names of an unrelated model give nothing to write, so nothing is written, whether or not a rest is allowed."""
    source, other = save("m.pt", {"a.w": torch.ones(2)}), save("o.pt", {"b.bias": torch.ones(3, 4)})
    with pytest.raises(CheckpointMismatch, match="found no tensor that fits; expected one at least"):
        convert(source, tmp_path / "out.npz", like=other, partial=partial)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("out", KINDS)
def test_converting_fails_when_there_is_no_tensor(tmp_path: Path, out: str) -> None:
    """A model without a tensor becomes no file of any kind."""
    source = tmp_path / "empty.safetensors"
    safetensors.torch.save_file({}, source)
    with pytest.raises(CheckpointMismatch, match="found no tensor in them; expected one at least"):
        convert(source, tmp_path / out, shard_size="64B" if out == "shards" else None)
    assert [p.name for p in tmp_path.iterdir()] == ["empty.safetensors"]


@pytest.mark.row("S1")
@pytest.mark.parametrize("size", ["8B", "1MB"])
def test_shards_open_by_folder_and_by_index_and_verify(save: Save, tmp_path: Path, size: str) -> None:
    """A folder of shards, many or one, opens with every value, also by its index, and no file of it is damaged."""
    tensors = {str(n): torch.full((2,), float(n)) for n in range(5)}
    source = save("m.pt", tensors)
    convert(source, tmp_path / "s", shard_size=size)
    index = tmp_path / "s" / "model.safetensors.index.json"
    assert index.exists() is (size == "8B")
    for place in [tmp_path / "s", *([index] if index.exists() else [])]:
        found = open_checkpoint(place).weights()
        assert list(found) == list(tensors)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    told: list[Finding] = []
    verify(str(tmp_path / "s"), told.append)
    assert [finding.verdict for finding in told] == ["not provable"]  # plain safetensors carries no checksums
    (next((tmp_path / "s").glob("*.safetensors"))).write_bytes(b"short")
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "s").weights()


def test_what_a_lone_shard_becomes_is_told(tmp_path: Path) -> None:
    """A part of a model can be converted; that it is a part is said."""
    shard = tmp_path / "model-00001-of-00002.safetensors"
    safetensors.torch.save_file({"fc.weight": torch.ones(2)}, shard)
    done = convert(shard, tmp_path / "out.pth")
    assert any("note: one of 2 shards; model-00002-of-00002.safetensors not beside it" in line for line in done.lines())
