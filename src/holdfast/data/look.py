"""Look at the data: a grid of labelled pictures, as they are or as training would see them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from holdfast.data.grid import draw_grid, unnormalise
from holdfast.data.loader import Loader
from holdfast.data.order import epoch_order
from holdfast.data.sample import Collection, SetName
from holdfast.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, eval_transform, train_transform
from holdfast.errors import DataError


@dataclass(frozen=True)
class Look:
    """What `look_at` found. A notebook shows the grid when this is a cell's last value.

    Attributes:
        grid: the pictures with their labels; `grid.show()` opens a window, `grid.save(path)` writes a PNG.
        num_pictures: how many it was picked from.
        first_shape: of the first picture shown, `[C, H, W]`.
        batch_shape: of a first batch as training would receive it, `[B, C, S, S]`.
    """

    grid: Image.Image
    num_pictures: int
    first_shape: list[int]
    batch_shape: list[int]

    def __str__(self) -> str:
        batch = self.batch_shape
        return f"first picture: {self.first_shape}; first batch: inputs {batch}, targets [{batch[0]}]"

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
) -> Look:
    """Draws `num` pictures, picked at random by `seed`.

    Args:
        set_name: from this set only.
        augment: an augmentation's name: the pictures go through training's transform and are un-normalised again.
        img_size: the side of the network's input, pixels.

    Raises:
        DataError: no such set, or a picture cannot be read.
    """
    pictures, sets = collection.pictures, collection.sets
    if set_name is not None and set_name not in sets:
        raise DataError(f"There is no {set_name} set; there is {', '.join(sets) or 'no division into sets'}.")
    indices = np.arange(len(pictures)) if set_name is None else sets[_as_set(set_name)]
    picked = indices[epoch_order(seed, 0, len(indices))[:num]]
    captions = [pictures.classes[pictures.labels[i]] for i in picked]
    plain = [pictures.read(int(i)) for i in picked]
    channels = len(plain[0])
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.449,), (0.226,))
    preprocessing = Preprocessing(img_size, img_size, mean, std)
    transform = eval_transform(preprocessing) if augment is None else train_transform(preprocessing, augment)
    batch = next(iter(Loader(pictures, picked, batch_size=len(picked), transform=transform, seed=seed)))
    images = plain if augment is None else [unnormalise(image, preprocessing) for image in torch.unbind(batch.inputs)]
    return Look(draw_grid(images, captions), len(indices), list(images[0].shape), list(batch.inputs.shape))


def _as_set(name: str) -> SetName:
    return "train" if name == "train" else "val" if name == "val" else "test"
