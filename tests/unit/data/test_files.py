from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.decoding.decode import decode_image
from holdfast.data.files import FilePictures, is_image_name, labels_array, natural_key
from holdfast.errors import DataError


def pictures_of(root: Path, **options: object) -> FilePictures:
    """Two pictures of the fixture's folder."""
    return FilePictures(root, ["blue/0.jpg", "red/3.jpg"], labels_array([0, 1]), ["blue", "red"], **options)


@pytest.mark.parametrize("name", ["a.jpg", "A.JPEG", "b.Png", "c.gif", "d.tar.webp", "e f.TIF", "ünï.bmp"])
def test_pictures_are_known_by_their_names(name: str) -> None:
    """The ending decides, in any case."""
    assert is_image_name(name)


@pytest.mark.parametrize("name", [".jpg", ".hidden.jpg", "._a.jpg", "a.jpg.txt", "jpg", "a.npy", "Thumbs.db", "a.pdf"])
def test_other_files_are_not_pictures(name: str) -> None:
    """Hidden files and other endings are not pictures."""
    assert not is_image_name(name)


def test_numbers_sort_by_their_value() -> None:
    """2 comes before 10, within names too; ties keep plain text order."""
    names = ["img10", "10", "b", "img9", "2", "a10b2", "a10b10", "a9", "007", "7", "img", ""]
    assert sorted(names, key=natural_key) == [
        "",
        "2",
        "007",
        "7",
        "10",
        "a9",
        "a10b2",
        "a10b10",
        "b",
        "img",
        "img9",
        "img10",
    ]


@given(st.lists(st.text(max_size=8), max_size=6))
def test_the_natural_order_is_total(names: list[str]) -> None:
    """Any names can be compared, and the order does not depend on how they came."""
    backwards = names[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)


def test_pictures_are_read_by_index(picture_folder: Path) -> None:
    """Name, path, size and pixels belong to the file at that index."""
    pictures = pictures_of(picture_folder)
    assert len(pictures) == 2
    assert (pictures.name(1), pictures.path(1)) == ("red/3.jpg", picture_folder / "red" / "3.jpg")
    assert pictures.num_bytes(1) == (picture_folder / "red" / "3.jpg").stat().st_size
    assert torch.equal(pictures.read(1), decode_image(picture_folder / "red" / "3.jpg"))
    assert pictures.read(1).shape == (3, 24, 32)
    assert (pictures.classes, pictures.labels.tolist(), pictures.labels.dtype) == (["blue", "red"], [0, 1], np.int64)


def test_pictures_are_read_in_grey_when_asked(picture_folder: Path) -> None:
    """One channel gives `[1, H, W]`."""
    assert pictures_of(picture_folder, channels=1).read(0).shape == (1, 24, 32)


def test_the_decoder_asked_for_is_used(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection with decoder="pillow" takes no pixels from simplejpeg or torchcodec."""
    monkeypatch.setattr("holdfast.data.decoding.decode.decode_strictly", None)
    monkeypatch.setattr("holdfast.data.decoding.decode.decode_with_torchcodec", None)
    assert pictures_of(picture_folder, decoder="pillow").read(0).shape == (3, 24, 32)


def test_reading_fails_when_the_file_is_gone(picture_folder: Path) -> None:
    """The error names the path, and the size is -1."""
    pictures = pictures_of(picture_folder)
    (picture_folder / "red" / "3.jpg").unlink()
    assert pictures.num_bytes(1) == -1
    with pytest.raises(DataError) as caught:
        pictures.read(1)
    assert str(caught.value) == f"{picture_folder / 'red' / '3.jpg'}: cannot be read (No such file or directory)."


def test_the_fingerprint_tells_paths_sizes_labels_and_classes_apart(picture_folder: Path) -> None:
    """Another path, size, label or class name gives another digest; the same files elsewhere give the same."""
    here = pictures_of(picture_folder).fingerprint()
    assert pictures_of(picture_folder).fingerprint() == here
    others = [
        FilePictures(picture_folder, ["blue/0.jpg", "red/4.jpg"], labels_array([0, 1]), ["blue", "red"]),
        FilePictures(picture_folder, ["blue/0.jpg", "red/3.jpg"], labels_array([1, 0]), ["blue", "red"]),
        FilePictures(picture_folder, ["blue/0.jpg", "red/3.jpg"], labels_array([0, 1]), ["blue", "rot"]),
    ]
    digests = {other.fingerprint() for other in others}
    with (picture_folder / "red" / "3.jpg").open("ab") as file:
        file.write(b"\0")
    digests.add(pictures_of(picture_folder).fingerprint())
    moved = picture_folder.rename(picture_folder.with_name("elsewhere"))
    assert pictures_of(moved).fingerprint() in digests
    assert len(digests | {here}) == 5
