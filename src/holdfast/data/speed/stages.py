"""Measures, one after another, the things that a training does to a picture; in this process, on one thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.cache.key import Prefix
from holdfast.data.decoding.image_file import read_image_file
from holdfast.data.files import FilePictures
from holdfast.data.loading.workers import one_thread
from holdfast.data.preprocessing.augment import BatchStep
from holdfast.data.preprocessing.encoded import Encoded, decoded
from holdfast.data.preprocessing.normalise import Normalise
from holdfast.data.preprocessing.picture_file import open_bytes
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Indices, Pictures
from holdfast.data.speed.cold_read import let_go
from holdfast.data.speed.timing import Kind, Sampled, Stage
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators

AGAIN = "read it again (from memory)"
_REPEATS = 5  # of a batch that is finished: one alone is a few milliseconds
Value = TypeVar("Value")


@dataclass
class _Clock:
    """Seconds by stage, in the order in which stages were first met."""

    seconds: dict[tuple[str, Kind, str], float] = field(default_factory=lambda: defaultdict(float))

    def time(self, name: str, kind: Kind, work: Callable[[], Value], place: str = "worker") -> Value:
        """Returns what `work` returns, its processor time added: that of the disk goes by the clock."""
        now = time.perf_counter if kind == "disk" else time.thread_time
        began = now()
        value = work()
        self.seconds[name, kind, place] += now() - began
        return value

    def stages(self, num: int) -> list[Stage]:
        """Returns the stages, of so many pictures each."""
        return [Stage(name, kind, total / num, place) for (name, kind, place), total in self.seconds.items()]  # type: ignore[arg-type]


def measure_stages(
    pictures: Pictures,
    picked: Indices,
    prefix: Prefix,
    transform: StagedTransform,
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
        transform: what it does after that.
        batch_size: pictures that are finished together.
        device: where they are finished.
        other_side: measures too, to compare, decoding no larger than needed for this short side.

    Returns:
        What was picked; the stages in order; and some prepared pictures `[C, S, S]`, a batch of them at most.

    Raises:
        DataError: a picture cannot be read, or what the transform makes are not tensors of one shape.
    """
    clock, ready = _Clock(), list[Tensor]()
    sizes, bytes_read = list[tuple[int, int]](), 0
    cold, warm = list[float](), list[float]()
    # What may wait until pictures are in their batch is done on the device, if that is an accelerator.
    waiting = transform.augment if device.type != "cpu" else ()
    steps = [*_steps(transform.then), *(() if waiting else transform.augment)]
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
            square = _prepare(clock, encoded, opened, prefix, transform, steps, other_side, pictures.name(index))
            if len(ready) < batch_size:
                ready.append(square)
        shapes = {tuple(square.shape) for square in ready}
        if len(shapes) > 1:
            raise DataError(f"The transform makes pictures of several shapes ({sorted(shapes)}); expected one.")
        finishing = list(_finish(ready, waiting, transform.finish, device))
    sampled = Sampled(
        num=len(picked),
        num_all=len(pictures),
        file_bytes=bytes_read / len(picked),
        short_side=float(np.median([min(size) for size in sizes])),
        megapixels=float(np.mean([height * width for height, width in sizes])) / 1e6,
        cold=_is_cold(cold, warm),
    )
    return sampled, [*_reading(cold, warm), *clock.stages(len(picked)), *finishing], ready


def _prepare(
    clock: _Clock,
    encoded: Encoded,
    opened: Callable[[], Encoded] | None,
    prefix: Prefix,
    transform: StagedTransform,
    steps: Sequence[Any],
    other_side: int | None,
    name: str,
) -> Tensor:
    if prefix.side is not None:
        reduced = prefix.most_reduced(encoded)
    else:
        plan = transform.crop.plan(encoded.height, encoded.width)
        reduced = plan.most_reduced if transform.scaled else 1.0
    if opened is None:
        picture = encoded.decode(1.0)
    else:
        picture = clock.time("decode", "decode", lambda: opened().decode(reduced))
        if reduced >= 2:  # JPEGs may come out smaller from here on
            clock.time("decode in full", "decode", lambda: opened().decode(1.0), "")
        if other_side is not None:
            other = Prefix.before_crops(other_side, scaled=True)
            clock.time(f"decode for --decode-size {other_side}", "decode", lambda: other.of(opened()), "")
    if prefix.side is not None:
        size = f"{prefix.side} × {prefix.side}" if prefix.square else f"a short side of {prefix.side}"
        small = clock.time(f"resize to {size}", "decode", lambda: prefix(picture))
        plan = transform.crop.plan(*small.shape[1:])
    else:
        small = picture
    kind = type(transform.crop).__name__
    square: Any = clock.time(f"crop and resize ({kind})", "transform", lambda: plan.crop(small))
    for step in steps:
        square = clock.time(_name_of(step), "transform", partial(step, square))
        if not isinstance(square, Tensor):
            raise DataError(f"The transform made a {type(square).__name__} of {name}; expected a tensor.")
    return cast(Tensor, square)


def _steps(then: Any) -> Sequence[Any]:
    return list(then.transforms) if isinstance(then, v2.Compose) else [then]


def _name_of(step: Any) -> str:
    return str(getattr(step, "__name__", type(step).__name__)).lstrip("_")


def _finish(
    ready: Sequence[Tensor], waiting: Sequence[BatchStep], finish: Normalise, device: torch.device
) -> Iterator[Stage]:
    """Measures the last steps: the way to the device, what waited for it, and bytes become floats."""
    batch = torch.stack(list(ready))
    place: Literal["worker", "main"] = "worker" if device.type == "cpu" else "main"
    if device.type != "cpu":
        yield Stage(f"to {device}", "finish", _repeated(partial(batch.to, device), device) / len(batch), place)
        batch = batch.to(device)
    for step in waiting:
        numbers = [step.draw() for _ in batch]
        seconds = _repeated(partial(step.apply, batch, numbers), device)
        yield Stage(f"{_name_of(step)} on {device}", "finish", seconds / len(batch), place)
    into = torch.empty(batch.shape, device=device)
    yield Stage("normalise", "finish", _repeated(partial(finish, batch, into), device) / len(batch), place)


def _repeated(work: Callable[[], Any], device: torch.device) -> float:
    """Returns the seconds that something takes on the device, a mean; the first time, which starts it, is left out."""
    work()
    with _timed(device) as seconds:
        for _ in range(_REPEATS):
            work()
    return seconds[0] / _REPEATS


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
