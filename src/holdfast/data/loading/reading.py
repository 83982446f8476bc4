"""What a worker does for the loader with one sample: it reads and transforms it.

What goes wrong comes back as a value that names the picture, so that no traceback of another process wraps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torchvision import tv_tensors

from holdfast.data.preprocessing.augment import Numbers
from holdfast.data.preprocessing.encoded import can_open, decoded, open_picture
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Pictures
from holdfast.data.targets import Target, targets_of
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators


class Sample(NamedTuple):
    """One sample.

    Attributes:
        image: what the transform made; of a `StagedTransform`, what its first two stages made.
        target: the picture's target.
        picture: its place in its collection.
        numbers: those for the stages that are still to come.
    """

    image: Any
    target: Target
    picture: int
    numbers: Numbers = ()


class Failure:
    """A sample or a batch that could not be made."""

    def __init__(self, message: str) -> None:
        self.message = message


class ReadSample:
    """Reads and transforms the sample at (epoch, index). Holds no random state."""

    def __init__(self, pictures: Pictures, transform: Callable[..., Any] | None, seed: int) -> None:
        self.pictures, self.transform, self.seed = pictures, transform, seed
        self.targets = targets_of(pictures)
        # A user's code may write into what it gets, and a collection in memory gives views of itself.
        foreign = transform.foreign if isinstance(transform, StagedTransform) else transform is not None
        self._copies = foreign and not can_open(type(pictures))

    def __call__(self, epoch: int, index: int) -> Sample | Failure:
        """Returns the sample, or what kept it from being made."""
        transform, numbers = self.transform, cast(Numbers, ())
        try:
            picture = open_picture(self.pictures, index)
            if self._copies:
                picture = decoded(picture.decode(1.0).clone())
            image: Any = None if isinstance(transform, StagedTransform) else picture.decode(1.0)
            target = self.targets.of(index, image)
        except DataError as error:
            return Failure(str(error))
        except Exception as error:  # a collection of the user's own may raise anything
            return Failure(f"Reading {self.pictures.name(index)}: {type(error).__name__}: {error}")
        if transform is None:
            return Sample(image, target, index)
        seed = derive_seed("sample", self.seed, epoch, index)
        try:
            if isinstance(transform, StagedTransform):
                if transform.foreign:
                    seed_generators(seed)
                else:
                    torch.default_generator.manual_seed(seed)  # ours draw from no other one
                image, numbers = transform.cut(picture)
            else:
                seed_generators(seed)
                if self.targets.task == "landmarks":
                    image, target = transform(tv_tensors.Image(image), target)
                else:
                    image = transform(image)
        except DataError as error:  # a staged transform decodes, as far as it needs to
            return Failure(str(error))
        except Exception as error:  # a user's code may raise anything; the picture's name must not be lost
            return Failure(f"Transforming {self.pictures.name(index)}: {type(error).__name__}: {error}")
        return Sample(image, target, index, numbers)
