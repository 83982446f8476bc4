"""The last stage of every transform: bytes become the network's float32, a batch at a time, where the model is.

Bytes travel: from worker to main process and from there to the device they are a quarter of the floats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalise:
    """Scales bytes to [0, 1], subtracts the mean and divides by the standard deviation, in float32.

    The values of a picture do not depend on the batch it is in. On one kind of device they have the bits of
    torchvision's `ToDtype(float32, scale=True)` and `Normalize`.

    Attributes:
        mean, std: per channel, for values in [0, 1].
        floats: what to do with pictures that are floats already: normalise them unscaled, or pass them on as they are.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    floats: bool = True

    def __call__(self, pictures: Tensor, empty: Callable[[tuple[int, ...]], Tensor] | None = None) -> Tensor:
        """Maps `[C, H, W]` or `[B, C, H, W]`, uint8 or float, to float32 of the same shape; floats may be passed on.

        Args:
            empty: makes the float32 tensor of that shape that is filled and returned; by default fresh memory where the
                pictures are.
        """
        if pictures.dtype != torch.uint8 and not self.floats:
            return pictures
        mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (self.mean, self.std))
        result = empty(pictures.shape) if empty else torch.empty(pictures.shape, device=pictures.device)
        # On a CPU one picture at a time stays in its cache: a third of the time of the whole batch at once.
        one_by_one = pictures.ndim == 4 and pictures.device.type == "cpu"
        for source, target in zip(pictures, result, strict=True) if one_by_one else ((pictures, result),):
            target.copy_(source)
            if pictures.dtype == torch.uint8:
                target.mul_(1 / 255)
            target.sub_(mean).div_(std)
        return result
