from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from holdfast.checkpoints.flatten import flatten
from holdfast.checkpoints.named_state import state_of
from holdfast.checkpoints.steady import is_steady, optimizers_of, steady_storages, version_of


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2)
        self.other = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.norm(self.frozen(x)))


def _trained() -> tuple[_Net, torch.optim.Optimizer]:
    net = _Net()
    optimizer = torch.optim.Adam([*net.norm.parameters(), net.other.weight])
    net(torch.randn(4, 2)).sum().backward()
    optimizer.step()
    return net, optimizer


def _steady_names(parts: dict[str, Any]) -> set[str]:
    steady = steady_storages(parts)
    return {
        f"{part}.{name}"
        for part, tree in state_of(parts).items()
        for name, tensor in flatten(tree, part).tensors.items()
        if tensor.data_ptr() in steady
    }


def test_what_an_optimizer_changes_is_steady_and_nothing_else() -> None:
    """Buffers, frozen parameters, and trainable ones that no optimizer among the parts has, are not."""
    net, optimizer = _trained()
    slots = {"norm.weight", "norm.bias", "other.weight"}
    assert _steady_names({"model": net, "optimizer": optimizer}) == {
        "model.norm.weight", "model.norm.bias", "model.other.weight",
        *(f"optimizer.state.model.{name}.{slot}" for name in slots for slot in ("step", "exp_avg", "exp_avg_sq")),
    }  # fmt: skip


def test_without_its_optimizer_nothing_of_a_model_is_steady() -> None:
    """Nobody would wait before the step, so all of it is copied at once; plain trees and an average too."""
    net, optimizer = _trained()
    average = torch.optim.swa_utils.AveragedModel(net)
    assert _steady_names({"model": net, "tree": {"w": torch.ones(1)}}) == set()
    assert not [name for name in _steady_names({"a": average, "o": optimizer}) if name.startswith("a.")]


def test_optimizers_are_found_among_the_parts() -> None:
    """Whatever else the parts are."""
    net, optimizer = _trained()
    assert optimizers_of({"model": net, "a": optimizer, "n": {"x": 1}}) == [optimizer]


def test_an_optimizer_within_another_counts_too() -> None:
    """Lookahead and its like step an optimizer of their own, which changes the weights all the same."""
    net, inner = _trained()

    class Outer(torch.optim.SGD):
        def __init__(self) -> None:
            super().__init__(net.other.parameters())
            self.inner = inner

    outer = Outer()
    assert optimizers_of({"o": outer}) == [outer, inner]
    assert net.norm.weight.data_ptr() in steady_storages({"o": outer})


def test_only_tensors_that_count_their_changes_are_steady() -> None:
    """One of inference mode does not, and its version is none."""
    tensor = torch.zeros(3)
    with torch.inference_mode():
        uncounted = torch.zeros(3)
    steady = {tensor.data_ptr(), uncounted.data_ptr()}
    assert (is_steady(tensor, steady), is_steady(tensor, set()), is_steady(uncounted, steady)) == (True, False, False)
    before = version_of(tensor)
    tensor[1:].add_(1)
    assert (version_of(tensor) - before, version_of(uncounted)) == (1, -1)


def test_empty_tensors_and_those_without_memory_are_passed_over() -> None:
    """They all lie nowhere: one of them says nothing of another."""
    empty, meta = nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(2, device="meta"))
    assert steady_storages({"o": torch.optim.SGD([empty, meta], 0.1)}) == set()
