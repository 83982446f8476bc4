from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.optim
import torch
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.named_state import load_into, state_of
from holdfast.checkpoints.random_state import RandomState
from holdfast.errors import CheckpointMismatch, UnsupportedState

OPTIMIZERS = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD",
]  # fmt: skip
# One of each way in which timm's keep their state; a generator of their own have AdaHessian and Kron.
TIMM_OPTIMIZERS = [
    "adabelief", "adafactor", "adafactorbv", "adahessian", "adamp", "adan", "adopt", "cadamw", "kron", "lamb", "laprop",
    "larc", "lion", "lookahead_adahessian", "lookahead_adamw", "lookahead_sgd", "madgrad", "mars", "muon", "nadamw",
    "novograd", "radam", "rmsproptf", "sgdp",
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


def test_loading_fails_when_the_groups_hold_other_parameters() -> None:
    """A parameter that is in no group any more is named; the groups cannot match then, and are not listed too."""
    net = _net()
    saved = state_of({"m": net, "o": torch.optim.SGD(net.parameters())})
    other = torch.optim.SGD([{"params": list(net.first.parameters())}, {"params": list(net.second.parameters())}])
    with pytest.raises(CheckpointMismatch, match=r"1 difference from") as caught:
        load_into({"m": net, "o": other}, saved, "here")
    assert "o: m.scale [3] was saved, and the optimizer does not have it\n" in str(caught.value)


def test_loading_fails_when_slots_are_of_a_parameter_that_is_gone() -> None:
    """Saved moments that nobody can take are a difference, not a silent loss."""
    net = _net()
    optimizer = torch.optim.Adam(net.parameters())
    _train(net, optimizer, 1)
    saved = state_of({"m": net, "o": optimizer})
    other = torch.optim.Adam(list(net.parameters())[:-1])
    with pytest.raises(CheckpointMismatch, match=r"o: m\.second\.bias \[3\] was saved, and the optimizer does not"):
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


def _again(folder: Path, parts: dict[str, Any], fresh: dict[str, Any]) -> None:
    """Saves `parts` and restores them into `fresh`, through files."""
    store = CheckpointStore(folder)
    store.save(1, parts)
    assert store.restore_latest(fresh) == 1


def _equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", TIMM_OPTIMIZERS)
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph:UserWarning")  # AdaHessian has to
@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum':UserWarning")
@torch.compiler.set_stance("force_eager")  # Kron compiles itself, which takes seconds
def test_optimizers_of_timm_go_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Those of timm continue exactly: what they keep beside the slots, and the generators they draw from, included."""
    nets = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2)]
    optimizers = [
        timm.optim.create_optimizer_v2(net, opt=name, lr=lr) for net, lr in zip(nets, (0.01, 0.5), strict=True)
    ]

    def train(index: int) -> None:
        x = torch.arange(12.0).reshape(4, 3) / 10
        for _ in range(7):
            optimizers[index].zero_grad()
            loss = (nets[index](x) - x.flip(1)).pow(2).sum()
            loss.backward(create_graph=getattr(optimizers[index], "is_second_order", False))
            optimizers[index].step()

    train(0)
    randomness = RandomState()  # Kron draws from torch's generator
    _again(tmp_path, {"m": nets[0], "o": optimizers[0]}, {"m": nets[1], "o": optimizers[1]})
    start = randomness.state_dict()
    train(0)
    randomness.load_state_dict(start)
    train(1)
    assert _equal(*nets)


def test_sparse_adam_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Sparse gradients have dense moments, which come back."""
    nets = [nn.Embedding(5, 2, sparse=True) for _ in range(2)]
    optimizers = [torch.optim.SparseAdam(net.parameters(), lr=lr) for net, lr in zip(nets, (0.1, 0.5), strict=True)]

    def train(index: int) -> None:
        for row in (1, 3, 1):
            optimizers[index].zero_grad()
            nets[index](torch.tensor([row])).pow(2).sum().backward()
            optimizers[index].step()

    train(0)
    _again(tmp_path, {"m": nets[0], "o": optimizers[0]}, {"m": nets[1], "o": optimizers[1]})
    train(0)
    train(1)
    assert _equal(*nets)


def test_a_learning_rate_that_is_a_tensor_comes_back(tmp_path: Path) -> None:
    """Adam takes its rate as a tensor; the restored one is a tensor of the same bits, and is not shared."""
    net = _net()
    optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.1))
    other = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.5))
    _again(tmp_path, {"m": net, "o": optimizer}, {"m": net, "o": other})
    assert torch.equal(other.param_groups[0]["lr"], torch.tensor(0.1))


