from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore
from holdfast.errors import CheckpointError, CheckpointMismatch, ConfigError
from holdfast.toolbox import diff

Save = Callable[..., Path]


def _weights(**changes: Tensor) -> dict[str, Tensor]:
    tensors = {"a.w": torch.arange(6.0).reshape(2, 3), "a.b": torch.ones(3), "n.count": torch.tensor(5)}
    return {**tensors, **{name.replace("_", "."): value for name, value in changes.items()}}


def test_the_same_weights_in_two_kinds_of_file_are_equal(save: Save, tmp_path: Path) -> None:
    """A wrapped model in a .pth and the plain one in safetensors have the same tensors."""
    pt = save("a.pth", {f"module.{name}": value for name, value in _weights().items()})
    safetensors.torch.save_file(_weights(), tmp_path / "b.safetensors")
    found = diff(pt, tmp_path / "b.safetensors")
    assert found.equal
    assert [t.status for t in found.tensors["model"]] == ["same"] * 3
    names = diff(pt, tmp_path / "b.safetensors", names="file")
    assert not names.equal


def test_every_way_to_differ_is_told_by_name(save: Save) -> None:
    """Values, shape, type, missing and extra tensors each have their status, and the summary counts them."""
    a = save("a.pt", {**_weights(), "c.w": torch.ones(2), "only.a": torch.ones(1), "d.w": torch.ones(2)})
    changed = {"a.w": torch.arange(6.0).reshape(2, 3) + torch.tensor([0, 0, 0.25])}
    others = {"c.w": torch.ones(3), "only.b": torch.ones(1), "d.w": torch.ones(2, dtype=torch.float64)}
    b = save("b.pt", {**_weights(), **changed, **others})
    found = diff(a, b)
    status = {t.name: t.status for t in found.tensors["model"]}
    assert status == {
        "a.w": "different",
        "a.b": "same",
        "n.count": "same",
        "c.w": "shape",
        "only.a": "missing",
        "d.w": "dtype",
        "only.b": "extra",
    }
    table = found.to_json()
    assert table["equal"] is False
    group = table["tensors"]["model"]
    assert (group["num_tensors"], group["num_same"]) == (7, 2)
    assert group["num_by_status"] == {"different": 1, "shape": 1, "missing": 1, "dtype": 1, "extra": 1}
    assert (group["max_abs"], group["max_abs_name"]) == (0.25, "a.w")
    assert group["tensors"][0]["num_different"] == 2
    json.dumps(table, allow_nan=False)
    lines = list(found.lines())
    assert lines[2:4] == [
        "\nmodel: 3 of 5 tensors differ, by 0.25 at most (a.w)",
        "  1 missing in b, 1 only in b, 1 of another shape, 1 of another type",
    ]
    assert [line.split()[0] for line in lines[5:10]] == ["a.w", "c.w", "only.a", "d.w", "only.b"]
    assert lines[6].split(None, 1)[1] == "[2] | [3]"
    assert lines[7].split(None, 1)[1] == "missing in b: float32 [1]"
    assert lines[8].split() == ["d.w", "float32", "|", "float64", "0", "0", "1.000000", "0", "of", "2"]


def test_the_text_says_how_many_differ_and_by_how_much(save: Save) -> None:
    """One sentence sums up, a table has what differs and nothing else, and the last line is the verdict."""
    a = save("a.pt", _weights())
    b = save("b.pt", _weights(a_w=torch.arange(6.0).reshape(2, 3) * 2, a_b=torch.full((3,), float("nan"))))
    lines = list(diff(a, b).lines())
    assert lines[2] == "\nmodel: 2 of 3 tensors differ, without bound (a.b)"
    assert [line.split() for line in lines[3:5]] == [
        ["name", "what", "max", "|a-b|", "relative", "cosine", "differ"],
        ["a.w", "float32", "5", "0.5", "1.000000", "5", "of", "6"],
    ]
    assert lines[5].split()[-5:] == ["3", "of", "3,", "3", "NaN"]
    assert lines[-1] == "\ndifferent"
    near = list(diff(a, save("c.pt", _weights(a_w=torch.arange(6.0).reshape(2, 3) + 0.5))).lines())
    assert near[2] == "\nmodel: 1 of 3 tensors differ, by 0.5 at most (a.w)"


def test_a_tolerance_makes_small_differences_equal(save: Save) -> None:
    """Within rtol and atol nothing differs, and the verdict names them; integers differ all the same."""
    a = save("a.pt", _weights())
    b = save("b.pt", _weights(a_w=torch.arange(6.0).reshape(2, 3) + 2**-10))
    assert not diff(a, b).equal
    near = diff(a, b, atol=0.001)
    assert near.equal
    assert list(near.lines())[-1] == "\nequal (rtol 0, atol 0.001)"
    assert not diff(a, save("c.pt", _weights(n_count=torch.tensor(6))), atol=10.0, rtol=10.0).equal


def test_other_bits_of_the_same_values_are_a_difference(save: Save) -> None:
    """Exactly means to the bit: -0 is not 0, unless there is a tolerance."""
    a, b = save("a.pt", {"a.w": torch.zeros(2)}), save("b.pt", {"a.w": -torch.zeros(2)})
    found = diff(a, b)
    assert not found.equal
    assert any("float32, other bits" in line for line in found.lines())
    assert diff(a, b, atol=1e-300).equal


def _training(lr: float, steps: int, epoch: int) -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    state = {"model": {k: torch.zeros_like(v) for k, v in net.state_dict().items()}}
    return {**state, "optimizer": optimizer.state_dict(), "epoch": epoch}


