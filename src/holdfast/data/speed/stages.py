"""Measures, one after another, the things that a training does to a picture; in this process, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.cache.key import Prefix
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.files import FilePictures
from holdfast.data.loading.buffers import Buffers
from holdfast.data.loading.workers import one_thread
from holdfast.data.preprocessing.encoded import Encoded, decoded
from holdfast.data.preprocessing.keypoints import JointTransform
from holdfast.data.preprocessing.picture_file import open_bytes
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Indices, Pictures
from holdfast.data.speed.clock import Clock
from holdfast.data.speed.cold_read import let_go
from holdfast.data.speed.decode_stages import decode_in_stages
from holdfast.data.speed.joint_stages import prepare_joint
from holdfast.data.speed.timing import Sampled, Stage
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators

AGAIN = "read it again (from memory)"
_REPEATS = 5  # of a batch that is finished: one alone is a few milliseconds


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
                square = _prepare(clock, encoded, opened, prefix, transform, other_side, pictures.name(index))
            else:
                square, _ = prepare_joint(clock, encoded, opened, prefix, transform, other_side, pictures, index)
            if len(ready) < batch_size:
                ready.append(square)
        _refuse_several_shapes(ready)
        finishing = list(_finish(ready, transform, device))
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
    for step in _steps(transform.then):
        square = clock.time(_name_of(step), "transform", partial(step, square))
        if not isinstance(square, Tensor):
            raise DataError(f"The transform made a {type(square).__name__} of {name}; expected a tensor.")
    return cast(Tensor, square)


def _steps(then: Any) -> Sequence[Any]:
    return list(then.transforms) if isinstance(then, v2.Compose) else [then]


def _name_of(step: Any) -> str:
    return str(getattr(step, "__name__", type(step).__name__)).lstrip("_")


def _finish(
    ready: Sequence[Tensor], transform: StagedTransform | JointTransform, device: torch.device
) -> Iterator[Stage]:
    """Measures the last steps: the way to the device, and bytes become floats there unless they are already."""
    batch, buffers = torch.stack(list(ready)), Buffers()
    empty = buffers.empty if device.type == "cpu" else None
    if device.type != "cpu":
        with _timed(device) as seconds:
            for _ in range(_REPEATS):
                moved = batch.to(device)
        yield Stage(f"to {device}", "finish", seconds[0] / _REPEATS / len(batch), "main")
        batch = moved
    if not isinstance(transform, StagedTransform):
        return
    transform.finish(batch, empty)  # the first one touches fresh memory and starts the device
    with _timed(device) as seconds:
        for _ in range(_REPEATS):
            transform.finish(batch, empty)
    yield Stage("normalise", "finish", seconds[0] / _REPEATS / len(batch), "main")


@contextmanager
def _timed(device: torch.device) -> Iterator[list[float]]:
    """Gives a list that holds the seconds of the block once it is over and the device has done its work."""
    seconds = list[float]()
    now = time.thread_time if device.type == "cpu" else time.perf_counter
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    began = now()
    yield seconds
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    seconds.append(now() - began)


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
