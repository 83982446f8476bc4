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
        if all(mirrored):
            return pictures.flip(-1)
        chosen = torch.tensor(mirrored, device=pictures.device)[:, None, None, None]
        return torch.where(chosen, pictures.flip(-1), pictures)

    def __call__(self, picture: Tensor) -> Tensor:
        """Maps `[C, H, W]` to itself or to its mirror image."""
        return self.apply(picture[None], [self.draw()])[0]


class ColorJitter:
    """Multiplies brightness, contrast and saturation by a number each, in an order of each picture's own.

    Args:
        strength: numbers are drawn from [1 - strength, 1 + strength]; 0 to 1.

    The bytes are torchvision's for pictures of up to 256 × 256; its mean of larger ones is rounded on the way. On a CPU
    many pictures get the bytes that each gets alone; another device rounds in its own way, and a byte here and there
    differs by one.

    Source: torchvision's `ColorJitter` and `adjust_brightness`, `adjust_contrast`, `adjust_saturation`.
    """

    num_numbers = 6  # which of the three comes first, second and third; then the three factors

    def __init__(self, strength: float) -> None:
        self._least, self._most = 1 - strength, 1 + strength

    def draw(self) -> Numbers:
        """Returns the order of the three and their factors."""
        # torchvision shuffles four: the last would turn the hue, and is not asked for.
        order = [kind for kind in torch.randperm(4).tolist() if kind < len(_CHANGES)]
        return (*order, *(torch.empty(1).uniform_(self._least, self._most).item() for _ in _CHANGES))

    def apply(self, pictures: Tensor, numbers: Sequence[Numbers]) -> Tensor:
        """Changes each picture's colours by its row; floats count as [0, 1]."""
        # Bytes as floats from the first change to the last, and planes one after another: half of the time.
        values = pictures.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        most = 255.0 if pictures.dtype == torch.uint8 else 1.0
        for turn in range(len(_CHANGES)):
            for kind, change in enumerate(_CHANGES):
                rows = [row for row, drawn in enumerate(numbers) if drawn[turn] == kind]
                factors = [numbers[row][len(_CHANGES) + kind] for row in rows]
                if len(rows) == len(numbers):
                    change(values, factors, most)
                elif rows:
                    place = torch.tensor(rows, device=values.device)
                    part = values[place]
                    change(part, factors, most)
                    values.index_copy_(0, place, part)
        # By way of whole numbers, which a CPU does in half the time.
        return values.to(torch.int32).to(torch.uint8) if pictures.dtype == torch.uint8 else values.to(pictures.dtype)

    def __call__(self, picture: Tensor) -> Tensor:
        """Maps `[C, H, W]` to the same shape."""
        return self.apply(picture[None], [self.draw()])[0]


def _brighten(values: Tensor, factors: Sequence[float], most: float) -> None:
    """Each change writes into `values`, `[N, C, H, W]` float32 in [0, `most`], whole numbers where `most` is 255."""
    _limit(values.mul_(_column(factors, values)), most)


def _contrast(values: Tensor, factors: Sequence[float], most: float) -> None:
    grey = _grey(values, most)
    rows = grey.sum(-1)
    # A sum of whole numbers is exact, in whatever order it is made: of a row in float32, of all rows in int64.
    mean = (rows.to(torch.int64) if most == 255 else rows).sum((1, 2)) / grey[0].numel()
    _blend(values, mean[:, None, None, None].expand(grey.shape).contiguous(), factors, most)


def _saturate(values: Tensor, factors: Sequence[float], most: float) -> None:
    if values.shape[1] > 1:
        _blend(values, _grey(values, most), factors, most)


def _blend(values: Tensor, other: Tensor, factors: Sequence[float], most: float) -> None:
    rest = _column([1 - factor for factor in factors], values)
    _limit(values.mul_(_column(factors, values)).addcmul_(other, rest), most)


def _limit(values: Tensor, most: float) -> None:
    values.clamp_(0, most)
    if most == 255:
        values.floor_()  # what storing them as bytes does


def _grey(values: Tensor, most: float) -> Tensor:
    """Returns `[N, 1, H, W]`: luma after ITU-R BT.601, of bytes a whole number."""
    if values.shape[1] == 1:
        return values
    red, green, blue = values[:, :1], values[:, 1:2], values[:, 2:]
    grey = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return grey.floor_() if most == 255 else grey


def _column(numbers: Sequence[float], values: Tensor) -> Tensor:
    """Returns `[N, 1, 1, 1]` float32, where the values are."""
    return torch.tensor(numbers, dtype=torch.float32, device=values.device)[:, None, None, None]


_CHANGES = (_brighten, _contrast, _saturate)
