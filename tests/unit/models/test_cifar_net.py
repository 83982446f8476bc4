from __future__ import annotations

import pytest
import torch

from holdfast.errors import ConfigError
from holdfast.models import build_model
from holdfast.models.cifar_net import CifarNet


@pytest.mark.row("M1")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 17, 24, 32, 48, 65])
def test_answers_one_row_of_logits_a_picture(channels: int, side: int) -> None:
    """The CIFAR net takes grey and colour pictures of any side from 16 pixels on."""
    model = CifarNet(num_classes=4, in_channels=channels, image_size=side)
    assert model(torch.zeros(3, channels, side, side)).shape == (3, 4)


@pytest.mark.row("M1")
def test_has_two_convolutions_and_three_linear_layers() -> None:
    """With width 6 the linear layers are the tutorial's: 120, 84, 10."""
    model = CifarNet(10, 3, 32, width=6)
    kinds = [type(m).__name__ for m in model.children() if type(m).__name__ in ("Conv2d", "Linear")]
    assert kinds == ["Conv2d", "Conv2d", "Linear", "Linear", "Linear"]
    assert tuple(model.fc1.weight.shape) == (120, 12 * 5 * 5)
    assert tuple(model.fc2.weight.shape) == (84, 120)


@pytest.mark.row("M6")
def test_dropout_works_in_training_only() -> None:
    """In eval mode two calls agree to the bit; in training mode dropout makes them differ."""
    torch.manual_seed(0)
    model = CifarNet(10, 3, 32, dropout=0.5)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_fails_when_pictures_are_too_small() -> None:
    """Below 16 pixels the refusal names the size and the least size."""
    with pytest.raises(ConfigError, match=r"cifar-net needs pictures of 16 × 16 pixels at least; --img-size is 15"):
        build_model("cifar-net", 10, 3, 15)
