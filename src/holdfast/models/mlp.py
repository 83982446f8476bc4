"""A simple fully connected net."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class Mlp(nn.Module):
    """Flattens the picture and sends it through linear layers with rectified units between them.

    Args:
        num_classes: K.
        in_channels: channels of the input.
        image_size: side of the square input in pixels.
        hidden: widths of the hidden layers.
        dropout: probability in [0, 1) after each hidden layer.
    """

    min_image_size = 1

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: Sequence[int] = (256, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [in_channels * image_size * image_size, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[B, C, S, S]` float32 to logits `[B, K]`."""
        logits: Tensor = self.layers(images)
        return logits
