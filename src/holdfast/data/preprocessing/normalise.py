"""The last stage of every transform: bytes become the network's float32.

Where the model is on an accelerator that happens there, a batch at a time: bytes travel, a quarter of the floats. On a
CPU it happens where the picture was made, while it is in that core's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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

    def __call__(self, pictures: Tensor, into: Tensor | None = None) -> Tensor:
        """Maps `[C, H, W]` or `[B, C, H, W]`, uint8 or float, to float32 of the same shape; floats may be passed on.

        Args:
            into: float32 of that shape, on the same device, that is filled and returned; by default fresh memory.
        """
        if pictures.dtype != torch.uint8 and not self.floats:
            return pictures
        mean, std = _columns(self.mean, pictures.device), _columns(self.std, pictures.device)
        result = torch.empty(pictures.shape, dtype=torch.float32, device=pictures.device) if into is None else into
        # On a CPU one picture at a time stays in its cache: a third of the time of the whole batch at once.
        one_by_one = pictures.ndim == 4 and pictures.device.type == "cpu"
        for source, target in zip(pictures, result, strict=True) if one_by_one else ((pictures, result),):
            target.copy_(source)
            if pictures.dtype == torch.uint8:
                target.mul_(1 / 255)
            target.sub_(mean).div_(std)
        return result


@lru_cache(maxsize=64)
def _columns(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Returns `[C, 1, 1]` float32, to be read alone."""
    with torch.inference_mode(mode=False):  # wherever it was first asked for
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
