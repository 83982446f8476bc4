"""Colour to grey and grey to colour, the same for every decoder."""

from __future__ import annotations

import torch
from torch import Tensor


def to_channels(pixels: Tensor, channels: int) -> Tensor:
    """Returns `[C, H, W]` uint8 pixels with `channels` channels.

    Grey is repeated; colour becomes ITU-R 601-2 luma in integers, the arithmetic of Pillow's `convert("L")`, so that
    all decoders agree to the bit.

    Args:
        pixels: C of 1 or 3.
        channels: 1 or 3.
    """
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return pixels.expand(3, -1, -1).contiguous()
    red, green, blue = pixels.to(torch.int32)
    luma: Tensor = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma.to(torch.uint8)[None]
