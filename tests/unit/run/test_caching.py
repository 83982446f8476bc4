from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.config import Config
from holdfast.data import ArrayPictures, ImageFolder
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.choice import CacheChoice
from holdfast.data.cache.key import Prefix
from holdfast.data.check import check_files
from holdfast.data.division.index import format_index, make_index
from holdfast.data.preprocessing.transforms import AUGMENTATIONS, Preprocessing
from holdfast.data.sample import Indices, SetName
from holdfast.errors import ConfigError
from holdfast.run import caching
from holdfast.run.caching import PictureCache, plan_cache, prefix_of, without_cache

_PREPROCESSING = Preprocessing(16, 18, (0.5,) * 3, (0.2,) * 3)
_SETS: dict[SetName, Indices] = {"train": np.arange(16), "val": np.arange(16, 20), "test": np.arange(20, 24)}


@pytest.fixture
def pictures(picture_folder: Path) -> ImageFolder:
    """Twenty-four small JPEGs."""
    return ImageFolder(picture_folder)


@pytest.fixture
def index_file(pictures: ImageFolder, tmp_path: Path) -> Path:
    """The run's split.csv."""
    path = tmp_path / "split.csv"
    path.write_text(format_index(make_index(pictures, _SETS, check_files(pictures))))
    return path


def _config(tmp_path: Path, **settings: object) -> Config:
    values = {"epochs": 3, "augment": "crop+flip", "cache_dir": str(tmp_path / "cache"), **settings}
    return Config(data="x").replace(**values)


def _plan(pictures: ImageFolder, index_file: Path, **settings: object) -> PictureCache:
    config = _config(index_file.parent, **settings)
    cache = plan_cache(config, pictures, _SETS, _PREPROCESSING, index_file)
    cache.open(pictures, _SETS)
    return cache


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_train_and_val_are_kept_and_the_test_set_is_not(pictures: ImageFolder, index_file: Path, kind: str) -> None:
    """What is read in every epoch is found again; what is read once is left alone."""
    cache = _plan(pictures, index_file, cache=kind)
    train, val = cache.wrap(pictures, "train"), cache.wrap(pictures, "val")
    assert cache.wrap(pictures, "test") is pictures
    fresh = [train.read(0).clone(), val.read(17).clone()]
    for index in (0, 17):
        pictures.path(index).unlink()
    assert torch.equal(train.read(0), fresh[0]) and torch.equal(val.read(17), fresh[1])
    assert cache.need.num_pictures == 20 and cache.note is None and cache.report() is None


def test_a_small_set_is_kept_in_memory_by_itself(pictures: ImageFolder, index_file: Path) -> None:
    """`auto` says so among the other choices."""
    cache = _plan(pictures, index_file)
    (choice,) = cache.choices()
    assert (choice.setting, choice.value) == ("cache", "ram") and "20 pictures are about" in choice.reason


def test_one_epoch_keeps_nothing(pictures: ImageFolder, index_file: Path) -> None:
    """Nothing is read twice."""
    cache = _plan(pictures, index_file, epochs=1)
    assert cache.choice.kind == "off" and cache.wrap(pictures, "train") is pictures


def test_arrays_are_in_memory_already(tmp_path: Path) -> None:
    """There is nothing to choose, and nothing is said."""
    arrays = ArrayPictures(np.zeros((24, 8, 8), np.uint8), [i % 2 for i in range(24)])
    cache = plan_cache(_config(tmp_path), arrays, _SETS, _PREPROCESSING)
    cache.open(arrays, _SETS)
    assert cache.choice.kind == "off" and cache.choices() == [] and cache.wrap(arrays, "train") is arrays


