from __future__ import annotations

import pytest
import torch

from holdfast.errors import ConfigError
from holdfast.models import build_model
from holdfast.models.lenet import LeNet


@pytest.mark.row("M1")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 11, 16, 23, 24, 28, 32, 33, 64, 97])
def test_answers_one_row_of_logits_a_picture(channels: int, side: int) -> None:
    """LeNet takes grey and colour pictures of any side from 8 pixels on."""
    model = LeNet(num_classes=7, in_channels=channels, image_size=side)
    assert model(torch.zeros(5, channels, side, side)).shape == (5, 7)


@pytest.mark.row("M1")
def test_at_32_pixels_it_has_the_layers_of_the_paper() -> None:
    """At 32 × 32 the layers are 6@5×5, 16@5×5, 120, 84, 10, after the paper's figure 2 (with a padded first layer)."""
    shapes = {name: tuple(p.shape) for name, p in LeNet(10, 1, 28).named_parameters() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv2.weight": (16, 6, 5, 5),
        "fc1.weight": (120, 16 * 5 * 5),
        "fc2.weight": (84, 120),
        "fc3.weight": (10, 84),
    }


def test_every_parameter_gets_a_gradient() -> None:
    """No layer of LeNet is left out of its graph."""
    torch.manual_seed(0)
    model = LeNet(3, 1, 28)
    model(torch.rand(4, 1, 28, 28)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_fails_when_pictures_are_too_small() -> None:
    """Below 8 pixels the refusal names the size, the least size, and what to do."""
    with pytest.raises(ConfigError, match=r"lenet needs pictures of 8 × 8 pixels at least; --img-size is 7.*mlp"):
        build_model("lenet", 10, 1, 7)
