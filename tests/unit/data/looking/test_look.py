import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.data import ArrayPictures, Collection, read_folder
from holdfast.data.looking.look import look_at
from holdfast.errors import DataError

pytestmark = pytest.mark.row("D7")


def test_a_grid_of_pictures_as_they_are(picture_folder: Path) -> None:
    """So many pictures, picked from all, with the first one's shape, and that of a batch."""
    look = look_at(read_folder(picture_folder), num=9, img_size=32)
    assert (look.num_pictures, look.first_shape, look.batch_shape) == (24, [3, 24, 32], [9, 3, 32, 32])
    assert look.grid.size == (1060, 300)


def test_a_grid_of_pictures_as_training_sees_them(picture_folder: Path) -> None:
    """An augmentation gives the shape of an input and of the batch, and natural colours again."""
    look = look_at(read_folder(picture_folder), num=4, augment="crop+flip", img_size=48)
    assert (look.first_shape, look.batch_shape) == ([3, 48, 48], [4, 3, 48, 48])
    plain = look_at(read_folder(picture_folder), num=4)
    means = [np.array(grid).reshape(-1, 3).mean(axis=0) for grid in (look.grid, plain.grid)]
    assert np.abs(means[0] - means[1]).max() < 40


def test_a_notebook_shows_the_grid(picture_folder: Path) -> None:
    """IPython asks for a PNG, which holds the grid to the pixel; printing tells the shapes of the first batch."""
    look = look_at(read_folder(picture_folder), num=4, img_size=32)
    with Image.open(io.BytesIO(look._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert picture.convert("RGB").tobytes() == look.grid.tobytes()
    assert str(look) == "first picture: [3, 24, 32]; first batch: inputs [4, 3, 32, 32], targets [4]"


def test_grey_pictures_are_augmented_too() -> None:
    """One channel stays one channel."""
    collection = Collection(ArrayPictures(np.full((6, 12, 12), 128, np.uint8), [0, 1] * 3))
    look = look_at(collection, num=3, augment="shift", img_size=16)
    assert look.batch_shape == [3, 1, 16, 16]


def test_a_set_may_be_chosen() -> None:
    """Only its pictures are shown: here the white ones, of which there are fewer than were asked for."""
    pixels = np.zeros((10, 8, 8), np.uint8)
    pixels[7:] = 255
    sets = {"train": np.arange(7), "val": np.arange(7, 10)}
    look = look_at(Collection(ArrayPictures(pixels, [0, 1] * 5), sets), num=32, set_name="val")
    assert look.num_pictures == 3
    assert look.grid.size == (400, 152)
    assert [look.grid.getpixel((68 + 132 * k, 68)) for k in range(3)] == [(255, 255, 255)] * 3


def test_the_seed_decides_what_is_picked() -> None:
    """Equal seeds give equal grids, another seed another one."""
    collection = Collection(
        ArrayPictures(np.arange(200, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2), [0, 1] * 100)
    )
    grids = [look_at(collection, num=5, seed=seed).grid.tobytes() for seed in (0, 0, 1)]
    assert grids[0] == grids[1]
    assert grids[0] != grids[2]


def test_looking_fails_when_there_is_no_such_set(picture_folder: Path) -> None:
    """The sets that there are are named, or that there are none."""
    collection = read_folder(picture_folder)
    with pytest.raises(DataError, match="There is no val set; there is no division into sets"):
        look_at(collection, set_name="val")
    collection.sets = {"train": np.arange(24)}
    with pytest.raises(DataError, match=r"There is no holdout set; there is train\."):
        look_at(collection, set_name="holdout")


def test_looking_fails_when_a_picture_cannot_be_read(picture_folder: Path) -> None:
    """The file is named."""
    for path in (picture_folder / "red").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"red/\d\.jpg: the file is empty"):
        look_at(read_folder(picture_folder))
