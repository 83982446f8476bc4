"""From a decoded picture to the network's input: torchvision v2 pipelines, described by plain data.

`Preprocessing` is what validation, `val`, `predict` and every exported file share; it travels inside checkpoints, so it
is written once. Augmentation is for training only. This file knows nothing of files, labels or models.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2

from holdfast.errors import ConfigError

Transform = Callable[[Tensor], Tensor]
Augmentation = Literal["none", "shift", "affine", "shift+flip", "crop+flip", "crop+flip+color", "trivial"]
AUGMENTATIONS: tuple[str, ...] = get_args(Augmentation)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input, outside training.

    Attributes:
        img_size: side of the square input, in pixels.
        resize: the short side is brought to this before the centre is cropped, in pixels.
        mean, std: per channel, for values in [0, 1]; their length is the number of channels.
        interpolation: "bilinear" or "bicubic", with antialiasing.
        custom: import path of a user's own transform, `package.module:function`, in place of all this.
        exact: the whole picture is brought to `img_size` in both directions, whatever its shape; `resize` is not used.
    """

    img_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    custom: str | None = None
    exact: bool = False

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocessing:
        """Rebuilds the description that `to_json` gave."""
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**plain)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Returns the transform for everything but training: resize, centre crop, scale to [0, 1], normalise.

    It maps `[C, H, W]` uint8 to `[C, S, S]` float32.

    Raises:
        ConfigError: `preprocessing.custom` cannot be imported.
    """
    if preprocessing.custom:
        return import_callable(preprocessing.custom, "transform")
    size = preprocessing.img_size
    resize = (
        [v2.Resize((size, size), _mode(preprocessing), antialias=True)]
        if preprocessing.exact
        else [v2.Resize(preprocessing.resize, _mode(preprocessing), antialias=True), v2.CenterCrop(size)]
    )
    composed: Transform = v2.Compose([*resize, *_finish(preprocessing)])
    return composed


def train_transform(preprocessing: Preprocessing, augmentation: str, custom: str | None = None) -> Transform:
    """Returns the transform for training: an augmentation by name, then scaling and normalising.

    Args:
        augmentation: one of AUGMENTATIONS. "shift" crops at random from a padded picture (small pictures);
            "affine" turns by 10° at most, shifts and scales by a tenth (signs and digits);
            "crop" is a random resized crop; "color" jitters brightness, contrast and saturation; "trivial" is
            TrivialAugment (Müller & Hutter, ICCV 2021) after a random resized crop.
        custom: import path of a user's transform in place of the augmentation; a float result is passed on as it is,
            a uint8 result is scaled and normalised.

    Raises:
        ConfigError: an unknown augmentation, or a `custom` that cannot be imported.
    """
    if custom:
        return _Finished(import_callable(custom, "transform"), v2.Compose(_finish(preprocessing)))
    if augmentation not in AUGMENTATIONS:
        raise ConfigError(f"There is no augmentation {augmentation!r}. Choose one of: {', '.join(AUGMENTATIONS)}.")
    if augmentation == "none":
        return eval_transform(preprocessing)
    size = preprocessing.img_size
    steps: list[Any] = []
    if augmentation == "affine":
        affine = v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
        steps += [v2.Resize((size, size), _mode(preprocessing), antialias=True), affine]
    elif augmentation.startswith("shift"):
        # Zero padding matches the background of scans and CIFAR alike; an eighth of the side is CIFAR's usual 4 of 32.
        steps += [v2.Resize((size, size), _mode(preprocessing), antialias=True), v2.RandomCrop(size, max(size // 8, 1))]
    else:
        steps += [v2.RandomResizedCrop(size, (0.25, 1.0), interpolation=_mode(preprocessing), antialias=True)]
    if "flip" in augmentation or augmentation == "trivial":
        steps.append(v2.RandomHorizontalFlip())
    if "color" in augmentation:
        steps.append(v2.ColorJitter(0.3, 0.3, 0.3))
    if augmentation == "trivial":
        steps.append(v2.TrivialAugmentWide())
    composed: Transform = v2.Compose([*steps, *_finish(preprocessing)])
    return composed


def import_callable(path: str, what: str) -> Callable[..., Any]:
    """Imports `package.module:name`, a user's own callable or class.

    Raises:
        ConfigError: it is not of that form, cannot be imported, or is not there.
    """
    module_name, _, name = path.partition(":")
    try:
        if not module_name or not name:
            raise ConfigError(f"{path!r} does not name a {what}; expected package.module:name.")
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"Importing the {what} {path!r}: {error}. Start the command where `import {module_name}` works, "
            "or put that folder on PYTHONPATH."
        ) from error
    if not callable(found):
        raise ConfigError(f"The {what} {path!r} is a {type(found).__name__}; expected something callable.")
    return cast(Callable[..., Any], found)


@dataclass
class _Finished:
    """A user's transform, finished the usual way when it leaves pixels as bytes."""

    first: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]

    def __call__(self, image: Tensor) -> Tensor:
        result = self.first(image)
        return self.finish(result) if result.dtype == torch.uint8 else result


def _mode(preprocessing: Preprocessing) -> v2.InterpolationMode:
    return v2.InterpolationMode(preprocessing.interpolation)


def _finish(preprocessing: Preprocessing) -> list[Any]:
    return [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
    ]
