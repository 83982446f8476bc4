import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data.looking.grid import draw_grid, unnormalise
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, eval_transform

pytestmark = pytest.mark.row("D7")


def plain(colour: tuple[int, ...], height: int = 10, width: int = 10) -> torch.Tensor:
    """A picture of one colour."""
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(-1, height, width)


@pytest.mark.parametrize(
    ("num", "columns", "size"), [(1, 8, (136, 152)), (8, 8, (1060, 152)), (9, 8, (1060, 300)), (4, 2, (268, 300))]
)
def test_the_sheet_has_room_for_every_picture(num: int, columns: int, size: tuple[int, int]) -> None:
    """Width and height follow from the number of pictures and columns."""
    assert draw_grid([plain((1, 2, 3))] * num, ["x"] * num, columns).size == size


def test_pictures_stand_in_reading_order() -> None:
    """Red, green, blue and white fill the cells from left to right and from top to bottom."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (10, 20, 30)]
    sheet = draw_grid([plain(colour) for colour in colours], [""] * 4, columns=2, cell=20)
    places = [(14, 14), (38, 14), (14, 54), (38, 54)]
    assert [sheet.getpixel(place) for place in places] == colours


def test_pictures_keep_their_shape_and_are_centred() -> None:
    """A wide picture is fitted to the cell's width, with white above and below."""
    sheet = draw_grid([plain((0, 0, 0), 10, 40)], [""], cell=40)
    assert [sheet.getpixel((24, y)) for y in (5, 18, 19, 28, 29, 40)] == [(255,) * 3] * 2 + [(0,) * 3] * 2 + [
        (255,) * 3
    ] * 2


def test_tiny_pictures_keep_hard_pixels() -> None:
    """A 2 × 2 picture shows four squares of exactly its colours."""
    pixels = torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8)
    cell = np.array(draw_grid([pixels], [""], cell=40))[4:44, 4:44, 0]
    assert np.array_equal(cell, np.kron(pixels[0].numpy(), np.ones((20, 20), np.uint8)))


def test_grey_and_float_pictures_are_drawn_as_their_values() -> None:
    """One channel is grey; floats in [0, 1] are scaled, and beyond that clamped."""
    grey = draw_grid([plain((100,))], [""], cell=20)
    assert grey.getpixel((14, 14)) == (100, 100, 100)
    floats = torch.tensor([0.2, 1.5, -3.0])[:, None, None].expand(3, 10, 10)
    assert draw_grid([floats], [""], cell=20).getpixel((14, 14)) == (51, 255, 0)


def test_captions_stand_below_and_are_cut_to_fit() -> None:
    """A caption darkens the strip below its cell; a long one stays within the cell's width."""
    sheet = np.array(draw_grid([plain((255, 255, 255))] * 2, ["a class name without any end at all" * 3, ""], cell=60))
    strip = sheet[64:80]
    assert strip[:, :64].min() < 100
    assert strip[:, 64:].min() == 255
    assert strip[:, :4].min() == 255


def test_drawing_fails_when_captions_do_not_match() -> None:
    """Fewer captions than pictures is an error, not a grid that ends early."""
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        draw_grid([plain((1, 2, 3))] * 2, ["x"])


def test_unnormalising_undoes_the_transform() -> None:
    """A normalised input becomes the picture again, to within rounding, within [0, 1]."""
    preprocessing = Preprocessing(16, 16, IMAGENET_MEAN, IMAGENET_STD)
    source = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8))
    back = unnormalise(eval_transform(preprocessing)(source), preprocessing)
    assert torch.equal((back * 255).round().to(torch.uint8), source)
    assert unnormalise(torch.full((3, 16, 16), 100.0), preprocessing).max() == 1


def test_the_sheet_is_an_rgb_picture() -> None:
    """It can be saved, shown in a window or in a notebook."""
    assert isinstance(draw_grid([plain((1, 2, 3))], ["x"]), Image.Image)
    assert draw_grid([plain((1, 2, 3))], ["x"]).mode == "RGB"
