"""The IDX files of MNIST and its kin, gzipped or not, as they come.

Format: two zero bytes, a type byte, the number of dimensions, each size as big-endian uint32, then the values.
Source: LeCun, Cortes & Burges, the MNIST database's page.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from holdfast.data.arrays import ArrayPictures
from holdfast.data.sample import Collection, SetName
from holdfast.errors import DataError

_PREFIXES: dict[SetName, str] = {"train": "train", "test": "t10k"}
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def find_idx_folder(folder: Path) -> Path | None:
    """Returns the folder that holds IDX files (`folder`, or `raw/` or `*/raw/` below it), or None."""
    for candidate in (folder, folder / "raw", *sorted(folder.glob("*/raw"))):
        if any(_find(candidate, prefix, "images-idx3") for prefix in _PREFIXES.values()):
            return candidate
    return None


def read_idx_folder(folder: Path) -> Collection:
    """Reads `train-images-idx3-ubyte[.gz]` and its three companions; `t10k-*` becomes the test set.

    Raises:
        DataError: a companion is missing, or a file is damaged.
    """
    images, labels, sets = [], [], {}
    start = 0
    for set_name, prefix in _PREFIXES.items():
        image_file, label_file = _find(folder, prefix, "images-idx3"), _find(folder, prefix, "labels-idx1")
        if image_file is None and label_file is None:
            continue
        if image_file is None or label_file is None:
            missing = "images-idx3" if image_file is None else "labels-idx1"
            raise DataError(
                f"{folder} has only one of the two {prefix} files; {prefix}-{missing}-ubyte[.gz] is missing."
            )
        pixels, targets = read_idx(image_file), read_idx(label_file)
        if pixels.ndim != 3 or targets.ndim != 1 or len(pixels) != len(targets):
            raise DataError(
                f"{image_file.name} has shape {pixels.shape} and {label_file.name} {targets.shape}; "
                "expected [N, H, W] and [N]."
            )
        images.append(pixels)
        labels.append(targets.astype(np.int64))
        sets[set_name] = np.arange(start, start + len(pixels))
        start += len(pixels)
    if not images:
        raise DataError(f"{folder} has no IDX files (train-images-idx3-ubyte[.gz] and its companions).")
    classes = _FASHION if "fashion" in str(folder).lower() else None
    return Collection(ArrayPictures(np.concatenate(images), np.concatenate(labels), classes), sets)


def read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Reads one IDX file into an array of the shape and type its header states.

    Raises:
        DataError: the file is not IDX, or is shorter or longer than its header says.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"Reading {path}: damaged or cut short ({error}).") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise DataError(f"Reading {path}: not an IDX file (it begins with {data[:4].hex(' ') or 'nothing'}).")
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise DataError(f"Reading {path}: the file ends within its header.")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    dtype = np.dtype(_TYPES[data[2]])
    expected = header + int(np.prod(shape)) * dtype.itemsize
    if len(data) != expected:
        raise DataError(
            f"Reading {path}: {len(data):,} bytes unpacked; its header promises {expected:,}. Fetch it again."
        )
    return np.frombuffer(data, dtype, offset=header).reshape(shape)


def _find(folder: Path, prefix: str, kind: str) -> Path | None:
    # torchvision and some mirrors write a dot for the second dash.
    for stem in (f"{prefix}-{kind}-ubyte", f"{prefix}-{kind.replace('-', '.')}-ubyte"):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None
