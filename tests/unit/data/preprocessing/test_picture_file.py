from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data.decoding.decode import decode_image
from holdfast.data.preprocessing.picture_file import open_image
from holdfast.errors import DataError


def blocks(height: int, width: int) -> Image.Image:
    """Large blocks of plain colour."""
    small = np.random.default_rng(0).integers(0, 256, (-(-height // 32), -(-width // 32), 3), dtype=np.uint8)
    return Image.fromarray(np.kron(small, np.ones((32, 32, 1), np.uint8))[:height, :width])


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """A JPEG of 150 × 203 pixels."""
    path = tmp_path / "a picture.jpg"
    blocks(150, 203).save(path, quality=95)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_at_full_size_it_is_what_decode_image_gives(tmp_path: Path, orientation: int, channels: int) -> None:
    """The same pixels, turned upright, and their size is known before they are decoded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    blocks(64, 96).save(path, exif=exif)
    opened = open_image(path, channels)
    expected = decode_image(path, channels)
    assert torch.equal(opened.decode(1.0), expected)
    assert (opened.height, opened.width) == tuple(expected.shape[1:])
    reduced = opened.decode(2.0)
    assert reduced.shape == (channels, -(-expected.shape[1] // 2), -(-expected.shape[2] // 2))
    means = expected.float().mean((1, 2)), reduced.float().mean((1, 2))
    assert (means[0] - means[1]).abs().max() < 2


@pytest.mark.parametrize(
    ("most", "factor"), [(1.0, 1), (1.99, 1), (2.0, 2), (3.9, 2), (4.0, 4), (7.99, 4), (8.0, 8), (100.0, 8)]
)
def test_sides_are_never_smaller_than_allowed(jpeg: Path, most: float, factor: int) -> None:
    """It is reduced by 2, 4 or 8 where that is allowed, and sides are rounded up."""
    assert open_image(jpeg).decode(most).shape == (3, -(-150 // factor), -(-203 // factor))


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.bmp"])
def test_other_files_are_decoded_whole(tmp_path: Path, name: str) -> None:
    """Whatever is no JPEG comes at its full size, with the pixels of decode_image."""
    blocks(40, 60).save(tmp_path / name)
    opened = open_image(tmp_path / name)
    assert torch.equal(opened.decode(8.0), decode_image(tmp_path / name))
    assert (opened.height, opened.width) == (40, 60)


def test_a_cmyk_jpeg_and_another_decoder_come_whole(tmp_path: Path, jpeg: Path) -> None:
    """Rare JPEGs, and those for which Pillow was asked, are left to decode_image."""
    blocks(64, 64).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert open_image(tmp_path / "cmyk.jpg").decode(4.0).shape == (3, 64, 64)
    assert open_image(jpeg, decoder="pillow").decode(4.0).shape == (3, 150, 203)


@pytest.mark.parametrize("most", [1.0, 4.0])
def test_decoding_fails_when_data_are_missing_at_any_size(tmp_path: Path, jpeg: Path, most: float) -> None:
    """A file that was cut and closed again is named as damaged, also where only an eighth of it would be looked at."""
    whole = jpeg.read_bytes()
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"cut\.jpg: damaged or cut short"):
        open_image(path).decode(most)


def test_opening_fails_when_there_is_no_picture(tmp_path: Path) -> None:
    """A file that is gone, and one that is a web page, are named with what they are."""
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        open_image(tmp_path / "gone.jpg")
    (tmp_path / "page.jpg").write_text("<!doctype html><html></html>" * 10)
    with pytest.raises(DataError, match=r"page\.jpg: not an image"):
        open_image(tmp_path / "page.jpg")


def test_real_photographs_reduced_are_close_to_resized_ones(real_data: Path) -> None:
    """An eighth of the side, decoded so, differs little from the whole picture resized by Pillow."""
    for path in sorted((real_data / "large_photos").glob("wallpaper_*.jpg"))[:3]:
        reduced = open_image(path).decode(8.0)
        whole = Image.fromarray(decode_image(path).permute(1, 2, 0).numpy())
        expected = np.asarray(whole.resize((reduced.shape[2], reduced.shape[1]), Image.Resampling.BOX)).astype(int)
        assert np.abs(expected - reduced.permute(1, 2, 0).numpy()).mean() < 4


def test_the_size_is_known_without_decoding(tmp_path: Path) -> None:
    """A JPEG whose pixels are damaged still opens: only decoding it fails."""
    buffer = io.BytesIO()
    blocks(300, 200).save(buffer, "JPEG")
    (tmp_path / "half.jpg").write_bytes(buffer.getvalue()[:-100])
    assert open_image(tmp_path / "half.jpg")[:2] == (300, 200)
