"""From a decoded picture to the network's input: torchvision v2 pipelines, described by plain data.

`Preprocessing` is what validation, `val`, `predict` and every exported file share; it travels inside checkpoints, so it
is written once. Augmentation is for training only. This file knows nothing of files, labels or models.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from torch import Tensor
from torchvision.transforms import v2

from holdfast.data.preprocessing.augment import BatchStep, ColorJitter, Numbers, RandomFlip
from holdfast.data.preprocessing.crops import CentreCrop, Crop, RandomResizedCrop, Whole, WholeSquare
from holdfast.data.preprocessing.encoded import Encoded, decoded
from holdfast.data.preprocessing.normalise import Normalise
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
        scaled_decode: whether a picture may be decoded smaller than it is, as long as no side falls below `resize`.
        exact: the whole picture is brought to `img_size` in both directions, whatever its shape; `resize` is not used.
    """

    img_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    custom: str | None = None
    scaled_decode: bool = False
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


@dataclass(frozen=True)
class StagedTransform:
    """A transform in four stages, so that each can happen where it costs least.

    Called with a picture it does all four. The loader has the first two done by its workers, before and after decoding,
    and the others too where the model is on a CPU; on an accelerator they are done there, for a whole batch.

    Attributes:
        crop: plans from the picture's size what to cut out, before it is decoded.
        then: what is done with the square that was cut out, `[C, S, S]` → `[C, S, S]`.
        finish: `[..., C, S, S]` uint8 → float32.
        scaled: whether a picture may be decoded smaller where that is enough.
        shape: `[C, S, S]` of what the first two make; None where a user's own transform decides.
        augment: what may wait until pictures are in their batch.
        foreign: whether `then` is a user's own, which may draw from any generator.
    """

    crop: Crop
    then: Transform
    finish: Normalise
    scaled: bool
    shape: tuple[int, int, int] | None = None
    augment: tuple[BatchStep, ...] = ()
    foreign: bool = False

    def cut(self, picture: Encoded) -> tuple[Tensor, Numbers]:
        """Decodes a picture as far as it is needed; returns it after two stages, and the numbers for the third."""
        plan = self.crop.plan(picture.height, picture.width)
        square = self.then(plan.crop(picture.decode(plan.most_reduced if self.scaled else 1.0)))
        numbers: Numbers = ()
        for step in self.augment:
            numbers = (*numbers, *step.draw())
        return square, numbers

    def augmented(self, pictures: Tensor, numbers: Sequence[Numbers]) -> Tensor:
        """Does the third stage to `[N, C, S, S]` uint8, by the N rows of numbers that `cut` gave."""
        if len(self.augment) == 1:
            return self.augment[0].apply(pictures, numbers)
        first = 0
        for step in self.augment:
            pictures = step.apply(pictures, [row[first : first + step.num_numbers] for row in numbers])
            first += step.num_numbers
        return pictures

    def pixels(self, picture: Encoded) -> Tensor:
        """Decodes a picture as far as it is needed and returns what `finish` takes."""
        square, numbers = self.cut(picture)
        return self.augmented(square[None], [numbers])[0] if self.augment else square

    def __call__(self, image: Tensor) -> Tensor:
        """Maps a decoded picture `[C, H, W]` to the network's input, `[C, S, S]` float32."""
        return self.finish(self.pixels(decoded(image)))


def eval_transform(preprocessing: Preprocessing) -> StagedTransform:
    """Returns the transform for everything but training: resize, centre crop, scale to [0, 1], normalise.

    It maps `[C, H, W]` uint8 to `[C, S, S]` float32. What a user's own (`preprocessing.custom`) makes is passed on
    as it is when it is floats, and scaled and normalised when it is bytes.

    Raises:
        ConfigError: `preprocessing.custom` cannot be imported.
    """
    if preprocessing.custom:
        return _own(preprocessing.custom, preprocessing)
    size, mode = preprocessing.img_size, _mode(preprocessing)
    crop: Crop = WholeSquare(size, mode) if preprocessing.exact else CentreCrop(size, preprocessing.resize, mode)
    return StagedTransform(crop, nothing, _finish(preprocessing), preprocessing.scaled_decode, _shape(preprocessing))


def train_transform(
    preprocessing: Preprocessing, augmentation: str, custom: str | None = None, *, scaled_crops: bool = False
) -> StagedTransform:
    """Returns the transform for training: an augmentation by name, then scaling and normalising.

    Args:
        augmentation: one of AUGMENTATIONS. "shift" crops at random from a padded picture (small pictures);
            "affine" turns by 10° at most, shifts and scales by a tenth (signs and digits);
            "crop" is a random resized crop; "color" jitters brightness, contrast and saturation; "trivial" is
            TrivialAugment (Müller & Hutter, ICCV 2021) after a random resized crop.
        custom: import path of a user's transform in place of the augmentation; a float result is passed on as it is,
            a uint8 result is scaled and normalised.
        scaled_crops: whether a random crop may be cut out of a picture that was decoded smaller, large enough for this
            very crop. Such pictures cannot be kept for the next epoch; a run scales all to one size (`--decode-size`).

    Raises:
        ConfigError: an unknown augmentation, or a `custom` that cannot be imported.
    """
    if custom:
        return _own(custom, preprocessing)
    if augmentation not in AUGMENTATIONS:
        raise ConfigError(f"There is no augmentation {augmentation!r}. Choose one of: {', '.join(AUGMENTATIONS)}.")
    if augmentation == "none":
        return eval_transform(preprocessing)
    size, mode = preprocessing.img_size, _mode(preprocessing)
    crop, scaled = cast(Crop, WholeSquare(size, mode)), preprocessing.scaled_decode
    steps: list[Any] = []
    if augmentation == "affine":
        steps.append(v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR))
    elif augmentation.startswith("shift"):
        # Zero padding matches the background of scans and CIFAR alike; an eighth of the side is CIFAR's usual 4 of 32.
        steps.append(v2.RandomCrop(size, max(size // 8, 1)))
    else:
        crop, scaled = RandomResizedCrop(size, (0.25, 1.0), mode), scaled_crops
    if augmentation == "trivial":
        steps += [RandomFlip(), v2.TrivialAugmentWide()]
    waiting: list[BatchStep] = []
    if "flip" in augmentation:
        waiting.append(RandomFlip())
    if "color" in augmentation:
        waiting.append(ColorJitter(0.3))
    then: Transform = nothing if not steps else steps[0] if len(steps) == 1 else v2.Compose(steps)
    finish, shape = _finish(preprocessing), _shape(preprocessing)
    return StagedTransform(crop, then, finish, scaled, shape, tuple(waiting))


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


def _mode(preprocessing: Preprocessing) -> v2.InterpolationMode:
    return v2.InterpolationMode(preprocessing.interpolation)


def _shape(preprocessing: Preprocessing) -> tuple[int, int, int]:
    return preprocessing.channels, preprocessing.img_size, preprocessing.img_size


def _finish(preprocessing: Preprocessing) -> Normalise:
    return Normalise(preprocessing.mean, preprocessing.std)


def _own(path: str, preprocessing: Preprocessing) -> StagedTransform:
    """A user's transform: it gets every pixel; bytes that it leaves are scaled and normalised, floats are passed on."""
    finish = Normalise(preprocessing.mean, preprocessing.std, floats=False)
    return StagedTransform(Whole(), import_callable(path, "transform"), finish, scaled=False, foreign=True)


def nothing(image: Tensor) -> Tensor:
    """Returns what it gets."""
    return image
