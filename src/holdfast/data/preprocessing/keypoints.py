"""Points on pictures: both go through every resize, crop, turn and flip together, and points come back again.

`KeyPoints` of torchvision and its v2 transforms do the geometry. Three things are ours. A mirrored face has its left
eye where the right one was, so a flip exchanges names as well. torchvision counts pixels from their middle when it
flips and from their edge when it resizes, and a flip after a resize is then off by up to a pixel; here points count
from the edge throughout (`_FromEdge`). And points are given to the network as [-1, 1] across its input.

A point off the crop keeps its place, beyond [-1, 1]; a missing point is NaN from the table to the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # as everybody calls it

from holdfast.data.preprocessing.augment import ColorJitter
from holdfast.data.preprocessing.transforms import Preprocessing, import_callable
from holdfast.errors import ConfigError

JointTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_WORDS = ("none", "shift", "crop", "affine", "flip", "color")


def joint_eval_transform(preprocessing: Preprocessing) -> JointTransform:
    """Returns the transform outside training: (picture, points) → (network input, points in [-1, 1] across it).

    It maps `[C, H, W]` uint8 and `KeyPoints` `[P, 2]` to `[C, S, S]` float32 and `[P, 2]` float32.
    """
    return _joint([_FromEdge(), *_plain_steps(preprocessing)], preprocessing)


def joint_train_transform(
    preprocessing: Preprocessing,
    augmentation: str,
    flip_pairs: Sequence[tuple[int, int]] = (),
    custom: str | None = None,
) -> JointTransform:
    """Returns the transform for training; see `joint_eval_transform`.

    Args:
        augmentation: "none", or words with `+` between them: "crop" (a random resized crop of half the area at
            least), "shift" (a crop from a picture that is an eighth larger), "affine" (turned by 15° at most,
            shifted and scaled by a tenth), "flip", "color".
        flip_pairs: pairs of points that change places in a mirrored picture.
        custom: import path of your own in place of the augmentation: called with (`Image`, `KeyPoints`), as a v2
            pipeline is, it returns both. Pixels that are still bytes are scaled and normalised.

    Raises:
        ConfigError: another word, a flip without pairs, or a `custom` that cannot be imported.
    """
    if custom:
        return _joint([_FromEdge()], preprocessing, first=import_callable(custom, "transform"))
    words = augmentation.split("+")
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        raise ConfigError(
            f"Pictures with points cannot be augmented by {augmentation!r}. Join words of: {', '.join(_WORDS)}, such "
            "as crop+affine+color."
        )
    if "flip" in words and not flip_pairs:
        raise ConfigError(
            f"The augmentation {augmentation!r} flips pictures, and nothing says which points change places: a "
            "mirrored left eye is a right eye. Give --flip-pairs (68 for the 68 points of a face, or pairs such as "
            "0-16,1-15), or leave flip out."
        )
    size, mode = preprocessing.img_size, v2.InterpolationMode(preprocessing.interpolation)
    steps: list[Any] = [_FromEdge()]
    if "crop" in words:
        steps.append(v2.RandomResizedCrop(size, (0.5, 1.0), (4 / 5, 5 / 4), interpolation=mode, antialias=True))
    elif "shift" in words:
        larger = max(round(size * 9 / 8), size + 1)
        steps += [v2.Resize((larger, larger), mode, antialias=True), v2.RandomCrop(size)]
    else:
        steps += _plain_steps(preprocessing)
    if "affine" in words:
        steps.append(v2.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR))
    if "flip" in words:
        steps.append(_FlipWithPairs(flip_pairs))
    if "color" in words:
        steps.append(_ColorJitter())
    return _joint(steps, preprocessing)


def _plain_steps(preprocessing: Preprocessing) -> list[Any]:
    size, mode = preprocessing.img_size, v2.InterpolationMode(preprocessing.interpolation)
    if preprocessing.exact:
        return [v2.Resize((size, size), mode, antialias=True)]
    return [v2.Resize(preprocessing.resize, mode, antialias=True), v2.CenterCrop(size)]


def _joint(steps: list[Any], preprocessing: Preprocessing, first: Callable[..., Any] | None = None) -> JointTransform:
    finish = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(preprocessing.mean), list(preprocessing.std)),
    ]
    size = preprocessing.img_size
    shape = (preprocessing.channels, size, size) if first is None else None
    return JointPipeline(v2.Compose([*steps, _AcrossInput()]), v2.Compose(finish), first, shape)


@dataclass
class JointPipeline:
    """A pipeline for picture and points, then one for bytes of pixels; gives plain tensors.

    Attributes:
        pipeline, finish: of torchvision's v2 transforms.
        first: a user's own, before them.
        shape: `[C, S, S]` of the pictures that it makes; None where the user's own decides.
    """

    pipeline: Callable[..., Any]
    finish: Callable[..., Any]
    first: Callable[..., Any] | None = None
    shape: tuple[int, int, int] | None = None

    def __call__(self, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Maps `[C, H, W]` uint8 and `KeyPoints` `[P, 2]` to `[C, S, S]` float32 and `[P, 2]` float32."""
        both = (tv_tensors.Image(image), points)
        if self.first is not None:
            both = self.first(*both)
        made, placed = self.pipeline(*both)
        made = made.as_subclass(Tensor)
        return self.finish(made) if made.dtype == torch.uint8 else made, placed.as_subclass(Tensor)

    def points(self, points: Tensor) -> Tensor:
        """Returns where key points go, without their picture."""
        return cast(Tensor, self.pipeline(points).as_subclass(Tensor))


