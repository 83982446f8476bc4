"""Epochs over pictures that were decoded before, against torchvision that decodes in every one.

torchvision is there twice: as its references put it together, and with the crop cut out of Pillow's picture before it
becomes a tensor; every row has its ratio to either. Everybody has two worker processes, batches of 64, a random resized
crop to 224, a flip, float values and normalising. The first epoch of the cache is the one that fills it; then all take
turns, some epochs each, as a training has them one after another. Ours goes on from one to the next without a pause;
what it has made ahead at the end of a turn is thrown away, so that each turn begins with nothing. Nobody trains: the
batches are received, and their first values are read. Processor time is that of all processes together: on a machine
with other work it is the fairer measure. Pictures are 500 × 375, and photographs of 6 megapixels, both made from those
in the folder that HOLDFAST_TEST_DATA names.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from benchmarks.options import Options
from benchmarks.spread import summary
from holdfast.data import ImageFolder, Loader
from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.folder import disk_store
from holdfast.data.cache.key import Prefix, read_content_digests
from holdfast.data.cache.store import memory_store
from holdfast.data.preprocessing.crops import RandomResizedCrop
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN as _MEAN
from holdfast.data.preprocessing.transforms import IMAGENET_STD as _STD
from holdfast.data.preprocessing.transforms import Preprocessing, train_transform

_BATCH, _WORKERS, _CROP = 64, 2, 224
_EPOCHS = 3  # in a turn
_STILL = 0.2  # seconds without work, between turns: workers that are ahead come to rest first
_SIDE, _FIT = 448, 256  # what `train` chooses of large pictures, two crops; and what validation resizes them to
_SCALE = (0.08, 1.0)  # torchvision's shares of the area
_FINISH = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(_MEAN), list(_STD))]
_CROPPED = [v2.RandomResizedCrop(_CROP, _SCALE, antialias=True), v2.RandomHorizontalFlip()]
# As a tensor from the first step on, as torchvision's references do it; and as Pillow's picture until it is small.
_TORCHVISION = {"torchvision": [v2.ToImage(), *_CROPPED], "torchvision, Pillow crops": [*_CROPPED, v2.ToImage()]}

# As it is, mirrored, upside down, and turned about.
_WAYS: list[Callable[[Image.Image], Image.Image]] = [
    lambda i: i,
    ImageOps.mirror,
    ImageOps.flip,
    lambda i: ImageOps.flip(ImageOps.mirror(i)),
]


@dataclass
class _Contender:
    """Somebody who delivers epochs: a name, so many epochs in a row as an iterator of batches, and its times."""

    name: str
    epochs: Callable[[int], Iterator[Tensor]]
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
            ("6 megapixel photographs", _photographs, Prefix.before_crops(_SIDE, scaled=False)),
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
            contender.first, _ = _timed(contender, 1)
        for _ in range(rounds):
            for contender in everybody:
                wall, processor = _timed(contender, _EPOCHS)
                contender.seconds.append(wall)
                contender.processor.append(processor)
    num = sum(1 for _ in pictures.rglob("*.jpg"))
    size = statistics.mean(path.stat().st_size for path in pictures.rglob("*.jpg")) / 1e3
    side = "full size" if prefix.side is None else f"short side {prefix.side}"
    print(f"\n{name}, {num} of them, {size:,.0f} kB each; kept at {side}; {rounds} turns of {_EPOCHS} epochs")
    bases = [c for c in everybody if c.name in _TORCHVISION]
    print(f"{'':26} {'img/s':>24} {'CPU ms a picture':>22} {'first epoch':>15}   times {', times '.join(_TORCHVISION)}")
    for c in everybody:
        rates = [num / seconds for seconds in c.seconds]
        cpu = [seconds / num for seconds in c.processor]
        ratios = [
            f"{summary([b / o for b, o in zip(base.seconds, c.seconds, strict=True)], '×')} wall, "
            f"{statistics.median(base.processor) / statistics.median(c.processor):.1f} × CPU"
            for base in bases
        ]
        cells = f"{summary(rates, '', digits=0):>24} {summary(cpu, '', 1e3, 2):>22} {num / c.first:9,.0f} img/s"
        print(f"{c.name:26} {cells}   {' · '.join(ratios)}")


def _timed(contender: _Contender, epochs: int) -> tuple[float, float]:
    """Returns seconds an epoch: by the clock, and of processors."""
    _wait_until_still()
    before, processor = time.perf_counter(), _processor_seconds()
    for batch in contender.epochs(epochs):
        batch[(0,) * batch.ndim].item()
    return (time.perf_counter() - before) / epochs, (_processor_seconds() - processor) / epochs


def _wait_until_still() -> None:
    busy = _processor_seconds()
    while True:
        time.sleep(_STILL)
        busy, before = _processor_seconds(), busy
        if busy - before < _STILL / 10:
            return


def _processor_seconds() -> float:
    """Seconds of processor time of this process and of the workers it has, alive as they are."""
    total = time.process_time()
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _contenders(pictures: Path, prefix: Prefix, cache: Path, stack: contextlib.ExitStack) -> Iterator[_Contender]:
    for name, steps in _TORCHVISION.items():
        loader = torch.utils.data.DataLoader(
            TorchvisionFolder(str(pictures), v2.Compose([*steps, *_FINISH])),
            batch_size=_BATCH,
            shuffle=True,
            num_workers=_WORKERS,
            persistent_workers=True,
        )
        yield _Contender(name, _epochs_of(loader))
    collection = ImageFolder(pictures)
    digests = read_content_digests(collection)
    keys = [CachedPictures(collection, prefix, None, digests).key(i) for i in range(len(collection))]
    stores = {
        "holdfast --cache off": (prefix, None),
        "holdfast --cache ram": (prefix, memory_store(len(collection), 8 << 30)),
        "holdfast --cache disk": (prefix, disk_store(cache, [key for key in keys if key is not None], 1e6, None)),
        f"  ram, --decode-size {_FIT}": (
            Prefix.before_crops(_FIT, scaled=False),
            memory_store(len(collection), 8 << 30),
        ),
    }
    preprocessing = Preprocessing(_CROP, 256, _MEAN, _STD, scaled_decode=True)
    # Our own crops are of a quarter of the area at least; here of what torchvision takes.
    crop = RandomResizedCrop(_CROP, _SCALE, v2.InterpolationMode.BILINEAR)
    transform = replace(train_transform(preprocessing, "crop+flip"), crop=crop)
    for name, (side, store) in stores.items():
        loader = Loader(
            CachedPictures(collection, side, store, digests),
            batch_size=_BATCH,
            transform=transform,
            shuffle=True,
            num_workers=_WORKERS,
            epochs=1_000_000,
        )
        stack.callback(loader.close)
        yield _Contender(name, _epochs_from_nothing(loader))


def _epochs_of(loader: Iterable[Any]) -> Callable[[int], Iterator[Tensor]]:
    return lambda num: (batch[0] for _ in range(num) for batch in loader)


def _epochs_from_nothing(loader: Loader) -> Callable[[int], Iterator[Tensor]]:
    """Each call begins at another epoch than the one that workers have gone on to."""

    def epochs(num: int) -> Iterator[Tensor]:
        loader.seek((loader.epoch + 10) * loader.steps_per_epoch)
        return (batch[0] for _ in range(num) for batch in loader)

    return epochs


def _small_pictures(source: Path, target: Path, most: int | None) -> None:
    """Real pictures brought to 500 x 375, each four times, so that an epoch lasts longer than its beginning and end."""
    for number, path in enumerate(sorted((source / "hymenoptera_data").rglob("*.jpg"))[:most]):
        with Image.open(path) as image:
            _add(ImageOps.fit(image.convert("RGB"), (500, 375)), target, number, 95, _WAYS)


def _photographs(source: Path, target: Path, most: int | None) -> None:
    """Real photographs brought to 3000 x 2000, each four times."""
    files = [p for kind in ("camera", "wallpaper") for p in sorted((source / "large_photos").glob(f"{kind}_*"))]
    for number, path in enumerate(files):
        with Image.open(path) as image:
            picture = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (3000, 2000))
        _add(picture, target, number, 90, _WAYS[: 1 if most else None])


def _add(
    picture: Image.Image, target: Path, number: int, quality: int, ways: Sequence[Callable[[Image.Image], Image.Image]]
) -> None:
    for turn, way in enumerate(ways):
        place = target / ("odd" if turn % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        way(picture).save(place / f"{number}-{turn}.jpg", quality=quality)