def test_optimizers_and_facts_are_compared_too(save: Save) -> None:
    """Moments by tensor, settings and counters by path; `weights_only` leaves all of them aside."""
    a, b = save("a.pt", _training(0.125, 1, 3)), save("b.pt", _training(0.25, 2, 4))
    found = diff(a, b)
    assert found.tensors["model"][0].status == "same"
    moments = {t.name: t.status for t in found.tensors["optimizer optimizer"]}
    assert moments["state.0.step"] == "different"
    assert {(v.path, v.a, v.b) for v in found.values} == {
        ("optimizer optimizer.param_groups.0.lr", 0.125, 0.25),
        ("epoch", 3, 4),
    }
    assert "  epoch: 3 | 4" in list(found.lines())
    assert diff(a, b, weights_only=True).equal
    assert diff(a, a).equal


def test_an_optimizer_that_one_does_not_have_is_a_difference(save: Save) -> None:
    """It is told once, not by all its values."""
    whole = _training(0.125, 1, 3)
    found = diff(save("a.pt", whole), save("b.pt", {"model": whole["model"], "epoch": 3}))
    assert [(v.path, v.a, v.b) for v in found.values] == [("optimizer optimizer", "there", "(nothing)")]


def test_every_model_is_compared_or_the_one_that_is_chosen(save: Save) -> None:
    """Models that only one has are differences, unless a role leaves them aside; roles may be crossed."""
    one, two = {"a.w": torch.ones(2)}, {"a.w": torch.zeros(2)}
    a, b = save("a.pt", {"model": one, "ema": two}), save("b.pt", {"model": one})
    assert [(v.path, v.a, v.b) for v in diff(a, b).values] == [("model ema", "1 tensors", "(nothing)")]
    assert diff(a, b, role="model").equal
    assert not diff(a, b, role="ema=model").equal
    assert diff(save("c.pt", {"generator": one}), b).equal
    with pytest.raises(CheckpointMismatch, match="no weights called 'ema'; it has model"):
        diff(a, b, role="ema")


def test_names_are_matched_on_request(save: Save) -> None:
    """With `match`, partners are found whatever stands before the names."""
    weights = {"conv.w": torch.ones(3, 2), "conv.b": torch.ones(3), "fc.w": torch.ones(5, 3)}
    a = save("a.pt", weights)
    b = save("b.pt", {f"backbone.{name}": value for name, value in weights.items()} | {"head.w": torch.ones(7)})
    assert not diff(a, b, role="model").equal
    found = {t.name: (t.status, t.name_in_b) for t in diff(a, b, match=True).tensors["model"]}
    assert found == {
        "conv.w": ("same", "backbone.conv.w"),
        "conv.b": ("same", "backbone.conv.b"),
        "fc.w": ("same", "backbone.fc.w"),
        "head.w": ("extra", None),
    }


def test_two_steps_of_a_run_are_compared(tmp_path: Path) -> None:
    """`run@step` names a checkpoint; step and metrics are facts that differ."""
    with CheckpointStore(tmp_path / "run" / "checkpoints") as store:
        for step in (1, 2):
            store.save(step, {"model": {"w": torch.full((2,), float(step))}}, {"accuracy": step / 4})
    found = diff(f"{tmp_path / 'run'}@1", f"{tmp_path / 'run'}@2")
    assert found.tensors["model"][0].values is not None
    assert found.tensors["model"][0].values.max_abs == 1.0
    assert [(v.path, v.a, v.b) for v in found.values] == [("step", 1, 2), ("metrics.accuracy", 0.25, 0.5)]


def test_tensors_that_cannot_be_made_end_the_comparison(save: Save) -> None:
    """What cannot be compared is not called equal."""
    path = save("s.pt", {"a.w": torch.eye(2).to_sparse(), "a.b": torch.ones(1)})
    with pytest.raises(CheckpointError, match="1 of its 2 tensors are not dense ones"):
        diff(path, path)


def test_comparing_fails_when_a_tolerance_is_none(save: Save) -> None:
    """Negative and endless tolerances are refused."""
    path = save("a.pt", _weights())
    with pytest.raises(ConfigError, match="Comparing with rtol -1 and atol 0: expected numbers from 0"):
        diff(path, path, rtol=-1)
    with pytest.raises(ConfigError, match="atol nan"):
        diff(path, path, atol=float("nan"))


def test_comparing_fails_when_there_is_no_model_to_compare(save: Save) -> None:
    """With weights only, roles that do not meet are an error and not equality."""
    a = save("a.pt", {"x_net": {"a.w": torch.ones(1)}, "y_net": {"a.w": torch.ones(1)}})
    b = save("b.pt", {"model": {"a.w": torch.ones(1)}})
    with pytest.raises(CheckpointMismatch, match="several weights and none that is obvious"):
        diff(a, b, weights_only=True)


def test_weights_are_equal_whatever_stands_beside_them(tmp_path: Path) -> None:
    """Another epoch leaves the weights equal; another value, another model or no model does not."""
    one = {"model": {"a.w": torch.ones(2)}, "epoch": 1}
    for name, state in {
        "a": one,
        "b": {**one, "epoch": 2},
        "c": {**one, "model": {"a.w": torch.zeros(2)}},
        "d": {**one, "ema": {"a.w": torch.ones(2)}},
    }.items():
        torch.save(state, tmp_path / f"{name}.pt")
    found = {name: diff(tmp_path / "a.pt", tmp_path / f"{name}.pt") for name in "abcd"}
    assert {name: (d.equal, d.weights_equal) for name, d in found.items()} == {
        "a": (True, True),
        "b": (False, True),
        "c": (False, False),
        "d": (False, False),
    }
