from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from holdfast import TrainState, train_steps
from holdfast.errors import ConfigError
from holdfast.training import build_optimizer, build_schedule
from holdfast.training.optim import matches


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"body": nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 6)), "head": nn.Linear(6, 2)}
    )


def _groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[tuple[float, float], list[str]]:
    """Returns (lr, weight decay) → names of the parameters."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        (group["lr"], group["weight_decay"]): [names[id(p)] for p in group["params"]]
        for group in optimizer.param_groups
    }


@pytest.mark.row("T4")
@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_usual_optimizers_by_name(name: str, kind: type[torch.optim.Optimizer]) -> None:
    """The name gives torch's own optimizer."""
    assert type(build_optimizer(_net(), name, 0.1)) is kind


@pytest.mark.row("T4")
def test_sgd_has_nesterov_momentum() -> None:
    """The momentum is as asked; without momentum there is none of Nesterov's either."""
    assert {(g["momentum"], g["nesterov"]) for g in build_optimizer(_net(), "sgd", 0.1, momentum=0.8).param_groups} == {
        (0.8, True)
    }
    assert {g["nesterov"] for g in build_optimizer(_net(), "sgd", 0.1, momentum=0).param_groups} == {False}


@pytest.mark.row("T4")
def test_biases_and_norms_are_not_decayed() -> None:
    """Only weights of two dimensions and more are decayed."""
    model = _net()
    groups = _groups(model, build_optimizer(model, "adamw", 0.1, weight_decay=0.05))
    assert set(groups[0.1, 0.05]) == {"body.0.weight", "body.2.weight", "head.weight"}
    assert set(groups[0.1, 0.0]) == {"body.0.bias", "body.1.weight", "body.1.bias", "body.2.bias", "head.bias"}


@pytest.mark.row("T4")
def test_groups_have_rates_of_their_own() -> None:
    """A head at ten times and a first layer at a tenth of the rate: three rates, each parameter in one group."""
    model = _net()
    optimizer = build_optimizer(model, "sgd", 0.5, lr_scales={"head": 10.0, r"body\.0\..*": 0.1})
    groups = _groups(model, optimizer)
    assert {lr: set(names) for (lr, _), names in groups.items()} == {
        5.0: {"head.weight", "head.bias"},
        0.05: {"body.0.weight", "body.0.bias"},
        0.5: {"body.1.weight", "body.1.bias", "body.2.weight", "body.2.bias"},
    }


@pytest.mark.row("T4")
def test_the_first_pattern_that_fits_decides() -> None:
    """Patterns are tried in the order given."""
    model = _net()
    optimizer = build_optimizer(model, "sgd", 1.0, lr_scales={"body.0": 0.25, "body": 0.5})
    scales = {n: lr for (lr, _), names in _groups(model, optimizer).items() for n in names}
    assert (scales["body.0.weight"], scales["body.2.weight"], scales["head.weight"]) == (0.25, 0.5, 1.0)


@pytest.mark.row("T4")
def test_a_schedule_keeps_the_groups_proportions() -> None:
    """At every step each group has its factor times the scheduled rate."""
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, "sgd", 0.4, lr_scales={"bias": 0.5})
    state = TrainState(model, optimizer, F.cross_entropy, build_schedule("cosine", 0.4, 4))
    for result in train_steps(state, [(torch.rand(2, 3), torch.tensor([0, 1]))] * 4):
        rates = {lr for lr, _ in _groups(model, optimizer)}
        assert result.lr is not None
        assert rates == {result.lr, result.lr * 0.5}


@pytest.mark.row("T4")
def test_a_scaled_group_moves_by_its_own_rate() -> None:
    """Two parameters with the same gradient move in the proportion of their factors."""
    model = nn.ParameterDict({"slow": nn.Parameter(torch.zeros(1)), "fast": nn.Parameter(torch.zeros(1))})
    optimizer = build_optimizer(model, "sgd", 0.5, momentum=0, lr_scales={"fast": 4.0})
    (model["slow"] + model["fast"]).sum().backward()
    optimizer.step()
    assert (float(model["slow"].detach()), float(model["fast"].detach())) == (-0.5, -2.0)


@pytest.mark.row("M6", "T4")
def test_frozen_parameters_are_left_out() -> None:
    """A parameter without gradient is in no group."""
    model = _net()
    model["body"].requires_grad_(False)
    names = [n for group in _groups(model, build_optimizer(model, "sgd", 0.1)).values() for n in group]
    assert sorted(names) == ["head.bias", "head.weight"]


def test_further_arguments_are_torchs() -> None:
    """What is not ours is passed on."""
    optimizer = build_optimizer(_net(), "adamw", 0.1, betas=(0.8, 0.9), eps=1e-6)
    assert {(g["betas"], g["eps"]) for g in optimizer.param_groups} == {((0.8, 0.9), 1e-6)}


def test_fails_on_an_unknown_name() -> None:
    """The refusal lists the optimizers there are."""
    with pytest.raises(ConfigError, match=r"no optimizer 'lion'\. Choose one of: sgd, adamw, adam"):
        build_optimizer(_net(), "lion", 0.1)


def test_fails_when_a_pattern_names_nothing() -> None:
    """A factor for no parameter at all is a mistake, and is named."""
    with pytest.raises(ConfigError, match="No parameter to train is called heed"):
        build_optimizer(_net(), "sgd", 0.1, lr_scales={"heed": 2.0, "head": 3.0})


def test_fails_when_everything_is_frozen() -> None:
    """There is nothing to train, and the message says so."""
    with pytest.raises(ConfigError, match="Every parameter of the model is frozen"):
        build_optimizer(_net().requires_grad_(False), "sgd", 0.1)


@pytest.mark.parametrize("args", [{"speed": 3}, {"eps": "tiny"}])
def test_fails_on_arguments_torch_refuses(args: dict[str, object]) -> None:
    """What torch does not take is a configuration error that names optimizer and argument."""
    with pytest.raises(ConfigError, match=f"Building the optimizer adamw with .*{next(iter(args))}"):
        build_optimizer(_net(), "adamw", 0.1, **args)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("fc", "fc.weight", True),
        ("fc.weight", "fc.weight", True),
        ("fc", "fc2.weight", False),
        ("layer4.1", "layer4.1.conv1.weight", True),
        ("layer4.1", "layer4.10.conv1.weight", False),
        (r".*\.bias", "fc.bias", True),
        (r"\.bias", "fc.bias", False),
    ],
)
def test_a_pattern_is_a_name_its_beginning_or_a_regular_expression(pattern: str, name: str, expected: bool) -> None:
    """Beginnings end at a dot, and a regular expression has to match the whole name."""
    assert matches(pattern, name) is expected


def test_fails_when_a_pattern_is_no_regular_expression() -> None:
    """A shell wildcard such as `*` is refused with what it should have been."""
    with pytest.raises(ConfigError, match=r"'\*fc' is neither a name nor a regular expression \(.*\).*'\.\*fc'"):
        matches("*fc", "fc.weight")
