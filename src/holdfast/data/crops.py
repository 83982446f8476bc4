"""Which part of a picture is looked at, decided from its size alone, so that no pixel is decoded that nobody needs.

A crop *plans*: given height and width it draws its random numbers and says by how much the picture may be smaller when
it is decoded. Applied to a picture of full size, each gives what torchvision's transform of the same name does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F


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

    Source: Szegedy et al., Going deeper with convolutions, CVPR 2015; the numbers are drawn by torchvision.
    """

    def __init__(self, size: int, scale: tuple[float, float], interpolation: v2.InterpolationMode) -> None:
        self._size, self._interpolation = size, interpolation
        self._draw = v2.RandomResizedCrop(size, scale)

    def plan(self, height: int, width: int) -> Plan:
        """Draws a rectangle in a picture of this size and returns what to do with it."""
        drawn = self._draw.make_params([torch.empty((1, height, width), device="meta")])
        top, left, tall, wide = (int(drawn[key]) for key in ("top", "left", "height", "width"))

        def crop(picture: Tensor) -> Tensor:
            # Of a picture that was decoded smaller, the nearest rectangle of whole pixels.
            down, across = picture.shape[1] / height, picture.shape[2] / width
            rows = slice(round(top * down), max(round((top + tall) * down), round(top * down) + 1))
            columns = slice(round(left * across), max(round((left + wide) * across), round(left * across) + 1))
            sides = [self._size, self._size]
            resized: Tensor = F.resize(picture[:, rows, columns], sides, self._interpolation, antialias=True)
            return resized

        return Plan(max(min(tall, wide) / self._size, 1.0), crop)


class Whole:
    """The picture as it is, for a transform that does all by itself."""

    def plan(self, height: int, width: int) -> Plan:  # noqa: ARG002  # it wants every pixel
        """Returns the plan to change nothing."""
        return Plan(1.0, lambda picture: picture)
