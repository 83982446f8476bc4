"""Look at the data: a grid of labelled pictures, as they are or as training would see them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from holdfast.data.loading.loader import Loader
from holdfast.data.loading.order import epoch_order
from holdfast.data.looking.grid import draw_grid, unnormalise
from holdfast.data.preprocessing.keypoints import joint_train_transform
from holdfast.data.preprocessing.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    eval_transform,
    train_transform,
)
from holdfast.data.sample import Collection, SetName
from holdfast.data.tables.point_names import pairs_from_names, parse_flip_pairs
from holdfast.data.targets import Targets, targets_of
from holdfast.errors import DataError


@dataclass(frozen=True)
class Look:
    """What `look_at` found. A notebook shows the grid when this is a cell's last value.

    Attributes:
        grid: the pictures with their labels; `grid.show()` opens a window, `grid.save(path)` writes a PNG.
        num_pictures: how many it was picked from.
        first_shape: of the first picture shown, `[C, H, W]`.
        batch_shape, targets_shape: of a first batch as training would receive it: `[B, C, S, S]`, for classes `[B]`.
    """

    grid: Image.Image
    num_pictures: int
    first_shape: list[int]
    batch_shape: list[int]
    targets_shape: list[int]

    def __str__(self) -> str:
        batch = f"inputs {self.batch_shape}, targets {self.targets_shape}"
        return f"first picture: {self.first_shape}; first batch: {batch}"

    def _repr_png_(self) -> bytes:
        """The grid as a PNG; IPython asks for it by this name."""
        file = io.BytesIO()
        self.grid.save(file, "PNG")
        return file.getvalue()


def look_at(
    collection: Collection,
    *,
    num: int = 32,
    set_name: str | None = None,
    augment: str | None = None,
    img_size: int = 224,
    seed: int = 0,
    flip_pairs: str | None = None,
) -> Look:
    """Draws `num` pictures, picked at random by `seed`.

    Args:
        set_name: from this set only.
        augment: an augmentation's name: the pictures go through training's transform and are un-normalised again.
            Points go with them, and are drawn.
        img_size: the side of the network's input, pixels.
        flip_pairs: for `augment` of points, see `parse_flip_pairs`; None for left and right in their names.

    Raises:
        DataError: no such set, or a picture cannot be read.
    """
    pictures, sets = collection.pictures, collection.sets
    if set_name is not None and set_name not in sets:
        raise DataError(f"There is no {set_name} set; there is {', '.join(sets) or 'no division into sets'}.")
    indices = np.arange(len(pictures)) if set_name is None else sets[_as_set(set_name)]
    picked = indices[epoch_order(seed, 0, len(indices))[:num]]
    targets = targets_of(pictures)
    has_points = targets.task == "landmarks"
    captions = [_caption(targets, pictures.name(int(i)), int(i)) for i in picked]
    plain = [pictures.read(int(i)) for i in picked]
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if len(plain[0]) == 3 else ((0.449,), (0.226,))
    preprocessing = Preprocessing(img_size, img_size, mean, std, exact=has_points)
    transform: Callable[..., Any]
    if has_points:
        pairs = parse_flip_pairs(flip_pairs, targets.names) if flip_pairs else pairs_from_names(targets.names)
        transform = joint_train_transform(preprocessing, augment or "none", pairs)
    else:
        transform = eval_transform(preprocessing) if augment is None else train_transform(preprocessing, augment)
    batch = next(iter(Loader(pictures, picked, batch_size=len(picked), transform=transform, seed=seed)))
    shapes = list(batch.inputs.shape), list(batch.targets.shape)
    if augment is None:
        own = [torch.as_tensor(targets.of(int(i), image)) for i, image in zip(picked, plain, strict=True)]
        grid = draw_grid(plain, captions, points=own if has_points else None)
        return Look(grid, len(indices), list(plain[0].shape), *shapes)
    images = [unnormalise(image, preprocessing) for image in torch.unbind(batch.inputs)]
    # Across the input, [-1, 1], to its pixels.
    points = list((batch.targets + 1) * img_size / 2 - 0.5) if has_points else None
    return Look(draw_grid(images, captions, points=points), len(indices), list(images[0].shape), *shapes)


def _caption(targets: Targets, name: str, index: int) -> str:
    """Returns what stands below a picture: its class, labels or numbers; its name where points are drawn."""
    if targets.task == "landmarks":
        return name
    if targets.task == "regression":
        return "  ".join(f"{number:.5g}" for number in targets.values[index])
    return targets.text(index)


def _as_set(name: str) -> SetName:
    return "train" if name == "train" else "val" if name == "val" else "test"
