"""Pictures that are files below one folder; what a folder of classes and a CSV have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash
from torch import Tensor

from holdfast.data.decode import Decoder
from holdfast.data.encoded import Encoded
from holdfast.data.picture_file import open_image
from holdfast.data.sample import Indices

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".tga",
    ]
)


def is_image_name(name: str) -> bool:
    """Returns whether a file of this name is meant to be a picture; hidden files are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  # 1M files


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts "2" before "10", "img9" before "img10" and "img" before both; ties keep plain text order."""
    parts = re.split(r"(\d+)", text)
    return (*((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p), (-1, 0, text))


class FilePictures:
    """Labelled image files below `root`.

    Args:
        root: the folder that `paths` are relative to.
        paths: N paths with `/`, below `root`.
        labels: `[N]` class indices.
        classes: class names.
        channels: 3 to decode to RGB, 1 to grey.
        decoder: see `decode_image`.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: Indices,
        classes: Sequence[str],
        *,
        channels: int = 3,
        decoder: Decoder = "auto",
    ) -> None:
        self.root = root
        self.paths = list(paths)
        self.channels = channels
        self.decoder: Decoder = decoder
        self._labels = labels
        self._classes = list(classes)

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        return self._classes

    @property
    def labels(self) -> Indices:
        """`[N]` int64."""
        return self._labels

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Returns the picture's path below the root."""
        return self.paths[index]

    def path(self, index: int) -> Path:
        """Returns the picture's path."""
        return self.root / self.paths[index]

    def read(self, index: int) -> Tensor:
        """Returns the picture as `[channels, H, W]` uint8, upright. Raises DataError, naming the file."""
        return self.open(index).decode(1.0)

    def open(self, index: int) -> Encoded:
        """Returns the picture, upright, not yet decoded. Raises DataError, naming the file."""
        return open_image(self.path(index), self.channels, self.decoder)

    def num_bytes(self, index: int) -> int:
        """Returns the file's size, -1 when it is gone."""
        try:
            return self.path(index).stat().st_size
        except OSError:
            return -1

    def fingerprint(self) -> str:
        """Returns a digest of every path, size and label and of the class list; contents are compared elsewhere."""
        digest = xxhash.xxh3_128(repr(self._classes).encode())
        for index, path in enumerate(self.paths):
            digest.update(f"{path}\0{self._labels[index]}\0{self.num_bytes(index)}\n".encode())
        return digest.hexdigest()


def labels_array(labels: Sequence[int]) -> Indices:
    """Returns `labels` as `[N]` int64."""
    return np.asarray(labels, dtype=np.int64)
