"""By what a decoded picture is found again: the contents of its file, what was done to it, and by what programs.

Renamed files are found, changed ones are not, and pictures of another decoder or another size stand side by side.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
import xxhash
from PIL import features
from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.decoding.decode import decoder_versions
from holdfast.data.files import FilePictures
from holdfast.data.preprocessing.encoded import Encoded

ContentDigests = npt.NDArray[np.uint8]  # [N, 16], xxh3-128 of each file; all zeros where it is not known


@dataclass(frozen=True)
class Prefix:
    """What is done to a picture right after decoding, before anything random. It is done with a cache and without.

    Attributes:
        side: the short side is brought to this, pixels; None leaves the picture as it is.
        enlarge: whether smaller pictures are brought up to `side` too.
        square: the picture is brought to `side` by `side`, larger or smaller, whatever its proportions.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        scaled: whether the picture may be decoded smaller, as long as no side is brought up again.
    """

    side: int | None = None
    enlarge: bool = False
    square: bool = False
    interpolation: str = "bilinear"
    scaled: bool = False

    @classmethod
    def before_crops(cls, side: int | None, *, scaled: bool) -> Prefix:
        """Returns the prefix of pictures that random crops are cut out of, which resize them a second time.

        Bicubic whatever the crops take: after two bilinear resizes neighbouring pixels differ by a quarter less (in
        squares) than after one, and by a tenth less than in validation, whose pictures are resized once.
        """
        return cls(side, interpolation="bicubic", scaled=scaled) if side else cls()

    def __call__(self, picture: Tensor) -> Tensor:
        """Returns the picture, `[C, H, W]` in and out, its type as it was."""
        short = min(picture.shape[-2:])
        if self.side is None or (short <= self.side and not self.enlarge and not self.square):
            return picture
        size = [self.side, self.side] if self.square else [self.side]
        mode = v2.InterpolationMode(self.interpolation)
        return cast(Tensor, v2.functional.resize(picture, size, mode, antialias=True))

    def of(self, picture: Encoded) -> Tensor:
        """Decodes a picture, as far as it is needed, and returns what is kept of it. Raises DataError."""
        return self(picture.decode(self.most_reduced(picture)))

    def most_reduced(self, picture: Encoded) -> float:
        """Returns by how much each side of the decoded picture may be smaller, 1 or more."""
        smaller = self.scaled and self.side is not None
        return max(min(picture.height, picture.width) / (self.side or 1), 1.0) if smaller else 1.0

    @property
    def is_repeated(self) -> bool:
        """Whether a transform that begins with the same resize would find nothing left to do."""
        return self.enlarge or self.square

    def num_pixels(self, height: int, width: int) -> float:
        """Returns how many pixels such a picture has afterwards, about."""
        if self.side is not None and self.square:
            return self.side**2
        factor = 1.0 if self.side is None else self.side / max(min(height, width), 1)
        return height * width * (factor if self.enlarge else min(factor, 1.0)) ** 2


def read_content_digests(pictures: FilePictures) -> ContentDigests:
    """Reads every file once and returns `[N, 16]` uint8 digests, zeros for those that cannot be read."""
    digests = np.zeros((len(pictures), 16), np.uint8)
    for index in range(len(pictures)):
        digest = content_digest(pictures, index)
        if digest is not None:
            digests[index] = np.frombuffer(digest, np.uint8)
    return digests


def content_digest(pictures: FilePictures, index: int) -> bytes | None:
    """Returns the xxh3-128 of a picture's file as it is now, 16 bytes; None when it cannot be read."""
    try:
        return xxhash.xxh3_128_digest(pictures.path(index).read_bytes())
    except OSError:
        return None


def picture_key(content: bytes, recipe: bytes) -> bytes:
    """Returns the key of a picture, 16 bytes, from its file's digest and from `recipe_bytes`."""
    return xxhash.xxh3_128_digest(content + recipe)


def recipe_bytes(prefix: Prefix, decoder: str, channels: int) -> bytes:
    """Returns what the pixels depend on besides the file, as bytes."""
    return repr((prefix, decoder, channels, _programs())).encode()


@cache
def _programs() -> tuple[str, ...]:
    """The programs that decode and resize, and the processor: resizing takes other paths on another one."""
    versions = (decoder_versions(), PIL.__version__, features.version("libjpeg_turbo"))
    resizing = (torch.__version__, torchvision.__version__, torch.backends.cpu.get_cpu_capability())
    return tuple(str(part) for part in (*versions, *resizing, platform.machine()))
