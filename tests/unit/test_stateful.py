from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.stateful import Stateful


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(1, 1),
        lambda: torch.optim.SGD([torch.zeros(1)]),
        lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)]), 1),
        lambda: torch.amp.GradScaler("cpu"),
    ],
    ids=["module", "optimizer", "scheduler", "scaler"],
)
def test_what_torch_saves_is_stateful(make: object) -> None:
    """Modules, optimizers, schedulers and scalers are stateful as they come."""
    assert callable(make) and isinstance(make(), Stateful)


def test_an_object_of_ones_own_is_stateful_by_its_two_methods() -> None:
    """No base class is needed."""

    class Mine:
        def state_dict(self) -> dict[str, int]:
            return {}

        def load_state_dict(self, state: dict[str, int]) -> None:
            pass

    assert isinstance(Mine(), Stateful)


@pytest.mark.parametrize("value", [{}, [], 5, torch.zeros(1), "text"], ids=lambda value: type(value).__name__)
def test_plain_values_are_not_stateful(value: object) -> None:
    """What has no such methods is saved as the tree it is."""
    assert not isinstance(value, Stateful)
