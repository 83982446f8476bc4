from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints.named_state import load_into, state_of
from holdfast.errors import CheckpointMismatch

OPTIMIZERS = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD",
]  # fmt: skip


class _Net(nn.Module):
    """Two layers of the same shape, so that a mix-up of their moments goes unnoticed by shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.scale = nn.Parameter(torch.ones(3))
        self.second = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x) * self.scale))


def _net(seed: int = 0) -> _Net:
    torch.manual_seed(seed)
    return _Net()


def _train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    x = torch.arange(12.0).reshape(4, 3) / 10

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (net(x) - x.flip(1)).pow(2).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def _saved(parts: dict[str, Any]) -> dict[str, Any]:
    """Returns the state as a file would hold it: apart from the live objects."""
    return copy.deepcopy(state_of(parts))


def _moments(net: nn.Module, optimizer: torch.optim.Optimizer, slot: str) -> dict[str, list[float]]:
    return {name: optimizer.state[p][slot].flatten().tolist() for name, p in net.named_parameters()}


def test_a_module_is_its_state_dict_and_a_plain_tree_is_itself() -> None:
    """Modules hand out their state, other stateful objects theirs, and trees are taken as they are."""
    net = nn.BatchNorm1d(2)
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters()), 3)
    trees = state_of({"net": net, "scheduler": scheduler, "tree": {"a": [1]}})
    assert list(trees["net"]) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert trees["scheduler"]["step_size"] == 3
    assert trees["tree"] == {"a": [1]}


def test_optimizer_state_is_under_the_names_of_its_parameters() -> None:
    """Slots and groups are keyed by part and parameter name; no number of a position is left."""
    net = _net()
    optimizer = torch.optim.Adam([{"params": net.second.parameters(), "lr": 0.1}, {"params": net.first.parameters()}])
    _train(net, optimizer, 1)
    tree = state_of({"net": net, "optimizer": optimizer})["optimizer"]
    assert set(tree["state"]) == {"net.first.weight", "net.first.bias", "net.second.weight", "net.second.bias"}
    assert [group["params"] for group in tree["param_groups"]] == [
        ["net.second.weight", "net.second.bias"],
        ["net.first.weight", "net.first.bias"],
    ]
    assert tree["param_groups"][0]["lr"] == 0.1


def test_parameters_of_no_known_part_keep_their_number() -> None:
    """An optimizer that is saved without its model is keyed by `#0`, `#1` …, and restores."""
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    _train(net, optimizer)
    tree = state_of({"optimizer": optimizer})
    assert list(tree["optimizer"]["state"]) == ["#0", "#1", "#2", "#3", "#4"]
    other = torch.optim.Adam(net.parameters())
    load_into({"optimizer": other}, tree, "here")
    assert _moments(net, other, "exp_avg") == _moments(net, optimizer, "exp_avg")


@pytest.mark.parametrize(
    ("make", "slot"),
    [
        (lambda params: torch.optim.Adam(params, 0.01), "exp_avg"),
        (lambda params: torch.optim.AdamW(params, 0.01, amsgrad=True), "max_exp_avg_sq"),
        (lambda params: torch.optim.SGD(params, 0.01, momentum=0.9), "momentum_buffer"),
    ],
    ids=["Adam", "AdamW", "SGD with momentum"],
)
def test_reordered_parameters_get_their_own_moments(make: Callable[[Any], torch.optim.Optimizer], slot: str) -> None:
    """An optimizer built with the parameters in another order goes on as the first one would have."""
    net = _net()
    optimizer = make(list(net.parameters()))
    _train(net, optimizer)
    trees = state_of({"model": net, "optimizer": optimizer})
    other_net = _net(1)
    other = make(list(other_net.parameters())[::-1])
    load_into({"model": other_net, "optimizer": other}, trees, "here")
    assert _moments(other_net, other, slot) == _moments(net, optimizer, slot)
    assert len({tuple(values) for values in _moments(net, optimizer, slot).values()}) == 5


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_reordered_groups_get_their_own_settings_and_moments(kind: type[torch.optim.Optimizer]) -> None:
    """Groups handed over in another order keep their own learning rate and slots."""
    options: dict[str, Any] = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    slot = "momentum_buffer" if kind is torch.optim.SGD else "exp_avg"

    def build(net: _Net, head_first: bool, lr: float) -> torch.optim.Optimizer:
        head = {"params": list(net.second.parameters()), "lr": lr * 10}
        rest = {"params": [*net.first.parameters(), net.scale], "lr": lr}
        return kind([head, rest] if head_first else [rest, head], **options)

    net, other_net = _net(), _net(1)
    optimizer, other = build(net, True, 0.01), build(other_net, False, 0.5)
    _train(net, optimizer)
    load_into({"m": other_net, "o": other}, _saved({"m": net, "o": optimizer}), "here")
    assert [group["lr"] for group in other.param_groups] == [0.01, 0.1]
    assert _moments(other_net, other, slot) == _moments(net, optimizer, slot)


def test_training_goes_on_bit_for_bit_in_a_model_whose_layers_were_declared_in_another_order() -> None:
    """A refactored model with its layers declared the other way round continues exactly."""

    class Reordered(_Net):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.second = nn.Linear(3, 3)
            self.scale = nn.Parameter(torch.zeros(3))
            self.first = nn.Linear(3, 3)

    net, other = _net(), Reordered()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    other_optimizer = torch.optim.Adam(other.parameters(), 0.01)
    _train(net, optimizer)
    load_into({"m": other, "o": other_optimizer}, _saved({"m": net, "o": optimizer}), "here")
    _train(net, optimizer)
    _train(other, other_optimizer)
    own = dict(net.named_parameters())
    assert all(torch.equal(p, own[name]) for name, p in other.named_parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_goes_on_bit_for_bit(name: str) -> None:
    """Saved, restored into fresh objects and trained on, each optimizer ends where it would have without."""
    kind = getattr(torch.optim, name)
    net, other = _net(), _net(1)
    optimizer, other_optimizer = kind(net.parameters(), lr=0.01), kind(other.parameters(), lr=0.5)
    _train(net, optimizer)
    load_into({"m": other, "o": other_optimizer}, _saved({"m": net, "o": optimizer}), "here")
    _train(net, optimizer)
    _train(other, other_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_muon_goes_on_bit_for_bit() -> None:
    """Muon, which takes matrices only, continues exactly too."""
    nets = [_net(), _net(1)]
    optimizers = [torch.optim.Muon([n.first.weight, n.second.weight], lr=0.01) for n in nets]
    _train(nets[0], optimizers[0])
    load_into({"m": nets[1], "o": optimizers[1]}, _saved({"m": nets[0], "o": optimizers[0]}), "here")
    for net, optimizer in zip(nets, optimizers, strict=True):
        _train(net, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_an_optimizer_that_has_not_stepped_restores() -> None:
    """No slots yet is a state like any other; the settings come back."""
    net = _net()
    trees = state_of({"m": net, "o": torch.optim.Adam(net.parameters(), 0.25)})
    other = torch.optim.Adam(net.parameters(), 0.5)
    load_into({"m": net, "o": other}, trees, "here")
    assert other.param_groups[0]["lr"] == 0.25
    assert not other.state


def test_an_empty_group_restores() -> None:
    """A group whose parameters are all frozen away is kept with its settings."""
    net = _net()
    groups = [{"params": [], "lr": 0.25}, {"params": list(net.parameters())}]
    trees = state_of({"m": net, "o": torch.optim.SGD(groups, lr=0.5)})
    other = torch.optim.SGD([{"params": [], "lr": 1.0}, {"params": list(net.parameters())}], lr=1.0)
    load_into({"m": net, "o": other}, trees, "here")
    assert [group["lr"] for group in other.param_groups] == [0.25, 0.5]


def test_dicts_lists_and_tensors_are_filled_in_place() -> None:
    """The objects that the caller holds are changed, not replaced."""
    counters, history, mean = {"step": 0, "gone": 1}, [1, 2, 3], torch.zeros(2)
    load_into(
        {"counters": counters, "history": history, "mean": mean},
        {"counters": {"step": 5}, "history": [9], "mean": torch.tensor([1.0, 2.0])},
        "here",
    )
    assert (counters, history, mean.tolist()) == ({"step": 5}, [9], [1.0, 2.0])


def test_what_was_saved_and_not_asked_for_is_left_alone() -> None:
    """Restoring some of the parts is allowed."""
    counters: dict[str, int] = {}
    load_into({"counters": counters}, {"counters": {"step": 5}, "other": {"a": 1}}, "here")
    assert counters == {"step": 5}


def _snapshot(parts: dict[str, Any]) -> str:
    return repr(state_of(parts))


def test_loading_fails_with_all_differences_at_once_and_changes_nothing() -> None:
    """Missing, surplus and reshaped tensors, other groups and absent parts are all in one message."""
    saved_net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    saved = state_of({"model": saved_net, "o": torch.optim.SGD(saved_net.parameters()), "counters": {"step": 9}})
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2))
    optimizer = torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=1.0)
    parts = {"counters": {"step": 0}, "model": net, "o": optimizer, "ema": {"w": 1}}
    before = _snapshot(parts)
    with pytest.raises(CheckpointMismatch) as caught:
        load_into(parts, saved, "runs/a/step-00000009")
    message = str(caught.value)
    assert message.startswith("Loading runs/a/step-00000009: 12 differences from what was saved:\n")
    for line in (
        "part 'ema' was not saved",
        "model: 1.running_mean is missing in the checkpoint",
        "model: 2.weight is missing in the checkpoint",
        "model: 1.weight is in the checkpoint and not in the model",
        "model: 0.weight was saved with shape [4, 3], the model has [5, 3]",
        "model: 0.bias was saved with shape [4], the model has [5]",
    ):
        assert f"  {line}\n" in message
    assert "  … and 2 more\n" in message
    assert _snapshot(parts) == before


def test_loading_fails_when_the_groups_hold_other_parameters() -> None:
    """A group that was split since is named by its first and last parameter."""
    net = _net()
    saved = state_of({"m": net, "o": torch.optim.SGD(net.parameters())})
    other = torch.optim.SGD([{"params": list(net.first.parameters())}, {"params": list(net.second.parameters())}])
    with pytest.raises(CheckpointMismatch, match=r"2 differences") as caught:
        load_into({"m": net, "o": other}, saved, "here")
    assert "o: no saved group holds just the 2 parameters m.first.weight … m.first.bias" in str(caught.value)
    assert "o: no saved group holds just the 2 parameters m.second.weight … m.second.bias" in str(caught.value)


def test_loading_fails_when_slots_are_of_a_parameter_that_is_gone() -> None:
    """Saved moments that nobody can take are a difference, not a silent loss."""
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    _train(net, optimizer, 1)
    saved = state_of({"m": net, "o": optimizer})
    other = torch.optim.Adam(list(net.parameters())[:-1])
    with pytest.raises(CheckpointMismatch, match=r"o: saved slots for m\.second\.bias, which the optimizer does not"):
        load_into({"m": net, "o": other}, saved, "here")


def test_loading_fails_when_a_moment_has_another_shape_than_its_parameter() -> None:
    """Moments of other shapes are refused even where the model is not among the parts."""
    narrow, wide = nn.Linear(2, 2), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(narrow.parameters(), momentum=0.9)
    narrow(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    other = torch.optim.SGD(wide.parameters(), momentum=0.9)
    with pytest.raises(CheckpointMismatch, match=r"o: #0\.momentum_buffer has shape \[2, 2\], the parameter \[2, 3\]"):
        load_into({"o": other}, state_of({"o": optimizer}), "here")
    assert not other.state


@pytest.mark.parametrize(
    ("part", "saved", "message"),
    [
        (5, 6, "p: a int cannot be restored in place; put it into a dict"),
        ("text", "other", "p: a str cannot be restored in place; put it into a dict"),
        ({"a": 1}, [1], "p: was saved as a list, and is a dict now"),
        ([1], {"a": 1}, "p: was saved as a dict, and is a list now"),
        (torch.zeros(2), torch.zeros(1), "p: was saved with shape [1], the tensor has shape [2]"),
        (torch.zeros(2), {"a": 1}, "p: was saved with a dict, the tensor has shape [2]"),
        (nn.Linear(1, 1), [1], "p: what was saved is a list, not the state of a module"),
        (torch.optim.SGD([torch.zeros(1)]), {"lr": 1}, "p: what was saved is not the state of an optimizer"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_loading_fails_before_any_change_when_a_part_is_of_another_kind(part: Any, saved: Any, message: str) -> None:
    """A part that cannot take what was saved is found before the parts ahead of it are changed."""
    ahead = {"step": 0}
    with pytest.raises(CheckpointMismatch) as caught:
        load_into({"ahead": ahead, "p": part}, {"ahead": {"step": 5}, "p": saved}, "here")
    assert message in str(caught.value)
    assert ahead == {"step": 0}
