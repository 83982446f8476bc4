"""Measures what a training does to a picture with points: both go through every step together, and each has its name.

Unlike other pictures they are finished where they are prepared: pixels become floats and are normalised by the workers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from holdfast.data.cache.key import Prefix
from holdfast.data.preprocessing.encoded import Encoded
from holdfast.data.preprocessing.keypoints import JointTransform, steps_of
from holdfast.data.sample import Pictures
from holdfast.data.speed.clock import Clock
from holdfast.data.speed.decode_stages import decode_in_stages
from holdfast.data.targets import targets_of
from holdfast.errors import DataError

# What no augmentation can do without; the advice knows them by the words in front.
_CROPS = (v2.Resize, v2.CenterCrop, v2.RandomResizedCrop)
_POINTS = ("FromEdge", "AcrossInput")


def prepare_joint(
    clock: Clock,
    encoded: Encoded,
    opened: Callable[[], Encoded] | None,
    prefix: Prefix,
    transform: JointTransform,
    other_side: int | None,
    pictures: Pictures,
    index: int,
) -> tuple[Tensor, Tensor]:
    """Returns the network's input `[C, S, S]` and the points `[P, 2]`, as the loader's workers make them.

    Args:
        encoded, opened, prefix, other_side: see `decode_in_stages`.
        transform: of `joint_train_transform`.
        pictures, index: which picture, for its points and its name.

    Raises:
        DataError: a transform of the user's own does not return picture and points.
    """
    small = decode_in_stages(clock, encoded, opened, prefix, prefix.most_reduced(encoded), other_side)
    targets = targets_of(pictures)
    points = clock.time("points (of the table)", "transform", lambda: targets.of(index, small))
    both: Any = (tv_tensors.Image(small), points)
    together, finishing = steps_of(transform)
    for step in together:
        both = clock.time(_name_of(step), "transform", partial(step, *both))
        if not (isinstance(both, tuple) and len(both) == 2 and all(isinstance(one, Tensor) for one in both)):
            raise DataError(
                f"The transform made a {type(both).__name__} of {pictures.name(index)}; expected a picture and "
                "its points, both tensors."
            )
    picture, placed = (cast(Tensor, one).as_subclass(Tensor) for one in both)
    if picture.dtype == torch.uint8:
        for finish in finishing:
            picture = clock.time(_name_of(finish), "finish", partial(finish, picture))
    return picture, placed


def _name_of(step: Any) -> str:
    """Returns a step's name, behind what it is part of where no training goes without it."""
    name = str(getattr(step, "__name__", type(step).__name__)).lstrip("_")
    if isinstance(step, _CROPS):
        return f"crop and resize ({name})"
    return f"points ({name})" if name in _POINTS else name
