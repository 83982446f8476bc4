"""A picture whose size is known and whose pixels are not made yet: so that a crop is chosen before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol, cast

from torch import Tensor

from holdfast.data.sample import Pictures


class Encoded(NamedTuple):
    """A picture, not yet decoded.

    Attributes:
        height, width: pixels, of the upright picture at full size.
        decode: returns it as `[C, h, w]`, given by how much each side may be smaller, 1 or more; `h` and `w` are then
            at least `height` and `width` divided by that, and may be more. Raises DataError.
    """

    height: int
    width: int
    decode: Callable[[float], Tensor]


class EncodedPictures(Protocol):
    """Pictures that can tell a picture's size before they decode it."""

    def open(self, index: int) -> Encoded:
        """Returns picture `index`, not yet decoded. Raises DataError, naming it."""
        ...


def open_picture(pictures: Pictures, index: int) -> Encoded:
    """Returns picture `index` of any collection; those that cannot do otherwise decode it now. Raises DataError."""
    # Asked of the class, once: looking at an object through a protocol takes longer than opening one that is kept.
    if can_open(type(pictures)):
        return cast(EncodedPictures, pictures).open(index)
    return decoded(pictures.read(index))


@cache
def can_open(kind: type) -> bool:
    """Whether collections of this class are `EncodedPictures`."""
    return callable(getattr(kind, "open", None))


def decoded(picture: Tensor) -> Encoded:
    """Returns a picture that is decoded already, `[C, H, W]`, in the form of one that is not."""
    height, width = picture.shape[1:]
    return Encoded(height, width, lambda _: picture)
