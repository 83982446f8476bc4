"""With a cache in memory, on disk, full, or without one: the same batches, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from holdfast.data import ImageFolder, Loader
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.folder import disk_store
from holdfast.data.cache.key import Prefix, read_content_digests
from holdfast.data.cache.store import PictureStore, memory_store, table_bytes
from holdfast.data.preprocessing.transforms import AUGMENTATIONS, Preprocessing, train_transform

Seen = list[tuple[list[int], bytes]]


def _folder(root: Path, seed: int, num: int) -> ImageFolder:
    """Pictures of many sizes and some kinds, in two classes."""
    chance = np.random.default_rng(seed)
    for number in range(num):
        height, width = chance.integers(8, 60, 2)
        pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels if number % 3 else pixels[..., 0])
        place = root / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number}.{('jpg', 'png')[number % 2]}")
    return ImageFolder(root)


def _epochs(loader: Loader, num: int) -> Seen:
    seen = [(batch.indices.tolist(), batch.inputs.numpy().tobytes()) for _ in range(num) for batch in loader]
    loader.close()
    return seen


@st.composite
def _pipelines(draw: st.DrawFn) -> dict[str, object]:
    return {
        "seed": draw(st.integers(0, 2**20)),
        "augmentation": draw(st.sampled_from(AUGMENTATIONS)),
        "interpolation": draw(st.sampled_from(["bilinear", "bicubic"])),
        "prefix": draw(st.sampled_from([Prefix(), Prefix(24), Prefix(30, enlarge=True), Prefix(24, square=True)])),
        "room": draw(st.sampled_from([10**6, 20_000])),
    }


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(pipeline=_pipelines(), skip=st.integers(0, 3))
def test_bits_are_those_without_a_cache(pipeline: dict[str, object], skip: int) -> None:
    """Any pictures, augmentation, prefix and room; from the start and from the middle of an epoch."""
    p = Preprocessing(20, 24, (0.5,) * 3, (0.2,) * 3, str(pipeline["interpolation"]))
    transform = train_transform(p, str(pipeline["augmentation"]))
    prefix, room = pipeline["prefix"], pipeline["room"]
    assert isinstance(prefix, Prefix) and isinstance(room, int)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = _folder(folder / "data", int(str(pipeline["seed"])), 9)
        digests = read_content_digests(pictures)
        keys = [key for i in range(9) if (key := CachedPictures(pictures, prefix, None, digests).key(i))]

        def epochs(store: PictureStore | None) -> Seen:
            cached = CachedPictures(pictures, prefix, store, digests)
            loader = Loader(cached, batch_size=2, transform=transform, seed=3, shuffle=True)
            loader.seek(skip)
            return _epochs(loader, 3)

        expected = epochs(None)
        assert epochs(memory_store(9, table_bytes(9) + room)) == expected
        for _ in range(2):  # filled, then found
            assert epochs(disk_store(folder / "cache", keys, 5000, table_bytes(9) + room)) == expected


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_share_what_one_of_them_decoded(tmp_path: Path, num_workers: int) -> None:
    """Under any number of processes the bits are the same; after one epoch the files are not needed any more."""
    pictures = _folder(tmp_path, 5, 12)
    digests = read_content_digests(pictures)
    transform = train_transform(Preprocessing(20, 24, (0.5,) * 3, (0.2,) * 3), "crop+flip+color")

    def loader(store: PictureStore | None, workers: int) -> Loader:
        cached = CachedPictures(pictures, Prefix(24), store, digests)
        return Loader(cached, batch_size=4, transform=transform, seed=1, shuffle=True, num_workers=workers)

    expected = _epochs(loader(None, 0), 3)
    cached = loader(memory_store(12, 10**6), num_workers)
    seen = [(batch.indices.tolist(), batch.inputs.numpy().tobytes()) for batch in cached]
    for index in range(12):
        pictures.path(index).unlink()
    assert seen + _epochs(cached, 2) == expected
