from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from holdfast import Stateful, TrainState
from holdfast.training import build_schedule


def _state(**settings: object) -> TrainState:
    model = nn.Linear(2, 2)
    return TrainState(model, torch.optim.SGD(model.parameters(), lr=0.3), F.cross_entropy, **settings)


def test_the_counters_come_back() -> None:
    """Step and seed survive state_dict and load_state_dict."""
    state = _state(seed=7, step=41)
    assert state.state_dict() == {"step": 41, "seed": 7}
    fresh = _state()
    fresh.load_state_dict(state.state_dict())
    assert (fresh.step, fresh.seed) == (41, 7)


def test_its_parts_are_what_a_checkpoint_asks_for() -> None:
    """Model, optimizer and counters are parts of their own, and each is Stateful."""
    state = _state()
    parts = state.parts()
    assert parts == {"model": state.model, "optimizer": state.optimizer, "progress": state}
    assert all(isinstance(part, Stateful) for part in parts.values())


def test_without_a_schedule_no_rate_is_touched() -> None:
    """The groups' own rates stay, and no scheduled rate is reported."""
    state = _state()
    assert state.set_learning_rates() is None
    assert state.optimizer.param_groups[0]["lr"] == 0.3


def test_with_a_schedule_the_rate_is_that_of_the_coming_step() -> None:
    """The rate is a function of the step that is about to be made."""
    state = _state(schedule=build_schedule("step", 1.0, 9), step=3)
    state.optimizer.param_groups[0]["lr_scale"] = 0.5
    assert state.set_learning_rates() == 0.1
    assert state.optimizer.param_groups[0]["lr"] == 0.05


def test_the_device_is_where_the_parameters_lie() -> None:
    """A model without parameters counts as one on the CPU."""
    assert _state().device == torch.device("cpu")
    bare = TrainState(nn.Flatten(), torch.optim.SGD([torch.zeros(1)], lr=0.1), F.cross_entropy)
    assert bare.device == torch.device("cpu")
    meta = nn.Linear(1, 1, device="meta")
    assert TrainState(meta, torch.optim.SGD(meta.parameters()), F.cross_entropy).device == torch.device("meta")
