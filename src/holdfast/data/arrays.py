"""Pictures that are already in memory: tensors, NumPy arrays, IDX files, the digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from holdfast.data.sample import Indices
from holdfast.errors import DataError
from holdfast.words import count


class ArrayPictures:
    """Labelled pictures held in one array.

    Args:
        images: `[N, H, W]`, `[N, C, H, W]` or channels-last `[N, H, W, C]` (C of 1 or 3 in the last place), a tensor
            or an array; uint8 in [0, 255], or float32 taken as it is. A sequence of N arrays or tensors of one shape
            is copied into one.
        labels: `[N]` integers in [0, K).
        classes: K names; by default "0", "1", ….
        copy: by default the memory is **shared** with `images` when its layout allows (a later change to the array
            is seen by the next epoch); True copies it once, now. Forked workers share it as well. Where they are not
            forked, the pixels are moved into memory that all processes share, once, when workers start: none has a
            copy of its own, and from then on a NumPy array that was given is no longer looked at (a tensor is).

    Raises:
        DataError: shapes or labels do not fit together.
        TypeError: `images` are no pixels.
    """

    def __init__(
        self,
        images: Tensor | npt.NDArray[np.generic] | Sequence[Tensor | npt.NDArray[np.generic]],
        labels: Tensor | npt.NDArray[np.generic] | Sequence[int],
        classes: Sequence[str] | None = None,
        *,
        copy: bool = False,
    ) -> None:
        images = _one_array(images)
        if str(images.dtype).removeprefix("torch.") not in ("uint8", "float32"):
            raise DataError(
                f"Reading pictures from an array of {images.dtype}; expected uint8 in 0 … 255 or float32. Convert it "
                "first, so that nothing is scaled by guess."
            )
        pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
            pixels = pixels.permute(0, 3, 1, 2)
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise DataError(
                f"Reading pictures from an array of shape {tuple(images.shape)}; expected [N, H, W], [N, C, H, W] or "
                "[N, H, W, C] with 1 or 3 channels."
            )
        self._pixels = pixels.clone() if copy else pixels
        given = np.asarray(labels)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise DataError(f"The labels have shape {given.shape} and type {given.dtype}; expected [N] integers.")
        self._labels = given.astype(np.int64)
        top = int(self._labels.max(initial=-1))
        self._classes = list(classes) if classes is not None else [str(k) for k in range(top + 1)]
        if len(self._labels) != len(pixels):
            raise DataError(
                f"There are {count(len(pixels), 'picture')} and {count(len(self._labels), 'label')}; expected one "
                "label each."
            )
        if len(self._labels) and (int(self._labels.min()) < 0 or top >= len(self._classes)):
            raise DataError(
                f"Labels run from {self._labels.min()} to {top}; there are "
                f"{count(len(self._classes), 'class', 'classes')}."
            )

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        return self._classes

    @property
    def labels(self) -> Indices:
        """`[N]` int64."""
        return self._labels

    def __len__(self) -> int:
        return len(self._pixels)

    def name(self, index: int) -> str:
        """Returns the picture's place in the array, as text."""
        return f"#{index}"

    def read(self, index: int) -> Tensor:
        """Returns picture `index`, `[C, H, W]`, as a view of the array: do not write into it."""
        return self._pixels[index]

    def fingerprint(self) -> str:
        """Returns a digest of every pixel, label and class name."""
        digest = xxhash.xxh3_128()
        pixels = self._pixels.contiguous()
        digest.update(repr((tuple(pixels.shape), str(pixels.dtype), self._classes)).encode())
        digest.update(pixels.numpy().data)
        digest.update(self._labels.tobytes())
        return digest.hexdigest()


def _one_array(
    images: Tensor | npt.NDArray[np.generic] | Sequence[Tensor | npt.NDArray[np.generic]],
) -> Tensor | npt.NDArray[np.generic]:
    """Returns a tensor or an array as it is, anything else as NumPy makes an array of it."""
    if isinstance(images, (Tensor, np.ndarray)):
        return images
    expected = "expected a tensor or a NumPy array of shape [N, H, W], [N, C, H, W] or [N, H, W, C]"
    try:
        array = np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of several lengths, a tensor on an accelerator
        raise TypeError(
            f"Reading pictures from a {type(images).__name__}, of which no one array can be made ({error}); {expected}."
        ) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"Reading pictures from a {type(images).__name__} of no numbers; {expected}.")
    return array


def load_digits() -> ArrayPictures:
    """Returns the 1,797 handwritten digits that ship with scikit-learn: `[1797, 1, 8, 8]`, 16 grey levels.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (the test part).
    """
    from sklearn.datasets import load_digits as load

    table = load()
    pixels = np.rint(table.images * (255 / 16)).astype(np.uint8)
    return ArrayPictures(pixels, table.target.astype(np.int64))
