"""Measures, one after another, the things that a training does to a picture; in this process, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from holdfast.data.cache.key import Prefix
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.files import FilePictures
from holdfast.data.loading.workers import one_thread
from holdfast.data.preprocessing.encoded import Encoded, decoded
from holdfast.data.preprocessing.keypoints import JointTransform
from holdfast.data.preprocessing.picture_file import open_bytes
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Indices, Pictures
from holdfast.data.speed.clock import Clock
from holdfast.data.speed.cold_read import let_go
from holdfast.data.speed.decode_stages import decode_in_stages
from holdfast.data.speed.finish_stages import finish_in_stages, name_of, steps_before
from holdfast.data.speed.joint_stages import prepare_joint
from holdfast.data.speed.timing import Sampled, Stage
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators

AGAIN = "read it again (from memory)"


def measure_stages(
    pictures: Pictures,
    picked: Indices,
    prefix: Prefix,
    transform: StagedTransform | JointTransform,
    *,
    batch_size: int,
    device: torch.device,
    other_side: int | None = None,
) -> tuple[Sampled, list[Stage], list[Tensor]]:
    """Does to each picked picture what a training does, stage by stage.

    Args:
        pictures: the collection.
        picked: `[n]` int64, which of them; one at least.
        prefix: what the training does to a picture before anything random.
        transform: what it does after that; for pictures with points, to both.
        batch_size: pictures that are finished together.
        device: where they are finished.
        other_side: measures too, to compare, decoding no larger than needed for this short side.

    Returns:
        What was picked; the stages in order; and some prepared pictures `[C, S, S]`, a batch of them at most.

    Raises:
        DataError: a picture cannot be read, or what the transform makes are not tensors of one shape.
    """
    clock, ready = Clock(), list[Tensor]()
    sizes, bytes_read = list[tuple[int, int]](), 0
    cold, warm = list[float](), list[float]()
    with one_thread():
        for index in picked.tolist():
            opened: Callable[[], Encoded] | None = None
            if isinstance(pictures, FilePictures):
                data = _read(pictures.path(index), cold, warm)
                bytes_read += len(data)
                opened = partial(open_bytes, data, pictures.path(index), pictures.channels, pictures.decoder)
                encoded = opened()
            else:
                encoded = decoded(clock.time("read from memory", "disk", partial(pictures.read, index)))
            sizes.append((encoded.height, encoded.width))
            seed_generators(derive_seed("sample", 0, 0, index))
            if isinstance(transform, StagedTransform):
                square = _prepare(clock, encoded, opened, prefix, transform, device, other_side, pictures.name(index))
            else:
                square, _ = prepare_joint(clock, encoded, opened, prefix, transform, other_side, pictures, index)
            if len(ready) < batch_size:
                ready.append(square)
        _refuse_several_shapes(ready)
        finishing = list(finish_in_stages(ready, transform, device))
    sampled = Sampled(
        num=len(picked),
        num_all=len(pictures),
        file_bytes=bytes_read / len(picked),
        short_side=float(np.median([min(size) for size in sizes])),
        megapixels=float(np.mean([height * width for height, width in sizes])) / 1e6,
        cold=_is_cold(cold, warm),
    )
    return sampled, [*_reading(cold, warm), *clock.stages(len(picked)), *finishing], ready


def _refuse_several_shapes(ready: Sequence[Tensor]) -> None:
    shapes = {tuple(square.shape) for square in ready}
    if len(shapes) > 1:
        raise DataError(f"The transform makes pictures of several shapes ({sorted(shapes)}); expected one.")


def _prepare(
    clock: Clock,
    encoded: Encoded,
    opened: Callable[[], Encoded] | None,
    prefix: Prefix,
    transform: StagedTransform,
    device: torch.device,
    other_side: int | None,
    name: str,
) -> Tensor:
    if prefix.side is not None:
        reduced = prefix.most_reduced(encoded)
    else:
        plan = transform.crop.plan(encoded.height, encoded.width)
        reduced = plan.most_reduced if transform.scaled else 1.0
    small = decode_in_stages(clock, encoded, opened, prefix, reduced, other_side)
    if prefix.side is not None:
        plan = transform.crop.plan(*small.shape[1:])
    kind = type(transform.crop).__name__
    square: Any = clock.time(f"crop and resize ({kind})", "transform", lambda: plan.crop(small))
    for step in steps_before(transform, device):
        square = clock.time(name_of(step), "transform", partial(step, square))
        if not isinstance(square, Tensor):
            raise DataError(f"The transform made a {type(square).__name__} of {name}; expected a tensor.")
    return cast(Tensor, square)


def _read(path: Path, cold: list[float], warm: list[float]) -> bytes:
    """Reads a file from the disk, where the system forgets it when asked, and again; appends the seconds."""
    forgotten = let_go(path)
    for seconds in (cold, warm) if forgotten else (warm,):
        began = time.perf_counter()
        data = read_image_file(path)
        seconds.append(time.perf_counter() - began)
    return data


def _is_cold(cold: list[float], warm: list[float]) -> bool:
    return len(cold) * 2 > len(warm)  # another program may hold some of the files


def _reading(cold: list[float], warm: list[float]) -> Iterator[Stage]:
    if _is_cold(cold, warm):
        yield Stage("read the file (from the disk)", "disk", float(np.mean(cold)), "worker")
        yield Stage(AGAIN, "disk", float(np.mean(warm)), "")
    elif warm:
        yield Stage("read the file (from memory)", "disk", float(np.mean(warm)), "worker")
