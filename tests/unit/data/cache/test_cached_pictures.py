from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data import ArrayPictures, ImageFolder
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.key import ContentDigests, Prefix, read_content_digests
from holdfast.data.cache.store import PictureStore, memory_store, table_bytes
from holdfast.errors import DataError


@pytest.fixture
def pictures(picture_folder: Path) -> ImageFolder:
    """Twenty-four small JPEGs."""
    return ImageFolder(picture_folder)


@pytest.fixture
def digests(pictures: ImageFolder) -> ContentDigests:
    """What their files hold."""
    return read_content_digests(pictures)


@pytest.fixture
def store() -> PictureStore:
    """Room for all of them."""
    return memory_store(100, 1_000_000)


def test_it_is_the_collection_in_everything_but_speed(
    pictures: ImageFolder, digests: ContentDigests, store: PictureStore
) -> None:
    """Names, labels, classes, length, fingerprint and every pixel are the collection's, at the first read and later."""
    cached = CachedPictures(pictures, None, store, digests)
    assert (len(cached), cached.classes, cached.fingerprint()) == (24, pictures.classes, pictures.fingerprint())
    assert np.array_equal(cached.labels, pictures.labels) and cached.name(7) == pictures.name(7)
    for _ in range(2):
        assert all(torch.equal(cached.read(i), pictures.read(i)) for i in range(24))


def test_a_picture_is_decoded_once(pictures: ImageFolder, digests: ContentDigests, store: PictureStore) -> None:
    """After the first read its file is not needed any more."""
    cached = CachedPictures(pictures, Prefix(10), store, digests)
    first = cached.read(3)
    pictures.path(3).unlink()
    assert torch.equal(cached.read(3), first)
    pictures.path(4).unlink()
    with pytest.raises(DataError, match=r"blue/4\.jpg"):
        cached.read(4)


@pytest.mark.parametrize("prefix", [Prefix(), Prefix(10), Prefix(40, enlarge=True), Prefix(16, square=True)])
def test_a_stored_picture_is_the_fresh_one_to_the_layout(
    pictures: ImageFolder, digests: ContentDigests, store: PictureStore, prefix: Prefix
) -> None:
    """Values, shape and strides agree with a collection that keeps nothing, before and after it is stored."""
    cached, fresh = CachedPictures(pictures, prefix, store, digests), CachedPictures(pictures, prefix)
    for index in (0, 0, 13, 13):
        one, other = cached.read(index), fresh.read(index)
        assert torch.equal(one, other) and one.stride() == other.stride() and one.stride(0) == 1


def test_two_prefixes_live_side_by_side(pictures: ImageFolder, digests: ContentDigests, store: PictureStore) -> None:
    """One store holds a picture in two sizes, and neither is taken for the other."""
    small, large = CachedPictures(pictures, Prefix(8), store, digests), CachedPictures(pictures, None, store, digests)
    for _ in range(2):
        assert small.read(0).shape == (3, 8, 10) and large.read(0).shape == (3, 24, 32)


def test_renamed_files_are_found(pictures: ImageFolder, digests: ContentDigests, store: PictureStore) -> None:
    """A picture is known by its contents."""
    first = CachedPictures(pictures, None, store, digests).read(2)
    pictures.path(2).rename(pictures.path(2).with_name("other.jpg"))
    renamed = ImageFolder(pictures.root)
    index = renamed.paths.index("blue/other.jpg")
    again = read_content_digests(renamed)
    renamed.path(index).write_bytes(b"")
    assert torch.equal(CachedPictures(renamed, None, store, again).read(index), first)


def test_a_file_that_changed_after_it_was_checked_is_not_kept(
    pictures: ImageFolder, digests: ContentDigests, store: PictureStore
) -> None:
    """It is decoded every time, and never found under what it held before."""
    cached = CachedPictures(pictures, None, store, digests)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(pictures.path(0))
    assert cached.read(0).shape == (3, 9, 9)
    assert store.find(cached.key(0) or b"") is None
    Image.new("RGB", (5, 5), (1, 2, 3)).save(pictures.path(0))
    assert cached.read(0).shape == (3, 5, 5)


def test_a_new_content_is_a_new_picture(pictures: ImageFolder, digests: ContentDigests, store: PictureStore) -> None:
    """A picture changed in place and checked again is decoded anew."""
    CachedPictures(pictures, None, store, digests).read(0)
    Image.new("RGB", (9, 9), (1, 2, 3)).save(pictures.path(0))
    cached = CachedPictures(pictures, None, store, read_content_digests(pictures))
    assert cached.read(0).shape == (3, 9, 9)
    assert torch.equal(cached.read(0), pictures.read(0))


def test_equal_files_are_stored_once(pictures: ImageFolder, store: PictureStore) -> None:
    """Two files of one content share one record."""
    pictures.path(1).write_bytes(pictures.path(0).read_bytes())
    cached = CachedPictures(pictures, None, store, read_content_digests(pictures))
    cached.read(0)
    taken = store.filling().num_bytes
    assert torch.equal(cached.read(1), cached.read(0)) and store.filling().num_bytes == taken


def test_what_does_not_fit_is_decoded_every_time(pictures: ImageFolder, digests: ContentDigests) -> None:
    """A store that is full changes no picture."""
    cached = CachedPictures(pictures, None, memory_store(100, table_bytes(100) + 3 * 24 * 32 * 5), digests)
    for _ in range(2):
        assert all(torch.equal(cached.read(i), pictures.read(i)) for i in range(24))
    assert cached.store is not None and cached.store.filling().stopped


def test_without_digests_a_picture_is_known_by_its_place(store: PictureStore) -> None:
    """For collections that are no files; grey and colour alike, and float pictures are passed on."""
    arrays = ArrayPictures(np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5), [0, 1])
    cached = CachedPictures(arrays, None, store)
    for _ in range(2):
        assert all(torch.equal(cached.read(i), arrays.read(i)) for i in range(2))
    floats = ArrayPictures(np.ones((2, 3, 4, 5), np.float32), [0, 1])
    own = memory_store(2, 1_000_000)  # places mean something within one collection only
    assert all(CachedPictures(floats, None, own).read(0).dtype == torch.float32 for _ in range(2))


def test_a_picture_of_unknown_contents_is_not_kept(
    pictures: ImageFolder, digests: ContentDigests, store: PictureStore
) -> None:
    """Zeros stand for a file that could not be read when it was checked."""
    digests[0] = 0
    cached = CachedPictures(pictures, None, store, digests)
    before = store.filling().num_bytes
    assert torch.equal(cached.read(0), pictures.read(0)) and cached.key(0) is None
    assert store.filling().num_bytes == before


def test_copies_may_be_written_into(pictures: ImageFolder, digests: ContentDigests, store: PictureStore) -> None:
    """With `copy` a transform that works in place spoils nothing."""
    cached = CachedPictures(pictures, None, store, digests, copy=True)
    for _ in range(3):
        assert torch.equal(cached.read(0), pictures.read(0))
        cached.read(0).zero_()


def test_digests_of_other_pictures_fail(pictures: ImageFolder, digests: ContentDigests) -> None:
    """Their number must be that of the pictures."""
    with pytest.raises(DataError, match=r"Caching 24 pictures: found digests of shape \[23, 16\]"):
        CachedPictures(pictures, None, None, digests[:23])
