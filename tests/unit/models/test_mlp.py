from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.models import build_model
from holdfast.models.mlp import Mlp


@pytest.mark.row("M2")
@pytest.mark.parametrize(("channels", "side"), [(1, 1), (1, 8), (3, 5), (3, 32)])
def test_answers_one_row_of_logits_a_picture(channels: int, side: int) -> None:
    """The fully connected net takes pictures of any size, one pixel included."""
    assert build_model("mlp", 6, channels, side)(torch.zeros(2, channels, side, side)).shape == (2, 6)


@pytest.mark.row("M2")
def test_hidden_widths_and_dropout_are_as_asked() -> None:
    """`hidden` gives the widths in order, and dropout stands after each hidden layer."""
    model = Mlp(3, 1, 4, hidden=(8, 5), dropout=0.25)
    widths = [(m.in_features, m.out_features) for m in model.layers if isinstance(m, nn.Linear)]
    assert widths == [(16, 8), (8, 5), (5, 3)]
    assert [m.p for m in model.layers if isinstance(m, nn.Dropout)] == [0.25, 0.25]


def test_computes_the_formula() -> None:
    """With one hidden layer the net is W2 relu(W1 x + b1) + b2."""
    torch.manual_seed(0)
    model = Mlp(3, 1, 2, hidden=(4,))
    first, last = model.layers[1], model.layers[-1]
    x = torch.rand(5, 1, 2, 2)
    expected = torch.relu(x.reshape(5, 4) @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(model(x), expected)
