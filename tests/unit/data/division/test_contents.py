from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast.data import ArrayPictures, read_folder
from holdfast.data.check import check_files
from holdfast.data.division.contents import read_contents
from holdfast.data.files import FilePictures
from holdfast.errors import DataError


def test_digests_are_those_of_the_check(picture_folder: Path) -> None:
    """Size and digest of a file are the same in a split and in a run, and no picture is decoded for them."""
    pictures = read_folder(picture_folder).pictures
    assert isinstance(pictures, FilePictures)
    (picture_folder / "red/1.jpg").write_bytes(b"no picture")
    checked, near = read_contents(pictures)
    assert [(c.num_bytes, c.digest) for c in checked] == [(c.num_bytes, c.digest) for c in check_files(pictures)]
    assert near == []


def test_what_looks_the_same_is_found_on_request(tmp_path: Path) -> None:
    """A photograph saved again at another quality is a near duplicate; other pictures and tiny ones are not."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pixels = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / name / "0.jpg", quality=95)
        Image.fromarray(pixels).save(tmp_path / name / "tiny.png")
    with Image.open(tmp_path / "a/0.jpg") as image:
        image.save(tmp_path / "b/again.jpg", quality=60)
    pictures = read_folder(tmp_path).pictures
    _, near = read_contents(pictures, near=True)
    assert [[pictures.name(int(i)) for i in group] for group in near] == [["a/0.jpg", "b/again.jpg"]]


def test_arrays_have_digests_of_their_pixels() -> None:
    """Equal pixels have equal digests; there is no file and so no size."""
    images = np.zeros((3, 4, 4), np.uint8)
    images[1, 0, 0] = 1
    checked, _ = read_contents(ArrayPictures(images, [0, 1, 0]), near=True)
    assert checked[0] == checked[2] != checked[1]
    assert checked[0].num_bytes == -1


def test_reading_fails_with_every_file_that_cannot_be_read(picture_folder: Path) -> None:
    """Gone, empty, and with `near` damaged files are told at once."""
    pictures = read_folder(picture_folder).pictures
    (picture_folder / "red/1.jpg").write_bytes(b"")
    (picture_folder / "red/2.jpg").unlink()
    (picture_folder / "red/3.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        read_contents(pictures, near=True)
    assert "3 of 24 pictures cannot be read:" in str(caught.value)
    for words in ("red/1.jpg: the file is empty", "red/2.jpg: cannot be read", "red/3.jpg: "):
        assert words in str(caught.value)
