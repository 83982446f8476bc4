"""Which part of a picture is looked at, decided from its size alone, so that no pixel is decoded that nobody needs.

A crop *plans*: given height and width it draws its random numbers and says by how much the picture may be smaller when
it is decoded. Applied to a picture of full size, each gives what torchvision's transform of the same name does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

_RATIOS = (3 / 4, 4 / 3)  # width to height
_LOG_RATIOS: tuple[float, float] = tuple(torch.log(torch.tensor(_RATIOS)).tolist())
# Where torch resizes bytes as they are; elsewhere torchvision knows what to do.
_RESIZES_BYTES = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


class Plan(NamedTuple):
    """What will be done with one picture.

    Attributes:
        most_reduced: how much smaller each side of the decoded picture may be, 1 or more.
        crop: maps the picture `[C, h, w]`, decoded at that size or any larger one, to `[C, S, S]`.
    """

    most_reduced: float
    crop: Callable[[Tensor], Tensor]


class Crop(Protocol):
    """Plans for a picture of `height` by `width` pixels; may draw from torch's generator."""

    def plan(self, height: int, width: int) -> Plan:
        """Returns what to do with it."""
        ...


class CentreCrop:
    """The centre, after the short side has been brought to `resize` pixels.

    Args:
        size: side of the square that is cut out, pixels.
        resize: the short side before it is cut, pixels.
    """

    def __init__(self, size: int, resize: int, interpolation: v2.InterpolationMode) -> None:
        self._resize = resize
        self._crop: Any = v2.Compose([v2.Resize(resize, interpolation, antialias=True), v2.CenterCrop(size)])

    def plan(self, height: int, width: int) -> Plan:
        """Returns what to do with a picture of this size."""
        return Plan(max(min(height, width) / self._resize, 1.0), self._crop)


class WholeSquare:
    """The whole picture, squeezed into a square of `size` pixels."""

    def __init__(self, size: int, interpolation: v2.InterpolationMode) -> None:
        self._size = size
        self._crop: Any = v2.Resize((size, size), interpolation, antialias=True)

    def plan(self, height: int, width: int) -> Plan:
        """Returns what to do with a picture of this size."""
        return Plan(max(min(height, width) / self._size, 1.0), self._crop)


class RandomResizedCrop:
    """A random rectangle, brought to a square of `size` pixels.

    Args:
        scale: least and largest share of the picture's area.

    Source: Szegedy et al., Going deeper with convolutions, CVPR 2015; proportions of 3:4 to 4:3. Numbers and pixels are
    those of torchvision's transform of this name, without its way through lists of any number of inputs: at 500 × 375
    that costs a fifth of what the resizing does.
    """

    def __init__(self, size: int, scale: tuple[float, float], interpolation: v2.InterpolationMode) -> None:
        self._size, self._scale, self._interpolation = size, scale, interpolation

    def plan(self, height: int, width: int) -> Plan:
        """Draws a rectangle in a picture of this size and returns what to do with it."""
        top, left, tall, wide = self._draw(height, width)

        def crop(picture: Tensor) -> Tensor:
            # Of a picture that was decoded smaller, the nearest rectangle of whole pixels that it has.
            rows, columns = picture.shape[1:]
            first, left_most = (
                min(round(top * rows / height), rows - 1),
                min(round(left * columns / width), columns - 1),
            )
            last = max(round((top + tall) * rows / height), first + 1)
            right_most = max(round((left + wide) * columns / width), left_most + 1)
            return _to_square(picture, (first, left_most, last, right_most), self._size, self._interpolation)

        return Plan(max(min(tall, wide) / self._size, 1.0), crop)

    def _draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns top, left, height and width of a rectangle of whole pixels in a picture of this size."""
        number, place = torch.empty(1), torch.empty(1, dtype=torch.int64)
        for _ in range(10):
            area = height * width * number.uniform_(*self._scale).item()
            ratio = number.uniform_(*_LOG_RATIOS).exp_().item()
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                top = place.random_(0, height - tall + 1).item()
                return int(top), int(place.random_(0, width - wide + 1).item()), tall, wide
        # A picture so long that nothing fits: its centre.
        tall = min(height, round(width / _RATIOS[0]))
        wide = min(width, round(height * _RATIOS[1]))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


class Whole:
    """The picture as it is, for a transform that does all by itself."""

    def plan(self, height: int, width: int) -> Plan:  # noqa: ARG002  # it wants every pixel
        """Returns the plan to change nothing."""
        return Plan(1.0, lambda picture: picture)


def _to_square(picture: Tensor, box: tuple[int, int, int, int], side: int, mode: v2.InterpolationMode) -> Tensor:
    """Returns what torchvision's `resize` makes of a part, by the shortest way to it. `[C, h, w]` → `[C, side, side]`.

    Args:
        box: the part: its first row and column, and those after its last.
    """
    top, left, bottom, right = box
    tall, wide = bottom - top, right - left
    if wide == 1:  # of one column torch's resize reads what is not the picture, where rows do not come last
        picture = picture.clone(memory_format=torch.contiguous_format)
    bilinear = mode == v2.InterpolationMode.BILINEAR
    if not (_RESIZES_BYTES and bilinear and picture.dtype == torch.uint8) or tall == wide == side:
        resized: Tensor = F.resize(picture[:, top:bottom, left:right], [side, side], mode, antialias=True)
        return resized
    # The part, as a batch of one with the strides of a batch of many: where channels come last torch then keeps them
    # so, and saves itself a third of the time, for taking them apart.
    channel, row, column = picture.stride()
    strides = (max(len(picture) * channel, tall * row, wide * column), channel, row, column)
    part = picture.as_strided(
        (1, len(picture), tall, wide), strides, picture.storage_offset() + top * row + left * column
    )
    return interpolate(part, (side, side), mode="bilinear", antialias=True)[0]
