from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.training.freeze import freeze, train_mode


def _net() -> nn.Module:
    return nn.ModuleDict({"stem": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), "head": nn.Linear(2, 2)})


@pytest.mark.row("M6")
def test_names_what_it_froze_and_freezes_nothing_else() -> None:
    """A module's name freezes all its parameters, and no other."""
    model = _net()
    names = freeze(model, ["stem"])
    assert names == ["stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias"]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == names


@pytest.mark.row("M6")
def test_overlapping_patterns_count_once() -> None:
    """A parameter that two patterns name is frozen, and listed once."""
    assert freeze(_net(), ["stem.0", r"stem\.0\..*", "head.bias"]) == ["stem.0.weight", "stem.0.bias", "head.bias"]


def test_nothing_asked_nothing_frozen() -> None:
    """Without patterns every parameter trains."""
    model = _net()
    assert freeze(model, []) == []
    assert all(p.requires_grad for p in model.parameters())


def test_fails_on_a_pattern_that_names_nothing_and_freezes_nothing() -> None:
    """The refusal names the pattern, and the patterns before it have not been applied."""
    model = _net()
    with pytest.raises(ConfigError, match="Freezing 'hed': no parameter of the model is called so"):
        freeze(model, ["stem", "hed"])
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.row("M6")
def test_training_mode_spares_norms_that_are_wholly_frozen() -> None:
    """A frozen norm is in eval mode; one with a trained bias, and a dropout beside it, are in training mode."""
    model = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2), "drop": nn.Dropout(0.1)})
    freeze(model, ["a", "b.weight"])
    model.eval()
    train_mode(model)
    assert {name: m.training for name, m in model.items()} == {"a": False, "b": True, "drop": True}
    assert model.training


@pytest.mark.row("M6")
def test_norms_without_parameters_or_statistics_are_left_alone() -> None:
    """A norm without parameters of its own has nothing that is frozen; a layer norm has no statistics to keep."""
    model = nn.ModuleList([nn.BatchNorm1d(2, affine=False), nn.LayerNorm(2), nn.Linear(2, 2)])
    model.requires_grad_(False)
    train_mode(model)
    assert [m.training for m in model] == [True, True, True]


@pytest.mark.row("M6")
def test_detached_tensors_carry_no_gradient_back() -> None:
    """Through a detached tensor nothing flows back into the layers before it."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second(first(torch.rand(1, 2)).detach()).sum().backward()
    assert first.weight.grad is None and second.weight.grad is not None
