"""Everybody's way from a folder of JPEGs to float batches: random resized crop of 224, flip, normalise; two workers.

Each contender is built once and gives one whole epoch after another: worker processes are running before the clock
starts, and what is measured is an epoch, its first batch included. A contender that would go on working beside the
others (DALI prepares batches of the next epoch) is built anew for each epoch, before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

SIZE, BATCH, WORKERS = 224, 64, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = (0.08, 1.0)  # the usual shares of the area

Epoch = Callable[[], int]  # gives every batch of an epoch, and returns the number of pictures
Ready = Callable[[], Epoch]  # called before the clock starts


class Repeated(Dataset[Any]):
    """A map-style data set, several times over, so that an epoch of few files is long enough."""

    def __init__(self, pictures: Any, times: int) -> None:
        self.pictures, self.times = pictures, times

    def __len__(self) -> int:
        return len(self.pictures) * self.times

    def __getitem__(self, index: int) -> Any:
        return self.pictures[index % len(self.pictures)]


def _count(batches: Any) -> int:
    return sum(len(batch[0]) for batch in batches)


def _torch_loader(pictures: Any, collate: Any = default_collate) -> DataLoader[Any]:
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, collate_fn=collate)


@contextmanager
def torchvision_folder(root: Path, times: int) -> Iterator[Ready]:
    """ImageFolder, v2 and DataLoader, as torchvision's own references put them together."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(SIZE, SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )
    loader = _torch_loader(Repeated(ImageFolder(str(root), transform), times))
    yield lambda: lambda: _count(loader)


@contextmanager
def torchcodec_decode(root: Path, times: int) -> Iterator[Ready]:
    """The same with torchcodec in the place of Pillow."""
    from torchcodec.decoders import decode_image
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, SCALE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(MEAN), list(STD)),
        ]
    )
    folder = ImageFolder(str(root), transform, loader=lambda path: decode_image(path, mode="RGB"))
    loader = _torch_loader(Repeated(folder, times))
    yield lambda: lambda: _count(loader)


@contextmanager
def timm_loader(root: Path, times: int) -> Iterator[Ready]:
    """timm's data set, transform and collate; bytes travel and are normalised a batch at a time."""
    from timm.data import ImageDataset, create_transform
    from timm.data.loader import fast_collate

    pictures = ImageDataset(str(root))
    pictures.transform = create_transform(
        SIZE, is_training=True, use_prefetcher=True, auto_augment=None, color_jitter=0.0, scale=SCALE,
        interpolation="bilinear",
    )  # fmt: skip
    loader = _torch_loader(Repeated(pictures, times), fast_collate)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    yield lambda: lambda: _count((inputs.float().sub_(mean).div_(std), targets) for inputs, targets in loader)


@contextmanager
def _dali(root: Path, times: int, interpolation: str) -> Iterator[Ready]:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=WORKERS, device_id=None)
    def pipeline() -> Any:
        files, labels = fn.readers.file(file_root=str(root), random_shuffle=True)
        pictures = fn.decoders.image_random_crop(files, device="cpu", output_type=types.RGB, random_area=SCALE)
        pictures = fn.resize(pictures, size=(SIZE, SIZE), interp_type=getattr(types, interpolation))
        pictures = fn.crop_mirror_normalize(
            pictures, dtype=types.FLOAT, output_layout="CHW", mirror=fn.random.coin_flip(),
            mean=[value * 255 for value in MEAN], std=[value * 255 for value in STD],
        )  # fmt: skip
        return pictures, labels

    num_batches = -(-sum(1 for _ in root.glob("*/*")) * times // BATCH)

    def ready() -> Epoch:
        built = pipeline()
        built.build()

        def epoch() -> int:
            number = 0
            for _ in range(num_batches):
                pictures, _labels = built.run()
                # Out of DALI's memory, which a later batch overwrites: a loop that keeps a batch needs it.
                number += len(torch.from_numpy(np.array(pictures.as_array())))
            return number

        return epoch

    yield ready


@contextmanager
def dali_triangular(root: Path, times: int) -> Iterator[Ready]:
    """NVIDIA DALI on the CPU, its resizing antialiased as everybody's here."""
    with _dali(root, times, "INTERP_TRIANGULAR") as ready:
        yield ready


@contextmanager
def dali_linear(root: Path, times: int) -> Iterator[Ready]:
    """NVIDIA DALI on the CPU, its resizing without antialiasing: its faster way."""
    with _dali(root, times, "INTERP_LINEAR") as ready:
        yield ready


@contextmanager
def _holdfast(root: Path, times: int, *, side: int | None, scaled_crops: bool) -> Iterator[Ready]:
    from torchvision.transforms import v2

    from holdfast.data import ImageFolder, Loader
    from holdfast.data.cache.cached_pictures import CachedPictures
    from holdfast.data.cache.key import Prefix
    from holdfast.data.preprocessing.crops import RandomResizedCrop
    from holdfast.data.preprocessing.transforms import Preprocessing, train_transform

    folder = ImageFolder(root)
    pictures = (
        folder if side is None else CachedPictures(folder, Prefix.before_crops(side, scaled=True))
    )  # nothing is kept
    usual = train_transform(Preprocessing(SIZE, 256, MEAN, STD), "crop+flip", scaled_crops=scaled_crops)
    # Our own crops are of a quarter of the area at least; here of what the others take.
    transform = replace(usual, crop=RandomResizedCrop(SIZE, SCALE, v2.InterpolationMode.BILINEAR))
    indices = np.tile(np.arange(len(folder)), times)
    loader = Loader(pictures, indices, batch_size=BATCH, transform=transform, shuffle=True, num_workers=WORKERS)
    try:
        yield lambda: lambda: _count(loader)
    finally:
        loader.close()


@contextmanager
def holdfast_scaled_crops(root: Path, times: int) -> Iterator[Ready]:
    """Ours in a loop of one's own: every JPEG is decoded as small as its crop allows."""
    with _holdfast(root, times, side=None, scaled_crops=True) as ready:
        yield ready


@contextmanager
def holdfast_train(root: Path, times: int) -> Iterator[Ready]:
    """Ours as `train` does it uncached: photographs are scaled to one size first (`--decode-size 448`)."""
    with _holdfast(root, times, side=2 * SIZE, scaled_crops=False) as ready:
        yield ready


@contextmanager
def holdfast_full(root: Path, times: int) -> Iterator[Ready]:
    """Ours with every picture decoded at its full size (`--no-scaled-decode --decode-size 0`)."""
    with _holdfast(root, times, side=None, scaled_crops=False) as ready:
        yield ready


CONTENDERS: dict[str, Callable[[Path, int], Any]] = {
    "torchvision ImageFolder": torchvision_folder,
    "torchvision, torchcodec decode": torchcodec_decode,
    "timm": timm_loader,
    "DALI, antialiased": dali_triangular,
    "DALI, linear": dali_linear,
    "holdfast, crops scaled": holdfast_scaled_crops,
    "holdfast, as train does": holdfast_train,
    "holdfast, full size": holdfast_full,
}
