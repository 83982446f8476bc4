from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import load_into, open_checkpoint
from holdfast.errors import TooLittleMatched
from holdfast.fitting.row_names import names_of_row


def net(value: float) -> nn.Sequential:
    """Two linear layers around a batch norm, all parameters of one value."""
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for parameter in made.parameters():
        nn.init.constant_(parameter, value)
    return made


def row(model: nn.Module) -> list[Tensor]:
    """A model's parameters as torch_ema keeps their averages."""
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_an_average_kept_as_a_list_is_loaded_by_the_names_of_the_model_beside_it(wrapper: str, tmp_path: Path) -> None:
    """Statistics of the norm are in no such list; what was done is said, and the file's roles keep their numbers."""
    state = {wrapper + name: tensor for name, tensor in net(1).state_dict().items()}
    average = {"decay": 0.99, "num_updates": 3, "shadow_params": row(net(2))}
    torch.save({"model": state, "ema": average, "step": 1}, tmp_path / "c.pt")
    assert list(open_checkpoint(tmp_path / "c.pt").role("ema")) == ["0", "1", "2", "3", "4", "5"]
    model = net(0)
    report = load_into(model, tmp_path / "c.pt", role="ema")
    assert report.fraction == 1
    assert all((parameter == 2).all() for parameter in model.parameters())
    assert "its 6 tensors have no names: those of 'model'" in "".join(report.notes)


@pytest.mark.parametrize("change", ["one fewer", "another shape", "two models alike", "no model"])
def test_a_row_that_is_not_surely_that_model_gets_no_names(change: str, tmp_path: Path) -> None:
    """Another number, another shape, two models of these shapes, or none: nothing is guessed."""
    tensors, tree = row(net(2)), {"model": net(1).state_dict()}
    if change == "one fewer":
        tensors = tensors[:-1]
    elif change == "another shape":
        tensors[0] = tensors[0].t()
    elif change == "two models alike":
        tree["net2"] = net(3).state_dict()
    else:
        tree = {}
    torch.save({**tree, "ema": tensors}, tmp_path / "c.pt")
    with pytest.raises(TooLittleMatched):
        load_into(net(0), tmp_path / "c.pt", role="ema")


@pytest.mark.parametrize("names", [["0"], ["1", "0"], ["0", "2"], ["a", "b"]])
def test_only_the_numbers_of_a_list_are_a_row(names: list[str]) -> None:
    """Layers may be called by numbers, too."""
    model: dict[str, Any] = {f"x.{name}": torch.ones(2) for name in names}
    assert names_of_row({name: torch.ones(2) for name in names}, {"model": model}) is None
