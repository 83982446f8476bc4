"""Where the time of a training's pictures goes: the settings as `train` would choose them, then measuring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from holdfast.config import Config
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.choice import free_disk, free_memory
from holdfast.data.cache.key import Prefix
from holdfast.data.files import FilePictures
from holdfast.data.loading.order import epoch_order
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.sample import Collection, Indices, Pictures, SetName
from holdfast.data.speed.stages import measure_stages
from holdfast.data.speed.throughput import measure_handover, measure_rate
from holdfast.data.speed.timing import Room, Timing
from holdfast.data.targets import targets_of
from holdfast.errors import DataError
from holdfast.inference import choose_device
from holdfast.run.build import training_transform
from holdfast.run.caching import cache_folder, need_of, prefix_of
from holdfast.run.division import divide
from holdfast.run.prepare import default_workers, open_collection
from holdfast.run.recipe import preprocessing_for, resolve, summarize
from holdfast.run.task import target_spec
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
        DataError: nothing can be read there, or a picture that was picked cannot be read.
        ConfigError: an augmentation or a device that there is not, one that the task cannot have, numbers outside
            their ranges.
    """
    collection, sets = _open(config)
    pictures, device, train = collection.pictures, choose_device(config.device), sets["train"]
    targets, summary = targets_of(pictures), summarize(pictures, sets)
    config, _ = resolve(config, summary, targets.spec())
    assert config.augment and config.img_size and config.batch_size
    preprocessing = preprocessing_for(config, summary)
    if isinstance(pictures, FilePictures):
        pictures.channels = preprocessing.channels
    transform = training_transform(target_spec(config, targets), preprocessing, config)
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
        finishing = [stage for stage in stages if stage.place == "main"]
        before = [stage for stage in stages if stage.place != "main"]
        stages = [*before, measure_handover(ready, device), *finishing]
    rates = []
    for number in range(max(workers - 1, 0), workers + 2):
        say(f"the loader, --workers {number}")
        rates.append(
            measure_rate(read, picked, transform, workers=number, batch_size=config.batch_size, device=device)
        )  # fmt: skip
    return Timing(
        data=config.data,
        task=targets.task,
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
        room=_room(config, pictures, sets, preprocessing),
    )


def _open(config: Config) -> tuple[Collection, dict[SetName, Indices]]:
    """Returns the collection and its sets, as a run has them before it has read the files."""
    collection = open_collection(config)
    sets = divide(config, collection)[0].sets
    if "train" not in sets:
        raise DataError(f"Measuring {config.data}: there are no pictures to train on.")
    return collection, sets


def _room(
    config: Config, pictures: Pictures, sets: dict[SetName, Indices], preprocessing: Preprocessing
) -> Room | None:
    if not isinstance(pictures, FilePictures):
        return None
    needed = need_of(config, pictures, sets, preprocessing).num_bytes
    return Room(needed, free_memory(), free_disk(cache_folder(config)))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _other_side(config: Config, prefix: Prefix, short_side: int) -> int | None:
    """Returns a `decode_size` that may be quicker than none; None where none is in question."""
    assert config.augment and config.img_size
    # Pictures with points have no other fixed step before their transform.
    possible = config.task == "landmarks" or config.augment.startswith(("crop", "trivial"))
    large = prefix.side is None and short_side >= 3 * config.img_size
    return 2 * config.img_size if possible and large else None


def _enough(pictures: Pictures, order: Indices) -> int:
    """Returns how many pictures to measure, from the time that a few take."""
    began = time.perf_counter()
    probed = order[:_PROBED].tolist()
    for index in probed:
        pictures.read(index)
    each = (time.perf_counter() - began) / len(probed)
    return int(np.clip(_SECONDS / max(each, 1e-4), _FEWEST, _MOST))
