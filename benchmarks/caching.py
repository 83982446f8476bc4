"""Epochs over pictures that were decoded before, against torchvision that decodes in every one.

Everybody has two worker processes, batches of 64, a random resized crop to 224, a flip, float values and normalising.
The first epoch of the cache is the one that fills it; then all take turns, an epoch each. Nobody trains: the batches
are received, and their first values are read. Processor time is that of all processes together: on a machine
with other work it is the fairer measure. Pictures are 500 × 375, and photographs of 6 megapixels, both made from
those in the folder that HOLDFAST_TEST_DATA names.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from benchmarks.byte_batches import ByteBatches
from benchmarks.options import Options
from benchmarks.spread import summary
from holdfast.data import ImageFolder, Loader
from holdfast.data.cache_folder import disk_store
from holdfast.data.cache_key import Prefix, read_content_digests
from holdfast.data.cache_store import PictureStore, memory_store
from holdfast.data.cached_pictures import CachedPictures
from holdfast.data.transforms import IMAGENET_MEAN as _MEAN
from holdfast.data.transforms import IMAGENET_STD as _STD

_BATCH, _WORKERS, _CROP, _SIDE = 64, 2, 224, 448
_FINISH = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)]
_RANDOM_CROP = v2.RandomResizedCrop(_CROP, antialias=True)
_CROPPED = [_RANDOM_CROP, v2.RandomHorizontalFlip()]


@dataclass
class _Contender:
    """Somebody who delivers epochs: a name, one epoch as an iterator of batches, and its times."""

    name: str
    epoch: Callable[[], Iterator[Tensor]]
    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def main(options: Options) -> None:
    """Measures both kinds of pictures and prints a table for each."""
    source = Path(os.environ.get("HOLDFAST_TEST_DATA", "../shared/data"))
    if not source.is_dir():
        print(f"left out: there are no pictures at {source}; name their folder in HOLDFAST_TEST_DATA")
        return
    with options.folder() as folder:
        for name, make, prefix in (
            ("500 x 375 pictures", _small_pictures, Prefix()),
            ("6 megapixel photographs", _photographs, Prefix(_SIDE)),
        ):
            pictures = folder / name.replace(" ", "-")
            make(source, pictures, 70 if options.short else None)
            _compare(name, pictures, prefix, folder / "cache", options)


def _compare(name: str, pictures: Path, prefix: Prefix, cache: Path, options: Options) -> None:
    rounds = options.turns(7)
    torch.set_num_threads(1)  # as in the workers: a second thread here would only take a core from them
    with contextlib.ExitStack() as stack:
        everybody = [c for c in _contenders(pictures, prefix, cache, stack) if options.wants(c.name)]
        for contender in everybody:
            contender.first, _ = _timed(contender)
        for _ in range(rounds):
            for contender in everybody:
                wall, processor = _timed(contender)
                contender.seconds.append(wall)
                contender.processor.append(processor)
    num = sum(1 for _ in pictures.rglob("*.jpg"))
    size = statistics.mean(path.stat().st_size for path in pictures.rglob("*.jpg")) / 1e3
    side = "full size" if prefix.side is None else f"short side {prefix.side}"
    print(f"\n{name}, {num} of them, {size:,.0f} kB each; kept at {side}; {rounds} epochs by turns")
    print(f"{'':38} {'img/s':>30} {'times torchvision':>22} {'CPU ms a picture':>22} {'times':>7} {'first epoch':>15}")
    base = everybody[0]
    for c in everybody:
        rates = [num / seconds for seconds in c.seconds]
        ratios = [theirs / ours for theirs, ours in zip(base.seconds, c.seconds, strict=True)]
        cpu = [seconds / num for seconds in c.processor]
        gain = statistics.median(base.processor) / statistics.median(c.processor)
        print(
            f"{c.name:38} {summary(rates, ''):>30} {summary(ratios, 'x'):>22} "
            f"{summary(cpu, '', 1e3, 2):>22} {gain:6.1f}x {num / c.first:9.0f} img/s"
        )


def _timed(contender: _Contender) -> tuple[float, float]:
    before, processor = time.perf_counter(), _processor_seconds()
    for batch in contender.epoch():
        batch.flatten()[0].item()
    return time.perf_counter() - before, _processor_seconds() - processor


def _processor_seconds() -> float:
    """Seconds of processor time of this process and of the workers it has, alive as they are."""
    total = time.process_time()
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _contenders(pictures: Path, prefix: Prefix, cache: Path, stack: contextlib.ExitStack) -> Iterator[_Contender]:
    transform = v2.Compose([v2.ToImage(), *_CROPPED, *_FINISH])
    loader = torch.utils.data.DataLoader(
        TorchvisionFolder(str(pictures), transform),
        batch_size=_BATCH,
        shuffle=True,
        num_workers=_WORKERS,
        persistent_workers=True,
    )
    yield _Contender("torchvision ImageFolder + DataLoader", lambda: (batch[0] for batch in loader))
    collection = ImageFolder(pictures)
    digests = read_content_digests(collection)
    keys = [CachedPictures(collection, prefix, None, digests).key(i) for i in range(len(collection))]
    on_disk = disk_store(cache, [key for key in keys if key is not None], 1e6, None)

    def ours(store: PictureStore | None, tail: Callable[[Tensor], Tensor]) -> Loader:
        made = Loader(
            CachedPictures(collection, prefix, store, digests),
            batch_size=_BATCH,
            transform=tail,
            shuffle=True,
            num_workers=_WORKERS,
        )
        stack.callback(made.close)
        return made

    whole, crop = v2.Compose([*_CROPPED, *_FINISH]), v2.Compose(_CROPPED)
    uncached = ours(None, whole)
    yield _Contender("holdfast --cache off", lambda: (batch.inputs for batch in uncached))
    in_memory = memory_store(len(collection), 8 << 30)
    ram, disk = ours(in_memory, whole), ours(on_disk, whole)
    yield _Contender("holdfast --cache ram", lambda: (batch.inputs for batch in ram))
    yield _Contender("holdfast --cache disk", lambda: (batch.inputs for batch in disk))
    kept = CachedPictures(collection, prefix, in_memory, digests)

    def short(tail: Callable[[Tensor], Tensor], *, finish: bool = True) -> Callable[[], Iterator[Tensor]]:
        batches = ByteBatches(
            kept, tail, size=_CROP, batch_size=_BATCH, num_workers=_WORKERS, mean=_MEAN, std=_STD, finish=finish
        )
        return lambda: iter(batches)

    yield _Contender("short way (byte_batches), v2's crop", short(crop))
    yield _Contender("short way, crop by interpolate", short(crop_directly))
    yield _Contender("short way, bytes (as for a GPU)", short(crop_directly, finish=False))


def crop_directly(image: Tensor) -> Tensor:
    """The same crop without the ways through `v2`: parameters, one resize of a view, a flip."""
    top, left, height, width = _RANDOM_CROP.make_params([image]).values()
    view = image[None, :, top : top + height, left : left + width]
    result = F.interpolate(view, (_CROP, _CROP), mode="bilinear", antialias=True)[0]
    return result.flip(-1) if torch.rand(()) < 0.5 else result


def _small_pictures(source: Path, target: Path, most: int | None) -> None:
    files = sorted((source / "hymenoptera_data").rglob("*.jpg"))[:most]
    for number, path in enumerate(files):
        place = target / ("odd" if number % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            if image.size == (500, 375) and image.mode == "RGB":
                (place / f"{number}.jpg").write_bytes(path.read_bytes())
            else:
                ImageOps.fit(image.convert("RGB"), (500, 375)).save(place / f"{number}.jpg", quality=95)


def _photographs(source: Path, target: Path, most: int | None) -> None:
    """Real photographs brought to 3000 x 2000, each as it is and mirrored, upside down, and turned about."""
    ways = [lambda i: i, ImageOps.mirror, ImageOps.flip, lambda i: ImageOps.flip(ImageOps.mirror(i))]
    files = [p for kind in ("camera", "wallpaper") for p in sorted((source / "large_photos").glob(f"{kind}_*"))]
    number = 0
    for path in files:
        with Image.open(path) as image:
            picture = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (3000, 2000))
        for way in ways[: 1 if most else None]:
            place = target / ("odd" if number % 2 else "even")
            place.mkdir(parents=True, exist_ok=True)
            way(picture).save(place / f"{number}.jpg", quality=90)
            number += 1
