"""The nouns of this room: a collection of pictures, its sets, and the batch that a training step receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

Indices = npt.NDArray[np.int64]
SetName = Literal["train", "val", "test"]
SET_NAMES: tuple[SetName, ...] = ("train", "val", "test")


class Batch(NamedTuple):
    """What one rank receives for one step.

    Attributes:
        inputs: `[B, C, H, W]` float32, transformed.
        targets: `[B]` int64 class indices; several labels: `[B, K]` float32, 1 for each that a picture has; numbers:
            `[B, K]` float32 in their own units; points: `[B, P, 2]` float32, x and y where the transform left them
            (pixels of the input; in training [-1, 1] across it). NaN: missing.
        indices: `[B]` int64, each picture's place in its collection (the row of split.csv, counted from 0).
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor


class Pictures(Protocol):
    """Labelled pictures, addressed by index. All sets of a run share one collection."""

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        ...

    @property
    def labels(self) -> Indices:
        """`[N]` int64, each in [0, len(classes))."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Returns what a person would call the picture: its path below the root, or its place in the array."""
        ...

    def read(self, index: int) -> Tensor:
        """Returns the picture as `[C, H, W]`, uint8 in [0, 255] (float arrays stay float), upright.

        Raises:
            DataError: the picture cannot be read; the message names it.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a digest of what the collection holds: another digest, other data."""
        ...


@dataclass
class Collection:
    """Pictures and the sets they are divided into, as found at DATA.

    Attributes:
        pictures: all of them, over all sets.
        sets: set name → indices into `pictures`; empty when DATA says nothing about sets.
        notices: what a user should know about the data and would not guess, one line each.
        usable: indices of the pictures that can be read, where some cannot; None for all.
        columns: column → N cells as text, when DATA is a CSV; empty otherwise.
    """

    pictures: Pictures
    sets: dict[SetName, Indices] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    usable: Indices | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
