"""A net whose graph changes at every call: one hidden layer, reused 0 to 3 times at random."""

from __future__ import annotations

import random

from torch import Tensor, nn
from torch.nn import functional as F


class DynamicNet(nn.Module):
    """Linear, the same hidden layer 0 to `max_repeats` times, linear.

    The number is drawn with Python's `random` at every call, in training and in evaluation. Both seed that generator
    from their position first, so a resumed run draws what the uninterrupted one would have drawn, and every picture
    that is evaluated meets the same graph.

    Args:
        num_classes: K.
        in_channels: channels of the input.
        image_size: side of the square input in pixels.
        hidden: width of the hidden layer.
        max_repeats: most times the hidden layer is applied.
    """

    min_image_size = 1

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, hidden: int = 100, max_repeats: int = 3
    ) -> None:
        super().__init__()
        self.max_repeats = max_repeats
        self.first = nn.Linear(in_channels * image_size * image_size, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[B, C, S, S]` float32 to logits `[B, K]`."""
        x = F.relu(self.first(images.flatten(1)))
        for _ in range(random.randint(0, self.max_repeats)):
            x = F.relu(self.middle(x))
        logits: Tensor = self.last(x)
        return logits
