"""Where the time of a training's pictures goes: the settings as `train` would choose them, then measuring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from holdfast.config import Config
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.choice import estimate_need, free_disk, free_memory
from holdfast.data.cache.key import Prefix
from holdfast.data.files import FilePictures
from holdfast.data.loading.order import epoch_order
from holdfast.data.preprocessing.transforms import train_transform
from holdfast.data.sample import Collection, Indices, Pictures
from holdfast.data.sources import open_data
from holdfast.data.speed.stages import measure_stages
from holdfast.data.speed.throughput import measure_handover, measure_rate
from holdfast.data.speed.timing import Room, Timing
from holdfast.data.targets import targets_of
from holdfast.errors import DataError
from holdfast.inference import choose_device
from holdfast.run.caching import cache_folder, prefix_of
from holdfast.run.prepare import default_workers
from holdfast.run.recipe import preprocessing_for, resolve, summarize
from holdfast.words import count

_SECONDS = 1.0  # of preparing pictures once, in one process: all that is measured is about six times that
_FEWEST, _MOST = 24, 2000
_PROBED = 8  # pictures that are read to choose how many


def bench_data(config: Config, num: int | None = None, say: Callable[[str], None] = lambda _: None) -> Timing:
    """Measures what `train` with these settings would do to its pictures. DATA is only read; nothing is written.

    Args:
        config: settings; `data` is needed, those left None are chosen as `train` chooses them.
        num: how many pictures, at random; by default as many as take about ten seconds.
        say: told what is being measured.

    Raises:
        DataError: nothing can be read there, its pictures have points, or a picture that was picked cannot be read.
        ConfigError: an augmentation or a device that there is not, numbers outside their ranges.
    """
    collection, train = _open(config)
    pictures, device = collection.pictures, choose_device(config.device)
    summary = summarize(pictures, {"train": train})
    config, _ = resolve(config, summary)
    assert config.augment and config.img_size and config.batch_size
    preprocessing = preprocessing_for(config, summary)
    if isinstance(pictures, FilePictures):
        pictures.channels = preprocessing.channels
    transform = train_transform(preprocessing, config.augment)
    prefix = prefix_of(config, preprocessing, "train")
    read = CachedPictures(pictures, prefix) if prefix.side is not None else pictures
    picked = train[epoch_order(config.seed, 0, len(train))]
    picked = picked[: num or _enough(read, picked)]
    say(f"stage by stage, {count(len(picked), 'picture')}")
    sampled, stages, ready = measure_stages(
        pictures, picked, prefix, transform, batch_size=config.batch_size, device=device,
        other_side=_other_side(config, prefix, summary.short_side),
    )  # fmt: skip
    workers = default_workers(config, collection)
    if workers:
        finishing = [stage for stage in stages if stage.kind == "finish"]
        before = [stage for stage in stages if stage.kind != "finish"]
        stages = [*before, measure_handover(ready, device), *finishing]
    rates = []
    for number in range(max(workers - 1, 0), workers + 2):
        say(f"the loader, --workers {number}")
        rates.append(
            measure_rate(read, picked, transform, workers=number, batch_size=config.batch_size, device=device)
        )  # fmt: skip
    return Timing(
        data=config.data,
        img_size=config.img_size,
        augment=config.augment,
        decode_size=config.decode_size or None,
        batch_size=config.batch_size,
        workers=workers,
        cores=_num_cores(),
        device=str(device),
        sampled=sampled,
        stages=stages,
        rates=rates,
        room=_room(config, pictures, train, prefix),
    )


def _open(config: Config) -> tuple[Collection, Indices]:
    """Returns the collection and its training set, whose pictures can be measured."""
    collection = open_data(
        config.data, classes=config.classes, image_dir=config.image_dir,
        file_column=config.file_column, label_column=config.label_column,
    )  # fmt: skip
    pictures = collection.pictures
    if targets_of(pictures).task == "landmarks":
        raise DataError(
            f"Measuring {config.data}: its pictures have points, which go through transforms of their own, and those "
            "cannot be measured. Give a table with a column of labels, or a folder."
        )
    train = collection.sets.get("train", np.arange(len(pictures)))
    if not len(train):
        raise DataError(f"Measuring {config.data}: there are no pictures to train on.")
    return collection, train


def _room(config: Config, pictures: Pictures, train: Indices, prefix: Prefix) -> Room | None:
    if not isinstance(pictures, FilePictures):
        return None
    needed = estimate_need(pictures, train, prefix).num_bytes
    return Room(needed, free_memory(), free_disk(cache_folder(config)))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _other_side(config: Config, prefix: Prefix, short_side: int) -> int | None:
    """Returns a `decode_size` that may be quicker than none; None where none is in question."""
    assert config.augment and config.img_size
    crops = prefix.side is None and config.augment.startswith(("crop", "trivial"))
    return 2 * config.img_size if crops and short_side >= 3 * config.img_size else None


def _enough(pictures: Pictures, order: Indices) -> int:
    """Returns how many pictures to measure, from the time that a few take."""
    began = time.perf_counter()
    probed = order[:_PROBED].tolist()
    for index in probed:
        pictures.read(index)
    each = (time.perf_counter() - began) / len(probed)
    return int(np.clip(_SECONDS / max(each, 1e-4), _FEWEST, _MOST))
