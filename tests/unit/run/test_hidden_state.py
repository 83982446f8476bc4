"""State that no checkpoint holds is found, and what a checkpoint holds is not taken for it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from holdfast.run.hidden_state import hidden_state


class Inner(nn.Module):
    """A module with everything a checkpoint holds, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.zeros(()))


def _model() -> nn.Sequential:
    return nn.Sequential(Inner(), nn.BatchNorm1d(2))


def test_what_checkpoints_hold_is_not_hidden() -> None:
    """Parameters, persistent buffers and the training flag are left out; a constructor's arguments stay as they are."""
    model = _model()
    before = hidden_state(model)
    model.eval()
    with torch.no_grad():
        model[0].weight.add_(1)  # type: ignore[operator]
        model[0].count.add_(1)  # type: ignore[operator]
    assert hidden_state(model) == before
    assert before["model.1.eps"] == "1e-05"
    assert not any(name.endswith((".weight", ".count", ".training", "running_mean")) for name in before)


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: 0, lambda old: old + 1),
        (lambda: torch.zeros(2), lambda old: old.add_(1)),
        (lambda: [1, (2.0, None)], lambda old: old.append("x")),
        (lambda: {"a": torch.zeros(1)}, lambda old: old["a"].add_(1)),
        (lambda: {3, 1}, lambda old: old.add(2)),
        (lambda: np.zeros(2), lambda old: old.fill(1)),
        (lambda: random.Random(0), lambda old: old.random()),
        (lambda: np.random.default_rng(0), lambda old: old.random()),
        (lambda: torch.Generator().manual_seed(0), lambda old: torch.rand(1, generator=old)),
    ],
    ids=["number", "tensor", "list", "dict", "set", "array", "random", "numpy generator", "torch generator"],
)
def test_a_change_of_a_plain_attribute_shows(make: Callable[[], Any], change: Callable[[Any], Any]) -> None:
    """Counters, unregistered tensors, containers and generators of a model's own, by their dotted name."""
    model = _model()
    model[0].own = make()
    before = hidden_state(model)
    changed = change(model[0].own)
    if isinstance(model[0].own, int):
        model[0].own = changed
    after = hidden_state(model)
    assert [name for name in after if after[name] != before[name]] == ["model.0.own"]
    assert len(after["model.0.own"]) <= 42


def test_a_buffer_that_is_not_saved_is_hidden() -> None:
    """register_buffer(persistent=False) keeps it out of every checkpoint."""
    model = nn.Module()
    model.register_buffer("seen", torch.zeros(1), persistent=False)
    before = hidden_state(model)
    model.seen.add_(1)  # type: ignore[operator]
    assert before.keys() == {"model.seen"} and hidden_state(model) != before


def test_what_cannot_be_looked_into_is_left_out() -> None:
    """An object of another class, or a list with one in it, says nothing."""
    model = nn.Module()
    model.thing, model.things = object(), [1, object()]
    assert hidden_state(model) == {}


def test_a_loss_counts_with_all_it_holds() -> None:
    """A loss that is a module is in no checkpoint at all; a function has its attributes."""
    names = hidden_state(nn.Module(), Inner()).keys()
    assert names == {"loss.weight", "loss.count"}

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    assert hidden_state(nn.Module(), loss) == {}
    loss.calls = 3  # type: ignore[attr-defined]
    assert hidden_state(nn.Module(), loss) == {"loss.calls": "3"}
