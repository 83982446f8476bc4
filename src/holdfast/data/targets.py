"""What a model is to say of each picture: its class, several labels, numbers, or points.

The one place that knows what a target is. `Targets` are those of a collection; `TargetSpec` says what the numbers that
leave the network mean, and travels inside checkpoints. This file knows nothing of files, losses or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor
from torchvision import tv_tensors

from holdfast.data.sample import Indices, Pictures
from holdfast.errors import DataError

Task = Literal["classification", "landmarks", "multilabel", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)

# What a batch holds of one sample: a class index, `[K]` float32, or points `[P, 2]` float32.
Target = int | Tensor


@dataclass(frozen=True)
class TargetSpec:
    """What the numbers that leave the network mean.

    Attributes:
        task: see `Targets`.
        names: K classes, labels or columns, or P points, in the order of the outputs (two outputs a point: x, y).
        mean, std: an output is in units of `std` from `mean`. Regression: K numbers each, of the training set.
            Landmarks: 2P each, of the training set's points in [-1, 1] across the network's input; empty for 0 and 1.
        flip_pairs: landmarks: pairs of places in `names` that change places in a mirrored picture.
        eyes: landmarks: two places in `names`; errors are told in units of the distance between them. None: in units
            of the diagonal of the box around the points.
    """

    task: Task
    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    eyes: tuple[int, int] | None = None

    @property
    def num_outputs(self) -> int:
        """Numbers that the network gives for one picture: K, or 2P."""
        return len(self.names) * (2 if self.task == "landmarks" else 1)

    def standardised(self, values: npt.NDArray[np.floating[Any]]) -> TargetSpec:
        """Returns this with the mean and standard deviation of `values` `[n, K]`, NaN left out; a std of 0 becomes 1.

        Raises:
            DataError: a column without a number.
        """
        empty = [name for name, column in zip(self.names, values.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise DataError(f"No picture to train on has a number in column {', '.join(empty)}. Leave it out.")
        std = np.nanstd(values, axis=0)
        mean = np.nanmean(values, axis=0)
        return replace(self, mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TargetSpec:
        """Rebuilds the description that `to_json` gave."""
        pairs = tuple((int(a), int(b)) for a, b in values.get("flip_pairs", ()))
        eyes = values.get("eyes")
        return cls(
            values["task"],
            tuple(values["names"]),
            tuple(values.get("mean", ())),
            tuple(values.get("std", ())),
            pairs,
            (int(eyes[0]), int(eyes[1])) if eyes else None,
        )


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of N pictures.

    | task           | values                  | of one picture                                          |
    |----------------|-------------------------|---------------------------------------------------------|
    | classification | `[N]` int64             | an index into `names`                                   |
    | multilabel     | `[N, K]` float32        | 1 for each label that it has, else 0                    |
    | regression     | `[N, K]` float64        | a number for each name, NaN where it is missing         |
    | landmarks      | `[N, P, 2]` float64     | x, y in pixels of the upright picture; NaN: missing     |

    A point's x and y count pixels from the middle of the first, as the coordinates of most tools and of torchvision's
    `KeyPoints` do. It may lie off the picture.

    Attributes:
        task: one of TASKS.
        names: K class, label or column names, or P point names.
        values: see above.
        sizes: landmarks: `[N, 2]` int64, height and width of each upright picture; 0 where it cannot be read.
    """

    task: Task
    names: list[str]
    values: npt.NDArray[Any]
    sizes: Indices | None = None

    def __len__(self) -> int:
        return len(self.values)

    def spec(self) -> TargetSpec:
        """Returns what a network's outputs for these targets mean, with nothing measured yet."""
        return TargetSpec(self.task, tuple(self.names))

    def of(self, index: int, image: Tensor) -> Target:
        """Returns the target of one picture, whose pixels are `image`; points are `tv_tensors.KeyPoints`.

        An image that was made smaller on its way here (a cache, scaled decoding) has its points in its own pixels.
        """
        if self.task == "classification":
            return int(self.values[index])
        value = self.values[index]
        if self.task != "landmarks":
            return torch.from_numpy(value.astype(np.float32))
        height, width = image.shape[-2:]
        own = (height, width) if self.sizes is None else (int(self.sizes[index, 0]), int(self.sizes[index, 1]))
        if own != (height, width) and min(own) > 0:
            value = (value + 0.5) * np.array([width / own[1], height / own[0]]) - 0.5
        points = tv_tensors.KeyPoints(torch.from_numpy(value.astype(np.float32)), canvas_size=(height, width))
        return cast(Tensor, points)

    def text(self, index: int) -> str:
        """Returns the target as one would write it into a table; of points, their number and a digest."""
        value = self.values[index]
        if self.task == "classification":
            return self.names[int(value)]
        if self.task == "multilabel":
            return "|".join(name for name, has in zip(self.names, value, strict=True) if has)
        if self.task == "regression":
            return "|".join("" if np.isnan(number) else f"{number:.17g}" for number in value)
        known = int((~np.isnan(value).any(-1)).sum())
        return f"{known} points {xxhash.xxh3_64_hexdigest(np.ascontiguousarray(value).tobytes())}"

    def strata(self) -> tuple[Indices, list[str]]:
        """Returns what to divide the pictures into sets by: `[N]` int64 and the names of these groups.

        Classes; of several labels a picture's rarest (so that rare ones reach every set); else one group of all.
        """
        if self.task == "classification":
            return self.values, self.names
        if self.task == "multilabel":
            counts = self.values.sum(0)
            keys = np.where(self.values > 0, counts, np.inf)
            rarest = np.where(np.isinf(keys).all(1), len(self.names), keys.argmin(1))
            groups, places = np.unique(rarest, return_inverse=True)
            return places.astype(np.int64), [[*self.names, "(no label)"][group] for group in groups]
        return np.zeros(len(self.values), dtype=np.int64), ["all"]

    def off_picture(self) -> npt.NDArray[np.bool_]:
        """Returns, for landmarks, `[N, P]`: which points lie off their picture; none where its size is not known."""
        if self.sizes is None:
            return np.zeros(self.values.shape[:2], bool)
        # The edges, from the middle of the first pixel. NaN is on neither side of them.
        top = np.where(self.sizes > 0, self.sizes, np.inf)[:, None, ::-1] - 0.5
        off = ((self.values < -0.5) | (self.values > top)).any(-1) & (self.sizes.min(1) > 0)[:, None]
        found: npt.NDArray[np.bool_] = np.asarray(off & ~np.isnan(self.values).any(-1), bool)
        return found

    def digest(self) -> str:
        """Returns a digest of names and values."""
        digest = xxhash.xxh3_128(repr((self.task, self.names, self.values.shape)).encode())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        return digest.hexdigest()

    def align(self, names: Sequence[str], indices: Indices) -> npt.NDArray[Any]:
        """Returns the values of some pictures in the order of a model's `names`, matched by name, never by place.

        Raises:
            DataError: a name that the model does not know; for numbers and points also one that is missing here.
        """
        used = {self.names[int(k)] for k in self.values[indices]} if self.task == "classification" else set(self.names)
        unknown = sorted(used - set(names))
        missing = [name for name in names if name not in self.names] if self.task in ("regression", "landmarks") else []
        if unknown or missing:
            word = _WORDS[self.task]
            problems = [
                f"the model does not know the {word} {', '.join(unknown[:5])}{' …' if len(unknown) > 5 else ''}",
                f"the data lack the {word} {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}",
            ]
            said = " and ".join(text for text, found in zip(problems, (unknown, missing), strict=True) if found)
            raise DataError(
                f"Matching targets by name: {said}; it knows {', '.join(names[:10])}"
                f"{' …' if len(names) > 10 else ''}. Give pictures of its own."
                if unknown
                else f"Matching targets by name: {said}, which the model knows. Give pictures that have them."
            )
        place = {name: k for k, name in enumerate(names)}
        if self.task == "classification":
            return np.array([place[self.names[int(k)]] for k in self.values[indices]], dtype=np.int64)
        aligned = np.zeros((len(indices), len(names), *self.values.shape[2:]), self.values.dtype)
        for k, name in enumerate(self.names):
            aligned[:, place[name]] = self.values[indices, k]
        return aligned


_WORDS: dict[Task, str] = {
    "classification": "class",
    "multilabel": "label",
    "regression": "column",
    "landmarks": "point",
}


# What a list of names is called in JSON.
NAMES: dict[Task, str] = {
    "classification": "classes",
    "multilabel": "labels",
    "regression": "columns",
    "landmarks": "points",
}


def targets_of(pictures: Pictures) -> Targets:
    """Returns the targets of a collection: its `targets` where it has some, else its classes."""
    found = getattr(pictures, "targets", None)
    return found if isinstance(found, Targets) else Targets("classification", pictures.classes, pictures.labels)


def describe(targets: Targets) -> str:
    """Returns how a person would count them: "3 classes", "68 points"."""
    plural = {"class": "classes"}.get(word := _WORDS[targets.task], f"{word}s")
    return f"{len(targets.names)} {word if len(targets.names) == 1 else plural}"


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
