"""What a worker does for the loader: it reads and transforms a sample, and makes a batch of several.

What goes wrong comes back as a value that names the picture, so that no traceback of another process wraps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import tv_tensors

from holdfast.data.loading.handover import Handover, Left
from holdfast.data.preprocessing.encoded import open_picture
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Batch, Pictures
from holdfast.data.targets import Target, targets_of
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators

Item = tuple[Tensor, Target, int]
CollateFunction = Callable[[list[Item]], Any]


def collate(items: list[Item]) -> Batch:
    """Stacks inputs to `[B, ...]` and targets that are tensors; class indices and indices become `[B]` int64."""
    inputs, targets, indices = zip(*items, strict=True)
    # In a worker, torch's own stacks right into the memory that the main process will see.
    return Batch(default_collate(list(inputs)), _stacked(targets), torch.tensor(indices))


def _stacked(targets: Sequence[Target]) -> Tensor:
    return torch.stack([torch.as_tensor(target) for target in targets])


class Failure:
    """A sample or a batch that could not be made."""

    def __init__(self, message: str) -> None:
        self.message = message


class ReadSample:
    """Reads and transforms the sample at (epoch, index). Holds no random state."""

    def __init__(self, pictures: Pictures, transform: Callable[..., Any] | None, seed: int) -> None:
        self.pictures, self.transform, self.seed = pictures, transform, seed
        self.targets = targets_of(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, position: tuple[int, int]) -> Item | Failure:
        epoch, index = position
        transform = self.transform
        try:
            picture = open_picture(self.pictures, index)
            image: Any = None if isinstance(transform, StagedTransform) else picture.decode(1.0)
            target = self.targets.of(index, image)
        except DataError as error:
            return Failure(str(error))
        except Exception as error:  # a collection of the user's own may raise anything
            return Failure(f"Reading {self.pictures.name(index)}: {type(error).__name__}: {error}")
        if transform is not None:
            seed_generators(derive_seed("sample", self.seed, epoch, index))
            try:
                if isinstance(transform, StagedTransform):
                    image = transform.pixels(picture)
                elif self.targets.task == "landmarks":
                    image, target = transform(tv_tensors.Image(image), target)
                else:
                    image = transform(image)
            except DataError as error:  # a staged transform decodes, as far as it needs to
                return Failure(str(error))
            except Exception as error:  # a user's code may raise anything; the picture's name must not be lost
                return Failure(f"Transforming {self.pictures.name(index)}: {type(error).__name__}: {error}")
        return image, target, index


class Collate:
    """The collate function, passing failures on and naming the pictures whose shapes disagree."""

    def __init__(self, collate_fn: CollateFunction, pictures: Pictures, handover: Handover | None = None) -> None:
        self.collate_fn, self.pictures, self.handover = collate_fn, pictures, handover

    def __call__(self, items: list[Item | Failure]) -> Any:
        """Returns the batch, or the first failure among `items`."""
        for item in items:
            if isinstance(item, Failure):
                return item
        good = cast(list[Item], items)
        if self.collate_fn is collate:
            return self._misfit(good) or self._left(good) or collate(good)
        try:
            return self.collate_fn(good)
        except Exception as error:  # the user's code
            names = ", ".join(self.pictures.name(item[2]) for item in good[:3]) + (" …" if len(good) > 3 else "")
            return Failure(f"Making a batch of {names}: {type(error).__name__}: {error}")

    def _left(self, items: list[Item]) -> Left | None:
        place = None if self.handover is None else self.handover.leave([item[0] for item in items])
        if place is None:
            return None
        return Left(place, _stacked([item[1] for item in items]).numpy(), np.array([item[2] for item in items]))

    def _misfit(self, items: list[Item]) -> Failure | None:
        for item in items:
            image: object = item[0]  # a user's transform may return anything
            if not isinstance(image, Tensor):
                return Failure(
                    f"Making a batch: the transform made a {type(image).__name__} of {self.pictures.name(item[2])}; "
                    "expected a tensor. End it with v2.ToImage() and v2.ToDtype(torch.float32, scale=True)."
                )
        first = items[0]
        for other in items[1:]:
            if other[0].shape != first[0].shape:
                return Failure(
                    f"Making a batch: {self.pictures.name(first[2])} has shape {list(first[0].shape)} and "
                    f"{self.pictures.name(other[2])} {list(other[0].shape)} after the transform; expected one "
                    "shape. Let the transform resize or crop, or give a collate_fn."
                )
        return None