@pytest.mark.row("S7")
@pytest.mark.parametrize("saved_wrapped", [True, False], ids=["wrapped to plain", "plain to wrapped"])
def test_the_optimizer_of_a_wrapped_model_goes_on_in_the_plain_one(saved_wrapped: bool, tmp_path: Path) -> None:
    """Slots are under plain names: with DataParallel on one side only, weights, moments and the next steps agree."""
    nets = [_net(), _net(1)]
    wrapped = [saved_wrapped, not saved_wrapped]
    parts = [
        {"m": nn.DataParallel(net) if wrap else net, "o": torch.optim.Adam(net.parameters(), 0.01)}
        for net, wrap in zip(nets, wrapped, strict=True)
    ]
    _train(parts[0]["m"], parts[0]["o"])
    _again(tmp_path, *parts)
    assert list(CheckpointStore(tmp_path).open(1).tensors("m")) == list(_net().state_dict())
    assert "m.first.weight" in CheckpointStore(tmp_path).open(1).read("o")["state"]
    for part in parts:
        _train(part["m"], part["o"])
    assert _equal(*nets)


@pytest.mark.row("S4")
def test_one_optimizer_over_two_parts_and_two_over_one_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Which optimizer drives which part is free: the names tell the parameters of all parts apart."""

    def build(seed: int) -> tuple[dict[str, Any], nn.Module]:
        encoder, decoder, loose = _net(seed), _net(seed + 10), nn.Parameter(torch.full((3,), float(seed)))
        both = torch.optim.Adam([*decoder.parameters(), *encoder.first.parameters(), loose], 0.01)
        rest = torch.optim.SGD([encoder.scale, *encoder.second.parameters()], 0.01, momentum=0.9)
        whole = nn.Sequential(encoder, decoder)
        whole.register_parameter("loose", loose)
        return {"encoder": encoder, "decoder": decoder, "both": both, "rest": rest, "loose": loose}, whole

    (parts, whole), (fresh, other) = build(0), build(1)

    def train(model: nn.Module, of: dict[str, Any]) -> None:
        for _ in range(3):
            of["both"].zero_grad()
            of["rest"].zero_grad()
            (model(torch.ones(2, 3)) * of["loose"]).pow(2).sum().backward()
            of["both"].step()
            of["rest"].step()

    train(whole, parts)
    _again(tmp_path, parts, fresh)
    assert "#7" in CheckpointStore(tmp_path).open(1).read("both")["state"]
    train(whole, parts)
    train(other, fresh)
    assert _equal(whole, other)


def test_a_tied_parameter_is_found_under_any_of_its_names(tmp_path: Path) -> None:
    """Tied weights whose layers are declared the other way round now, in parts given the other way round, go on."""

    class Tied(nn.Module):
        def __init__(self, names: list[str]) -> None:
            super().__init__()
            layer = nn.Linear(2, 2, bias=False)
            for name in names:
                self.add_module(name, layer)

    one, other = Tied(["a", "b"]), Tied(["b", "a"])
    optimizer, fresh = (torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (one, other))
    next(one.parameters()).sum().backward()
    optimizer.step()
    _again(tmp_path, {"m": one, "head": one.a, "o": optimizer}, {"head": other.a, "o": fresh, "m": other})
    buffer = fresh.state[next(other.parameters())]["momentum_buffer"]
    assert torch.equal(buffer, torch.ones(2, 2))


def test_moments_keep_the_type_they_were_saved_in(tmp_path: Path) -> None:
    """Float32 moments of bfloat16 weights, and bytes, are not cast to the weights' type as torch alone would."""

    class Exact(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1})

        def step(self, _: None = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                slots = self.state[p]
                slots["mean"] = torch.full_like(p, 1 / 3, dtype=torch.float32)
                slots["codes"] = torch.tensor([1, 255], dtype=torch.uint8)
                slots["history"] = [torch.tensor([1 / 7], dtype=torch.float64)]

    net = nn.Linear(2, 2, bias=False).bfloat16()
    optimizer, fresh = Exact(net.parameters()), Exact(net.parameters())
    optimizer.step()
    _again(tmp_path, {"m": net, "o": optimizer}, {"m": net, "o": fresh})
    slots, saved = fresh.state[net.weight], optimizer.state[net.weight]
    assert [(slots[k].dtype, slots[k].tolist()) for k in ("mean", "codes")] == [
        (torch.float32, saved["mean"].tolist()),
        (torch.uint8, [1, 255]),
    ]
    assert slots["history"][0].item() == 1 / 7


class _TwoSteps(torch.optim.Optimizer):
    """As sharpness-aware minimisation: drives another optimizer by shared groups, hands out only its own state."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, options)
        self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base_optimizer.step(closure)


def test_saving_fails_when_an_optimizer_hides_the_state_of_another() -> None:
    """Momentum that no state_dict() hands out would be lost in silence; the message says how to save it."""
    net = _net()
    optimizer = _TwoSteps(net.parameters(), lr=0.01, momentum=0.9)
    state_of({"m": net, "o": optimizer})  # nothing to lose yet
    _train(net, optimizer)
    with pytest.raises(UnsupportedState, match=r"Saving o: its \.base_optimizer is an optimizer \(SGD\) whose state"):
        state_of({"m": net, "o": optimizer})


def test_an_optimizer_and_the_one_it_drives_go_on_bit_for_bit_as_two_parts(tmp_path: Path) -> None:
    """Both come back, and share their groups as before: a change of the rate reaches both."""
    nets = [_net(), _net(1)]
    optimizers = [_TwoSteps(net.parameters(), lr=0.01, momentum=0.9) for net in nets]
    parts = [{"m": net, "o": o, "base": o.base_optimizer} for net, o in zip(nets, optimizers, strict=True)]
    _train(nets[0], optimizers[0])
    _again(tmp_path, *parts)
    for net, optimizer in zip(nets, optimizers, strict=True):
        optimizer.param_groups[0]["lr"] = 0.005
        _train(net, optimizer)
    assert _equal(*nets)


def test_what_an_optimizer_hands_out_beside_slots_and_groups_comes_back(tmp_path: Path) -> None:
    """Keys of its own at the top, and state that belongs to no parameter, are kept."""

    class Counting(torch.optim.SGD):
        calls = 0

        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "calls": self.calls}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.calls = state_dict["calls"]
            super().load_state_dict({k: v for k, v in state_dict.items() if k != "calls"})

    net = _net()
    optimizer, fresh = Counting(net.parameters()), Counting(net.parameters())
    optimizer.calls = 7
    optimizer.state["shared"] = {"norm": 0.5}  # type: ignore[index]
    _again(tmp_path, {"m": net, "o": optimizer}, {"m": net, "o": fresh})
    assert (fresh.calls, fresh.state["shared"]) == (7, {"norm": 0.5})  # type: ignore[index]


def _message(parts: dict[str, Any], saved: dict[str, Any]) -> str:
    with pytest.raises(CheckpointMismatch) as caught:
        load_into(parts, saved, "here")
    return str(caught.value)


def test_loading_fails_with_every_parameter_that_only_one_side_has() -> None:
    """Other parameters are named at once, with the shapes that the model, a slot or the optimizer tells."""
    net, loose = nn.Linear(2, 3), torch.zeros(4)
    gone = nn.Parameter(torch.zeros(7))
    optimizer = torch.optim.SGD([*net.parameters(), gone], momentum=0.9)
    gone.sum().backward()
    optimizer.step()
    saved = _saved({"m": net, "o": optimizer})
    message = _message({"o": torch.optim.SGD([nn.Parameter(loose)])}, {"o": saved["o"], "m": saved["m"]})
    assert message.splitlines()[:5] == [
        "Loading here: 4 differences from what was saved:",
        "  o: #0 [4] is in the optimizer and was not saved with it (no part owns it: give its model too)",
        "  o: m.weight [3, 2] was saved, and the optimizer does not have it",
        "  o: m.bias [3] was saved, and the optimizer does not have it",
        "  o: #2 [7] was saved, and the optimizer does not have it (no part owned it)",
    ]


def test_loading_fails_when_the_groups_are_split_otherwise() -> None:
    """The groups that match none are named on both sides, by number, first and last parameter."""
    net = _net()
    saved = state_of({"m": net, "o": torch.optim.SGD(net.parameters())})
    head, rest = list(net.second.parameters()), [*net.first.parameters(), net.scale]
    message = _message({"m": net, "o": torch.optim.SGD([{"params": head}, {"params": rest}])}, saved)
    assert message.splitlines()[1:4] == [
        "  o: no saved group holds just the 2 parameters m.second.weight … m.second.bias",
        "  o: no saved group holds just the 3 parameters m.first.weight … m.scale",
        "  o: no group of this optimizer holds just the saved 5 parameters m.scale … m.second.bias",
    ]


def test_two_empty_groups_keep_their_own_settings() -> None:
    """Groups without parameters are told apart by their order, and one more or less is a difference."""
    net = _net()

    def build(*rates: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [], "lr": lr} for lr in rates] + [{"params": list(net.parameters())}])

    saved = state_of({"m": net, "o": build(0.1, 0.2)})
    other = build(0.5, 0.6)
    load_into({"m": net, "o": other}, saved, "here")
    assert [group["lr"] for group in other.param_groups] == [0.1, 0.2, 0.001]
    assert "no group of this optimizer holds just the saved 0 parameters\n" in _message(
        {"m": net, "o": build(0.5)}, saved
    )


def test_loading_fails_when_it_was_another_kind_of_optimizer() -> None:
    """SGD does not take the settings of Adam; a schedule's settings, or a newer torch's, are no difference."""
    net = _net()
    saved = state_of({"m": net, "o": torch.optim.RMSprop(net.parameters())})
    message = _message({"m": net, "o": torch.optim.Adagrad(net.parameters())}, saved)
    assert (
        "o: was saved with the options alpha, capturable, centered, momentum, and Adagrad has fused, "
        "initial_accumulator_value, lr_decay instead: it was another kind of optimizer\n"
    ) in message
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 3)
    fresh = torch.optim.SGD(net.parameters(), lr=0.5)
    fresh.defaults["new_option"] = fresh.param_groups[0]["new_option"] = 1
    load_into({"m": net, "o": fresh}, _saved({"m": net, "o": optimizer}), "here")
    assert fresh.param_groups[0]["lr"] == 0.1


def test_loading_fails_when_tied_parameters_were_two() -> None:
    """Two saved moments cannot go to one parameter."""
    net = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    saved = _saved({"m": net, "o": torch.optim.SGD(net.parameters())})
    net["b"] = net["a"]
    message = _message({"m": net, "o": torch.optim.SGD(net.parameters())}, saved)
    assert "  o: m.a.weight was saved as 2 parameters, which are one (tied) now\n" in message


def test_loading_fails_when_lbfgs_is_given_another_order() -> None:
    """The vectors of L-BFGS run over all parameters in their order, so another order is a difference."""
    net = _net()
    optimizer = torch.optim.LBFGS(net.parameters())
    _train(net, optimizer)
    saved = _saved({"m": net, "o": optimizer})
    other = torch.optim.LBFGS([*net.second.parameters(), net.scale, *net.first.parameters()])
    assert "parameter 0 was m.scale, is m.second.weight; hand them over in the saved order" in _message(
        {"m": net, "o": other}, saved
    )


def test_loading_fails_when_an_optimizers_generator_was_not_saved() -> None:
    """An optimizer that has come to draw random numbers needs their state."""

    class Noisy(torch.optim.SGD):
        rng: Any

    net = _net()
    saved = _saved({"m": net, "o": torch.optim.SGD(net.parameters())})
    optimizer = Noisy(net.parameters())
    optimizer.rng = np.random.default_rng(0)
    message = _message({"m": net, "o": optimizer}, saved)
    assert "  o.rng: what was saved is not the state of a generator\n" in message
