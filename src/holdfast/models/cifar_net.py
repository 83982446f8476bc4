"""The two-convolution, three-linear net of PyTorch's CIFAR-10 tutorial, for any input of 16 × 16 pixels or more."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class CifarNet(nn.Module):
    """Two 5 × 5 convolutions with pooling, three linear layers, dropout before the last.

    Args:
        num_classes: K.
        in_channels: 3 or 1.
        image_size: side of the square input in pixels, 16 or more.
        width: channels of the first convolution; the second has twice as many.
        dropout: probability in [0, 1) before the last layer.
    """

    min_image_size = 16

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, width, 5)
        self.conv2 = nn.Conv2d(width, 2 * width, 5)
        self.fc1 = nn.Linear(2 * width * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.dropout = nn.Dropout(dropout)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[B, C, S, S]` float32 to logits `[B, K]`."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(self.dropout(x))
        return logits
