from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from holdfast.errors import CheckpointError, UnsupportedState
from holdfast.toolbox.carried import carried_facts, carried_optimizer, header_of, part_name, step_of
from holdfast.toolbox.source import open_any

Save = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ema", "ema"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".hidden", "hidden"),
        ("", "part"),
        ("state", "state_"),
        ("model", "model_"),
        ("a/b\n", "a_b_"),
    ],
)
def test_a_part_is_never_a_path(name: str, part: str) -> None:
    """What a file calls its models becomes the name of a file in the folder, of no other, and of none that is taken."""
    assert part_name(name, {"model"}) == part


def test_facts_of_others_are_those_that_are_certain(save: Save) -> None:
    """Epoch and classes are taken over, and where it came from is noted; what else they keep has no meaning we know."""
    opened = open_any(
        save("a.pt", {"state_dict": {"a.w": torch.ones(1)}, "epoch": 3, "classes": ["x", "y"], "best": 0.5})
    )
    assert carried_facts(opened, {}) == {
        "epoch": 3,
        "classes": ["x", "y"],
        "converted_from": {"file": "a.pt", "kind": "torch zip"},
    }
    assert carried_facts(opened, {"classes": ["z"], "converted_from": 1}) == {"classes": ["z"]}


def test_the_step_is_the_one_that_is_told(save: Save) -> None:
    """global_step and its kin count; what is no count does not."""
    weights = {"state_dict": {"a.w": torch.ones(1)}}
    assert step_of(open_any(save("a.pt", {**weights, "global_step": 70}))) == 70
    assert step_of(open_any(save("b.pt", {**weights, "step": "many", "iteration": 5}))) == 5
    assert step_of(open_any(save("c.pt", {**weights, "step": -1}))) == 0


def test_a_header_is_carried_between_safetensors_alone(save: Save) -> None:
    """Other kinds have no header to carry."""
    assert header_of(open_any(save("a.pt", {"state_dict": {"a.w": torch.ones(1)}, "by": "me"}))) == {}


def test_an_optimizer_is_plain_values_and_tensors(save: Save) -> None:
    """Tensors are read, tuples stay tuples, and names of parameters follow the weights."""
    state = {
        "state": {"model.a.w": {"exp_avg": torch.ones(2), "step": 3}},
        "param_groups": [{"lr": 0.5, "betas": (0.5, 0.75), "params": ["model.a.w", "#1"]}],
    }
    opened = open_any(save("a.pt", {"optimizer": state}))
    made = carried_optimizer(opened, "optimizer", {"model.a.w": "model.b.w"})
    assert made["param_groups"] == [{"lr": 0.5, "betas": (0.5, 0.75), "params": ["model.b.w", "#1"]}]
    assert torch.equal(made["state"]["model.b.w"]["exp_avg"], torch.ones(2))


def test_carrying_fails_when_an_optimizer_holds_objects(save: Save) -> None:
    """Objects of classes that are not looked up are told by path, with the way out."""
    group = {"lr": 0.5, "params": [], "schedule": torch.optim.SGD}
    opened = open_any(save("a.pt", {"optimizer": {"state": {}, "param_groups": [group]}}))
    with pytest.raises(UnsupportedState, match=r"optimizer\.param_groups\.0\.schedule: <.*\n.*--strip-optimizer"):
        carried_optimizer(opened, "optimizer", {})


def test_an_optimizer_that_holds_one_list_a_million_times_over_is_refused(save: Save) -> None:
    """Thirty levels of lists that hold the next one twice are an error in bounded time."""
    value: list[object] = [1]
    for _ in range(30):
        value = [value, value]
    opened = open_any(save("a.pt", {"optimizer": {"state": {0: {"x": value}}, "param_groups": []}}))
    with pytest.raises(CheckpointError, match=r"more than 1,000,000 values or 50 levels; no optimizer does"):
        carried_optimizer(opened, "optimizer", {})
