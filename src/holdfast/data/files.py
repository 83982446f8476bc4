"""Pictures that are files below one folder; what a folder of classes and a CSV have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash
from torch import Tensor

from holdfast.data.decoding.decode import Decoder
from holdfast.data.folders.natural import natural_key as natural_key  # part of this module, for its users
from holdfast.data.paths import PathTable
from holdfast.data.preprocessing.encoded import Encoded
from holdfast.data.preprocessing.picture_file import open_image
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

# Pictures too, but not such as are looked for: phones', drawings', cameras' and instruments' own.
_UNREAD_SUFFIXES = frozenset((
    ".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".xcf", ".pdf", ".eps", ".ico", ".pcx", ".exr", ".hdr", ".dcm",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".npy", ".j2k", ".jpx", ".jxr", ".nii",
))  # fmt: skip

_MANY = 4096  # paths that are looked at together


def is_image_name(name: str) -> bool:
    """Returns whether a file of this name is meant to be a picture; hidden files are not."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  # 1M files


def is_unread_kind(name: str) -> bool:
    """Returns whether a file is a picture by its name, and of a kind that has to be converted first."""
    return os.path.splitext(name)[1].lower() in _UNREAD_SUFFIXES  # noqa: PTH122  # 1M files


class FilePictures:
    """Labelled image files below `root`.

    Args:
        root: the folder that `paths` are relative to.
        paths: N paths with `/`, below `root`; they are kept as a `PathTable`.
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
        self.paths: Sequence[str] = PathTable.of(paths)
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
        # Python keeps every part of a `Path` in one table of texts. Names from a million files fill it, page by page in
        # each worker's own memory, and then it is copied as a whole.
        return open_image(self._place(index), self.channels, self.decoder)

    def _place(self, index: int) -> str:
        """Returns the picture's path as text; one that a table gave as absolute stays so."""
        below = "" if self.root == Path() else self.root
        return os.path.join(below, self.paths[index])  # noqa: PTH118

    def num_bytes(self, index: int) -> int:
        """Returns the file's size, -1 when it is gone."""
        try:
            return os.stat(self._place(index)).st_size  # noqa: PTH116  # 1M files
        except OSError:
            return -1

    def fingerprint(self) -> str:
        """Returns a digest of every path, size and label and of the class list; contents are compared elsewhere."""
        sizes = np.fromiter(map(self.num_bytes, range(len(self))), np.int64, len(self))
        digest = xxhash.xxh3_128(repr((len(self), self._classes)).encode())
        for start in range(0, len(self), _MANY):
            digest.update("\0".join([*self.paths[start : start + _MANY], ""]).encode())  # no name holds a zero
        digest.update(self._labels.tobytes())
        digest.update(sizes.tobytes())
        return digest.hexdigest()


def labels_array(labels: Sequence[int]) -> Indices:
    """Returns `labels` as `[N]` int64."""
    return np.asarray(labels, dtype=np.int64)
