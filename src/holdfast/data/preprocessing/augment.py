"""Augmentation that can wait until a picture is in its batch, on the device: mirroring, and jittered colours.

A step *draws* one picture's numbers where the picture is read, from the generator that is seeded for this picture, so
they are a function of its position. It *applies* them to bytes of one picture or of many, wherever these are. A single
picture gets what torchvision's transform of the same name makes of it, random numbers and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Numbers = Sequence[float]


class BatchStep(Protocol):
    """One step of an augmentation, for pictures of one shape.

    Attributes:
        num_numbers: how many numbers one picture takes.
    """

    num_numbers: int

    def draw(self) -> Numbers:
        """Returns one picture's numbers, drawn from torch's generator."""
        ...

    def apply(self, pictures: Tensor, numbers: Sequence[Numbers]) -> Tensor:
        """Maps `[N, C, H, W]` uint8 to new ones of this shape, or to themselves, by N rows of numbers."""
        ...

    def __call__(self, picture: Tensor) -> Tensor:
        """Draws for one picture, `[C, H, W]` uint8, and applies it."""
        ...


class RandomFlip:
    """Mirrors a picture left to right, half of the time."""

    num_numbers = 1

    def draw(self) -> Numbers:
        """Returns 1 for a picture that is to be mirrored, else 0."""
        return (float(torch.rand(1).item() < 0.5),)

    def apply(self, pictures: Tensor, numbers: Sequence[Numbers]) -> Tensor:
        """Mirrors those whose number is 1."""
        mirrored = [row[0] == 1 for row in numbers]
        if not any(mirrored):
            return pictures
        return (
            pictures.flip(-1)
            if all(mirrored)
            else torch.where(_column(mirrored, pictures.device), pictures.flip(-1), pictures)
        )

    def __call__(self, picture: Tensor) -> Tensor:
        """Maps `[C, H, W]` to itself or to its mirror image."""
        return self.apply(picture[None], [self.draw()])[0]


class ColorJitter:
    """Multiplies brightness, contrast and saturation by a number each, in an order of each picture's own.

    Args:
        strength: numbers are drawn from [1 - strength, 1 + strength]; 0 to 1.

    On a CPU many pictures get the bytes that each gets alone; on another device sums are rounded in its own way, and a
    byte here and there differs by one.

    Source: torchvision's `ColorJitter` and `adjust_brightness`, `adjust_contrast`, `adjust_saturation`.
    """

    num_numbers = 6  # which of the three comes first, second and third; then the three factors

    def __init__(self, strength: float) -> None:
        self._least, self._most = 1 - strength, 1 + strength

    def draw(self) -> Numbers:
        """Returns the order of the three and their factors."""
        # torchvision shuffles four: the last would turn the hue, and is not asked for.
        order = [kind for kind in torch.randperm(4).tolist() if kind < len(_ONE)]
        return (*order, *(torch.empty(1).uniform_(self._least, self._most).item() for _ in _ONE))

    def apply(self, pictures: Tensor, numbers: Sequence[Numbers]) -> Tensor:
        """Changes each picture's colours by its row."""
        result = pictures if len(numbers) == 1 else pictures.clone()
        for turn in range(len(_ONE)):
            for kind in range(len(_ONE)):
                rows = [row for row, drawn in enumerate(numbers) if drawn[turn] == kind]
                factors = [numbers[row][len(_ONE) + kind] for row in rows]
                if len(numbers) == 1 and rows:
                    result = _ONE[kind](result, factors[0])
                elif rows:
                    place = torch.tensor(rows, device=pictures.device)
                    result.index_copy_(0, place, _MANY[kind](result[place], factors))
        return result

    def __call__(self, picture: Tensor) -> Tensor:
        """Maps `[C, H, W]` to the same shape."""
        return self.apply(picture[None], [self.draw()])[0]


def _brighter(pictures: Tensor, factors: list[float]) -> Tensor:
    return pictures.mul(_column(factors, pictures.device)).clamp_(0, 255).to(torch.uint8)


def _more_contrast(pictures: Tensor, factors: list[float]) -> Tensor:
    # A sum of whole numbers is the same in whatever order a device adds it up.
    grey = _grey(pictures)
    mean = grey.sum((1, 2, 3), dtype=torch.int64).to(torch.float32) / grey[0].numel()
    return _blended(pictures, mean[:, None, None, None], factors)


def _more_saturated(pictures: Tensor, factors: list[float]) -> Tensor:
    return pictures if pictures.shape[1] == 1 else _blended(pictures, _grey(pictures).float(), factors)


def _grey(pictures: Tensor) -> Tensor:
    return pictures if pictures.shape[1] == 1 else F.rgb_to_grayscale(pictures, 1)


def _blended(pictures: Tensor, other: Tensor, factors: list[float]) -> Tensor:
    rest = _column([1 - factor for factor in factors], pictures.device)
    return pictures.mul(_column(factors, pictures.device)).addcmul_(other, rest).clamp_(0, 255).to(torch.uint8)


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    """Returns `[N, 1, 1, 1]`, float32 or bool."""
    dtype = torch.bool if values and isinstance(values[0], bool) else torch.float32
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None, None]


_ONE = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
_MANY = (_brighter, _more_contrast, _more_saturated)
