from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import nn

from holdfast.models.dynamic import DynamicNet


def _repeats(model: DynamicNet, calls: int) -> list[int]:
    """Counts how often the middle layer runs in each of `calls` forward passes."""
    counts: list[int] = []
    count = Counter[str]()
    hook = model.middle.register_forward_hook(lambda *_: count.update(["middle"]))
    for _ in range(calls):
        count.clear()
        model(torch.zeros(1, 1, 4, 4))
        counts.append(count["middle"])
    hook.remove()
    return counts


@pytest.mark.row("M3")
def test_the_hidden_layer_runs_0_to_3_times() -> None:
    """Over many calls the one hidden layer is used 0, 1, 2 and 3 times, never more."""
    random.seed(0)
    assert set(_repeats(DynamicNet(3, 1, 4, hidden=5), 60)) == {0, 1, 2, 3}


@pytest.mark.row("M3")
def test_the_same_seed_draws_the_same_graphs() -> None:
    """The graphs follow from the state of Python's generator and from nothing else."""
    model = DynamicNet(3, 1, 4, hidden=5)
    random.seed(7)
    first = _repeats(model, 20)
    random.seed(7)
    assert _repeats(model, 20) == first


@pytest.mark.row("M3")
def test_the_layer_is_shared_and_its_gradients_add_up() -> None:
    """However often it runs, there is one middle layer, whose gradient is that of every use of it."""
    torch.manual_seed(0)
    model = DynamicNet(2, 1, 2, hidden=4, max_repeats=3)
    assert sum(isinstance(m, nn.Linear) for m in model.modules()) == 3
    seed = next(s for s in range(100) if random.Random(s).randint(0, 3) == 2)
    x = torch.rand(3, 1, 2, 2)
    random.seed(seed)
    model(x).sum().backward()
    found = model.middle.weight.grad.clone()
    model.zero_grad()
    hidden = torch.relu(model.first(x.flatten(1)))
    model.last(torch.relu(model.middle(torch.relu(model.middle(hidden))))).sum().backward()
    assert torch.equal(found, model.middle.weight.grad)


def test_a_call_without_the_middle_layer_leaves_it_without_gradient() -> None:
    """With zero repeats the middle layer has no part in the result."""
    model = DynamicNet(2, 1, 2, hidden=4, max_repeats=0)
    model(torch.rand(1, 1, 2, 2)).sum().backward()
    assert model.middle.weight.grad is None
