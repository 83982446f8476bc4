"""LeNet-5, with rectified units and max pooling, for any input of 8 × 8 pixels or more."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """Two convolutions and three linear layers.

    Args:
        num_classes: K.
        in_channels: 1 or 3 (any number works).
        image_size: side of the square input in pixels, 8 or more. At 32 the layers are those of the paper.

    Source: LeCun, Bottou, Bengio & Haffner, Gradient-Based Learning Applied to Document Recognition, 1998, fig. 2;
    ReLU and max pooling in place of tanh and subsampling, padding so that small pictures fit.
    """

    min_image_size = 8

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 32) -> None:
        super().__init__()
        side = image_size // 2
        # Below 12 × 12 the second convolution would have nothing left to look at without padding.
        padding = 0 if side >= 12 else 2
        side = (side + 2 * padding - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=padding)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[B, C, S, S]` float32 to logits `[B, K]`."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