def test_a_cache_that_arrays_do_not_need_is_answered(tmp_path: Path) -> None:
    """Who asks for one is told that there is none, and why."""
    arrays = ArrayPictures(np.zeros((24, 8, 8), np.uint8), [i % 2 for i in range(24)])
    (choice,) = plan_cache(_config(tmp_path, cache="disk"), arrays, _SETS, _PREPROCESSING).choices()
    assert (choice.value, choice.reason) == ("off", "they are in memory already")


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_what_is_done_before_is_the_first_step_of_the_transform(tmp_path: Path, augmentation: str) -> None:
    """Crops are cut from pictures of decode_size; all others begin with a resize that may be done before."""
    prefix = prefix_of(_config(tmp_path, augment=augmentation, decode_size=32), _PREPROCESSING, "train")
    if augmentation.startswith(("crop", "trivial")):
        assert prefix == Prefix(32, interpolation="bicubic") and not prefix.is_repeated
    else:
        assert prefix == (Prefix(18, enlarge=True) if augmentation == "none" else Prefix(16, square=True))
    assert prefix_of(_config(tmp_path, augment=augmentation), _PREPROCESSING, "val") == Prefix(18, enlarge=True)


def test_transforms_of_users_get_whole_pictures_of_their_own(pictures: ImageFolder, index_file: Path) -> None:
    """Nothing is known of what they do first, and they may write into their input."""
    config = _config(index_file.parent, cache="ram", train_transform="m:f", eval_transform="m:g")
    custom = Preprocessing(16, 18, (0.5,) * 3, (0.2,) * 3, custom="m:g")
    cache = plan_cache(config, pictures, _SETS, custom, index_file)
    cache.open(pictures, _SETS)
    for name, index in (("train", 0), ("val", 17)):
        wrapped = cache.wrap(pictures, name)  # type: ignore[arg-type]
        assert isinstance(wrapped, CachedPictures) and wrapped.prefix == Prefix()
        for _ in range(3):
            assert torch.equal(wrapped.read(index), pictures.read(index))
            wrapped.read(index).zero_()


def test_decode_size_holds_without_a_cache_too(pictures: ImageFolder, tmp_path: Path) -> None:
    """It is part of the recipe: the cache never decides what is trained on."""
    config = _config(tmp_path, decode_size=12)
    read = without_cache(config, _PREPROCESSING).wrap(pictures, "train").read(0)
    assert read.shape == (3, 12, 16) and torch.equal(read, Prefix(12, interpolation="bicubic")(pictures.read(0)))
    off = without_cache(_config(tmp_path), _PREPROCESSING)
    assert off.wrap(pictures, "train") is pictures and off.wrap(pictures, "val") is pictures


def test_a_folder_that_cannot_be_made_is_said_and_training_goes_on(pictures: ImageFolder, index_file: Path) -> None:
    """The note names the place and the reason."""
    (index_file.parent / "cache").write_text("a file")
    cache = _plan(pictures, index_file, cache="disk")
    assert cache.note is not None and "cache: File exists" in cache.note and "decoded in every epoch" in cache.note
    assert cache.wrap(pictures, "train") is pictures


def test_what_did_not_fit_is_said_once(pictures: ImageFolder, index_file: Path) -> None:
    """After the epoch that filled it, and not again."""
    cache = _plan(pictures, index_file, cache="ram", cache_size="12kB")
    for index in range(16):
        cache.wrap(pictures, "train").read(index)
    report = cache.report()
    assert report is not None and "takes no more pictures (its room is used up)" in report
    assert cache.report() is None


def test_more_memory_than_there_is_fails(
    pictures: ImageFolder, index_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before training, with both numbers and a way out."""
    monkeypatch.setattr(caching, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(ConfigError, match=r"cache_size is 3GB, and 2\.0 GB of memory are free.*--cache disk"):
        _plan(pictures, index_file, cache="ram", cache_size="3GB")


def test_a_picture_without_a_digest_is_not_kept(pictures: ImageFolder, index_file: Path) -> None:
    """It could not be read when it was checked; the others are known by their rows, whatever their order."""
    rows = index_file.read_text().splitlines()
    rows[1] = rows[1].rpartition(",")[0] + ","
    index_file.write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")
    cache = _plan(pictures, index_file, cache="disk")
    assert cache.digests is not None and not cache.digests[0].any() and cache.digests[1:].any(axis=1).all()


def test_without_an_index_nothing_is_kept_on_disk(pictures: ImageFolder, tmp_path: Path) -> None:
    """Files of unknown contents cannot be found again."""
    cache = plan_cache(_config(tmp_path, cache="disk"), pictures, _SETS, _PREPROCESSING)
    assert cache.choice == CacheChoice("off", 0, "what the files hold is not known")