def steps_of(
    transform: JointTransform,
) -> tuple[list[Callable[..., tuple[Tensor, Tensor]]], list[Callable[[Tensor], Tensor]]]:
    """Returns the steps of a joint transform: those of picture and points, then those of its pixels alone.

    One after another they do what it does: the first take an `Image` and `KeyPoints`; the others the picture as a plain
    tensor, and only one that is bytes still.
    """
    joint = cast(JointPipeline, transform)
    first = [] if joint.first is None else [joint.first]
    return [*first, *cast(Any, joint.pipeline).transforms], list(cast(Any, joint.finish).transforms)


class _FromEdge(v2.Transform):  # type: ignore[misc]  # torchvision carries no types
    """Points that count from the middle of the first pixel, counted from its edge."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002  # torchvision's own signature
        """Adds half a pixel to points."""
        return tv_tensors.wrap(inpt + 0.5, like=inpt) if isinstance(inpt, tv_tensors.KeyPoints) else inpt


class _AcrossInput(v2.Transform):  # type: ignore[misc]  # torchvision carries no types
    """Points from pixels to [-1, 1] across the picture."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002  # torchvision's own signature
        """Scales points."""
        if not isinstance(inpt, tv_tensors.KeyPoints):
            return inpt
        height, width = inpt.canvas_size
        return tv_tensors.wrap(inpt * inpt.new_tensor([2 / width, 2 / height]) - 1, like=inpt)


class _FlipWithPairs(v2.Transform):  # type: ignore[misc]  # torchvision carries no types
    """Mirrors the picture every second time, its points, and what each point is called."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.pairs = list(pairs)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002  # torchvision's own signature
        """Draws the coin once for picture and points."""
        return {"flip": bool(torch.rand(1) < 0.5)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mirrors one of them."""
        if not params["flip"]:
            return inpt
        if not isinstance(inpt, tv_tensors.KeyPoints):
            return F.horizontal_flip(inpt)
        order = torch.from_numpy(flip_order(self.pairs, len(inpt)))
        mirrored = inpt.as_subclass(Tensor)[order] * torch.tensor([-1.0, 1.0])  # from the edge: no pixel is lost
        return tv_tensors.wrap(mirrored + torch.tensor([float(inpt.canvas_size[1]), 0.0]), like=inpt)


class _ColorJitter(v2.Transform):  # type: ignore[misc]  # torchvision carries no types
    """The picture's colours, changed as in every other training; points have none."""

    def __init__(self) -> None:
        super().__init__()
        self.jitter = ColorJitter(0.3)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # noqa: ARG002  # torchvision's own signature
        """Draws the numbers once."""
        return {"numbers": self.jitter.draw()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Changes a picture."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        changed = self.jitter.apply(inpt.as_subclass(Tensor)[None], [params["numbers"]])[0]
        return tv_tensors.wrap(changed, like=inpt)


def flip_order(pairs: Sequence[tuple[int, int]], num_points: int) -> npt.NDArray[np.int64]:
    """Returns where each point of a mirrored picture comes from: `[P]` int64, a permutation."""
    order = np.arange(num_points)
    for a, b in pairs:
        order[a], order[b] = b, a
    return order


def picture_transform(preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
    """Returns what `joint_eval_transform` does to a picture, `[C, H, W]` uint8 to `[C, S, S]` float32."""
    joint = cast(JointPipeline, joint_eval_transform(preprocessing))

    def transform(image: Tensor) -> Tensor:
        nowhere = tv_tensors.KeyPoints([[0.0, 0.0]], canvas_size=(image.shape[-2], image.shape[-1]))
        return joint(image, cast(Tensor, nowhere))[0]

    return transform


def mean_shape(
    values: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], preprocessing: Preprocessing
) -> tuple[list[float], list[float]]:
    """Returns where points lie across the network's input on average, and their standard deviation.

    Args:
        values: `[N, P, 2]`, in pixels of the pictures, NaN for missing.
        sizes: `[N, 2]`, height and width of the pictures; those of 0 are passed over.

    Returns:
        Mean and standard deviation, 2P numbers each (x, y, x, y …) in [-1, 1] across the input; 0 and 1 for a point
        that no picture has, and 1 for one that never moves.
    """
    transform = cast(JointPipeline, joint_eval_transform(preprocessing))
    placed = [
        transform.points(cast(Tensor, tv_tensors.KeyPoints(torch.from_numpy(points), canvas_size=(int(h), int(w)))))
        for points, (h, w) in zip(values, sizes, strict=True)
        if h > 0
    ]
    across = torch.stack(placed).double().flatten(1) if placed else torch.full((1, values[0].size), torch.nan)
    mean = across.nanmean(0)
    std = (across - mean).square().nanmean(0).sqrt()
    return mean.nan_to_num(0.0).tolist(), torch.where(std > 1e-6, std, 1.0).tolist()


def to_picture(outputs: Tensor, size: tuple[int, int], preprocessing: Preprocessing) -> Tensor:
    """Returns points across the network's input as pixels of the picture it was made of.

    Whatever resize and crop do to three corners says what they do to every point, and is undone.

    Args:
        outputs: `[2P]` or `[P, 2]`, in [-1, 1] across the input.
        size: height and width of the picture in pixels.

    Returns:
        `[P, 2]` float32, x and y counted from the middle of the first pixel.
    """
    height, width = size
    corners = tv_tensors.KeyPoints([[0.0, 0.0], [width, 0.0], [0.0, height]], canvas_size=size, dtype=torch.float64)
    transform = cast(JointPipeline, joint_eval_transform(preprocessing))
    origin, right, below = transform.points(cast(Tensor, corners)).double()
    share = (outputs.reshape(-1, 2).double() - origin) / torch.stack([right[0] - origin[0], below[1] - origin[1]])
    placed: Tensor = share * torch.tensor([width, height], dtype=torch.float64)
    return placed.float()
