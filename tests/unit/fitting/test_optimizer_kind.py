from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm.optim
import torch
from torch import nn
from torch.optim import Optimizer

from holdfast.fitting.optimizer_kind import option_differences, slot_differences, slots_made
from holdfast.fitting.optimizer_slots import filled, shape_from_slots

MAKES: list[Callable[[Any], Optimizer]] = [
    lambda p: torch.optim.SGD(p, 0.1),
    lambda p: torch.optim.SGD(p, torch.tensor(0.1), momentum=0.9),
    lambda p: torch.optim.Adam(p, amsgrad=True),
    lambda p: torch.optim.AdamW(p, fused=True),
    lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9, foreach=True),
    torch.optim.Adagrad, torch.optim.Adadelta, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax,
    torch.optim.ASGD, torch.optim.Rprop, torch.optim.Adafactor,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 1, 1)], ids=str)
def test_the_slots_foretold_are_those_the_first_step_makes(
    make: Callable[[Any], Optimizer], shape: tuple[int, ...]
) -> None:
    """For every optimizer of torch and number of axes; the optimizer itself is not changed by looking."""
    parameter = nn.Parameter(torch.ones(shape))
    optimizer = make([parameter])
    before = repr(optimizer.state_dict())
    found = slots_made(optimizer, 0, len(shape))
    assert repr(optimizer.state_dict()) == before
    assert torch.equal(parameter, torch.ones(shape))
    parameter.grad = torch.ones(shape)
    optimizer.step()
    slots = filled(optimizer.state.get(parameter, {}))
    assert found == slots.keys()
    assert not slots or shape_from_slots(slots) == shape


def test_an_optimizer_of_others_is_not_stepped() -> None:
    """Its step may do anything; nothing is foretold."""

    class Other(torch.optim.SGD):
        def step(self, *_: Any) -> None:
            raise AssertionError("stepped")

    assert slots_made(Other([nn.Parameter(torch.ones(2))], 0.1), 0, 1) is None
    with_closure = torch.optim.LBFGS([nn.Parameter(torch.ones(2))])
    assert slots_made(with_closure, 0, 1) is None


def test_slots_of_others_are_held_against_those_that_are_live() -> None:
    """An optimizer of timm that has stepped says what it has."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = timm.optim.Lion([parameter])
    assert slot_differences(optimizer, [("w", parameter, 0, {"anything": 1})]) == []
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert slot_differences(optimizer, [("w", parameter, 0, {"exp_avg": 1})]) == []
    assert slot_differences(optimizer, [("w", parameter, 0, {"exp_avg": 1, "step": 1})]) == [
        "w has the slots step, and Lion as it is set up has nothing instead"
    ]


def test_options_that_decide_over_slots_must_agree() -> None:
    """momentum, amsgrad, centered; a group that lacks the option says nothing; older and newer options are fine."""
    parameter = nn.Parameter(torch.ones(2))
    sgd = torch.optim.SGD([parameter], 0.1, momentum=0.9)
    assert option_differences(sgd, [{"lr": 1, "momentum": 0.5, "nesterov": False}]) == []
    assert option_differences(sgd, [{"lr": 1, "momentum": 0}]) == ["it was saved with momentum=0, now it is 0.9"]
    assert option_differences(sgd, [{"lr": 1}]) == []
    adam = torch.optim.Adam([parameter])
    assert option_differences(adam, [{**adam.param_groups[0], "initial_lr": 1, "lr_scale": 0.5, "new": 1}]) == []
    (line,) = option_differences(adam, [{"lr": 0.1, "momentum": 0.9, "dampening": 0}])
    assert line.startswith("it was saved with the options dampening, momentum, and Adam has amsgrad, betas, ")


@pytest.mark.parametrize(
    ("slots", "shape"),
    [
        ({"exp_avg": torch.ones(3, 2), "exp_avg_sq": torch.ones(())}, (3, 2)),
        ({"row_var": torch.ones(4, 1), "col_var": torch.ones(1, 5), "step": torch.tensor(1.0)}, (4, 5)),
        ({"exp_avg_sq_r": torch.ones(1, 5, 3), "exp_avg_sq_c": torch.ones(4, 1, 3)}, (4, 5, 3)),
        ({"exp_avg": torch.ones(()), "step": 1}, ()),
        ({"exp_avg": torch.ones(3), "momentum_buffer": torch.ones(2)}, None),
        ({"precond": torch.ones(3, 3), "step": 1}, None),
        ({"momentum_buffer": None}, None),
        (None, None),
    ],
)
def test_slots_tell_their_parameters_shape_or_nothing(slots: Any, shape: tuple[int, ...] | None) -> None:
    """Moments have it, factors of moments make it up together; unknown and contradictory ones say nothing."""
    assert shape_from_slots(slots) == shape
