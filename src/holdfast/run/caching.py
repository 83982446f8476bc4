"""The cache of decoded pictures, as a run uses it: what is decided once, and what wraps its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from holdfast.config import Config
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.choice import (
    CacheChoice,
    CacheNeed,
    choose_cache,
    estimate_need,
    free_disk,
    free_memory,
    parse_size,
)
from holdfast.data.cache.folder import default_cache_folder, disk_store, list_cache
from holdfast.data.cache.key import ContentDigests, Prefix
from holdfast.data.cache.store import PictureStore, memory_store, table_bytes
from holdfast.data.division.index import read_index
from holdfast.data.files import FilePictures
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.sample import Indices, Pictures, SetName
from holdfast.errors import ConfigError
from holdfast.run.recipe import Choice


def prefix_of(config: Config, preprocessing: Preprocessing, set_name: SetName) -> Prefix:
    """Returns what is done to the pictures of a set before anything random, whether they are kept or not.

    Only `decode_size` changes bits, and it is part of the recipe. The others are the first step of the transform that
    follows, which finds it done and does nothing: bits are those of that transform alone.
    """
    p = preprocessing
    if config.task == "landmarks":
        # Points go through one resize with their picture, which is decoded whole: two, or a scaled decoding before the
        # one, would give other bits.
        return Prefix.before_crops(config.decode_size if set_name == "train" else None, scaled=p.scaled_decode)
    if set_name != "train" or (config.augment == "none" and not config.train_transform):
        if p.custom:
            return Prefix()
        if p.exact:
            return Prefix(p.img_size, square=True, interpolation=p.interpolation, scaled=p.scaled_decode)
        return Prefix(p.resize, enlarge=True, interpolation=p.interpolation, scaled=p.scaled_decode)
    if not config.train_transform and (config.augment or "").startswith(("shift", "affine")):
        return Prefix(p.img_size, square=True, interpolation=p.interpolation, scaled=p.scaled_decode)
    return Prefix.before_crops(config.decode_size, scaled=p.scaled_decode)


@dataclass
class PictureCache:
    """What a run decided about its cache, and the store once it is opened.

    Attributes:
        config: the run's settings, resolved.
        preprocessing: the run's.
        choice: what was chosen, and why.
        need: what the pictures would take.
        digests: what each picture's file held when it was checked.
        store: where they are kept; None for nowhere.
        note: what went wrong on opening it, for a person.
    """

    config: Config
    preprocessing: Preprocessing
    choice: CacheChoice
    need: CacheNeed
    digests: ContentDigests | None = None
    store: PictureStore | None = None
    note: str | None = None
    _has_reported: bool = False

    def choices(self) -> list[Choice]:
        """Returns the choice as it is said among the others; nothing when there was nothing to choose or to refuse."""
        told = self.need.num_pictures or self.config.cache in ("ram", "disk")
        return [Choice("cache", self.choice.kind, self.choice.reason)] if told else []

    def open(self, pictures: Pictures, sets: dict[SetName, Indices]) -> None:
        """Opens or makes the store. What fails leaves a note, and the run goes on without one."""
        if self.choice.kind == "off" or not isinstance(pictures, FilePictures):
            return
        try:
            if self.choice.kind == "ram":
                limit = max(self.choice.limit, table_bytes(self.need.num_pictures))
                self.store = memory_store(self.need.num_pictures, limit)
            else:
                keys = [
                    key
                    for name in sets
                    if name != "test"
                    for wrapped in [CachedPictures(pictures, self._prefix(name), None, self.digests)]
                    for index in sets[name]
                    if (key := wrapped.key(int(index))) is not None
                ]
                size = parse_size(self.config.cache_size) if self.config.cache_size else None
                mean = self.need.num_bytes / max(self.need.num_pictures, 1)
                self.store = disk_store(cache_folder(self.config), keys, mean, size)
        except OSError as error:
            self.note = f"no cache ({error.filename or cache_folder(self.config)}: {error.strerror}): {_ANEW}"

    def wrap(self, pictures: Pictures, set_name: SetName) -> Pictures:
        """Returns the pictures as a loader of this set reads them."""
        prefix = self._prefix(set_name)
        store = self.store if set_name != "test" else None  # read once
        if store is None and (prefix.side is None or prefix.is_repeated):
            return pictures
        custom = self.config.train_transform if set_name == "train" else self.config.eval_transform
        return CachedPictures(pictures, prefix, store, self.digests, copy=bool(custom))

    def report(self) -> str | None:
        """Returns, once, what a person should know after an epoch that filled it: that it did not take everything."""
        if self.store is None or self._has_reported:
            return None
        filling = self.store.filling()
        if not filling.stopped:
            return None
        self._has_reported = True
        return f"the cache takes no more pictures ({filling.stopped}): those it does not have, {_ANEW}"

    def _prefix(self, set_name: SetName) -> Prefix:
        return prefix_of(self.config, self.preprocessing, set_name)


_ANEW = "they are decoded in every epoch, and the bits stay the same"


def plan_cache(
    config: Config,
    pictures: Pictures,
    sets: dict[SetName, Indices],
    preprocessing: Preprocessing,
    index_file: Path | None = None,
) -> PictureCache:
    """Chooses whether and where decoded pictures are kept. Looks at headers of some, free memory and free disk.

    Args:
        config: the settings, resolved.
        index_file: the run's split.csv, whose digests the pictures are known by.

    Raises:
        ConfigError: a size that is none, or more memory than there is.
    """
    size = parse_size(config.cache_size) if config.cache_size else None
    if not isinstance(pictures, FilePictures):
        return PictureCache(
            config, preprocessing, CacheChoice("off", 0, "they are in memory already"), CacheNeed(0, 0, 0)
        )
    need = need_of(config, pictures, sets, preprocessing)
    memory, folder = free_memory(), cache_folder(config)
    if config.cache == "ram" and size is not None and size > memory:
        raise ConfigError(
            f"cache_size is {config.cache_size}, and {memory / 1e9:.1f} GB of memory are free. "
            "Take less, or --cache disk."
        )
    disk = free_disk(folder) + sum(file.num_bytes for file in list_cache(folder))
    choice = choose_cache(
        config.cache, need, epochs=config.epochs or 1, free_memory=memory, free_disk=disk, size=size, place=str(folder)
    )
    digests = _digests(pictures, index_file) if choice.kind != "off" and index_file is not None else None
    if choice.kind == "disk" and digests is None:
        choice = CacheChoice("off", 0, "what the files hold is not known")
    return PictureCache(config, preprocessing, choice, need, digests)


def need_of(
    config: Config, pictures: FilePictures, sets: dict[SetName, Indices], preprocessing: Preprocessing
) -> CacheNeed:
    """Returns what the pictures would take that a run reads more than once: all but those of the test."""
    need = CacheNeed(0, 0, 0)
    for name, indices in sets.items():
        if name != "test":
            need += estimate_need(pictures, indices, prefix_of(config, preprocessing, name))
    return need


def without_cache(config: Config, preprocessing: Preprocessing) -> PictureCache:
    """Returns a cache that keeps nothing: pictures are decoded every time they are read."""
    return PictureCache(config, preprocessing, CacheChoice("off", 0, "not asked for"), CacheNeed(0, 0, 0))


def cache_folder(config: Config) -> Path:
    """Returns the folder that the cache on disk is in."""
    return Path(config.cache_dir).expanduser() if config.cache_dir else default_cache_folder()


def _digests(pictures: FilePictures, index_file: Path) -> ContentDigests:
    """Returns `[N, 16]` uint8 from split.csv; zeros for a picture that stands there without one."""
    known = {row.path: row.digest for row in read_index(index_file)}
    digests = np.zeros((len(pictures), 16), np.uint8)
    for index in range(len(pictures)):
        digest = known.get(pictures.name(index), "")
        if len(digest) == 32:
            digests[index] = np.frombuffer(bytes.fromhex(digest), np.uint8)
    return digests
