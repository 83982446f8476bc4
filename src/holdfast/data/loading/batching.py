"""What a worker does for the loader with a batch: it reads the samples and puts them together.

Pictures of a `StagedTransform` become floats here, one by one while they are in the core's cache, unless they are to be
finished on an accelerator. Where it can be they are written right into memory that the main process sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import default_collate

from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.loading.buffers import Buffers
from holdfast.data.loading.handover import Handover, Left
from holdfast.data.loading.reading import Failure, ReadSample, Sample
from holdfast.data.preprocessing.keypoints import JointPipeline
from holdfast.data.preprocessing.transforms import StagedTransform
from holdfast.data.sample import Batch, Indices, Pictures
from holdfast.data.targets import Target

Item = tuple[Any, Target, int]
CollateFunction = Callable[[list[Item]], Any]


class Request(NamedTuple):
    """A batch that is asked for.

    Attributes:
        epoch: of the loader.
        indices: `[n]` int64, pictures of the collection.
        place: where a worker shall leave it; None to send it, or without workers.
    """

    epoch: int
    indices: Indices
    place: int | None = None


class Waiting(NamedTuple):
    """A batch whose last stages are done on the device.

    Attributes:
        batch: its inputs are still bytes.
        numbers: `[B, P]` float64, for the stages to come.
    """

    batch: Batch
    numbers: npt.NDArray[np.float64]


class MakeBatch:
    """Makes the batch that a request asks for; torch's DataLoader takes it for a data set.

    Args:
        read: gives the samples.
        collate_fn: the user's own, which gets finished samples; None makes a `Batch`.
        on_device: whether the last stages are done on an accelerator.
        handover: where workers leave batches; None when they send them.
    """

    def __init__(
        self, read: ReadSample, collate_fn: CollateFunction | None, *, on_device: bool, handover: Handover | None
    ) -> None:
        self.read, self.collate_fn, self.handover = read, collate_fn, handover
        self._transform = read.transform if isinstance(read.transform, StagedTransform) else None
        # A user's function gets what a transform makes, which is floats.
        self._finishes_later = on_device and collate_fn is None and self._transform is not None
        self._shape = shape_known(read.transform, collate_fn)
        self._buffers = Buffers()
        # What autograd would note of every step costs a fiftieth of a kept picture. Tensors made without may not meet
        # it again, so code of the user's own does not see them; `default_collate` copies those that are in no place.
        self._unobserved = (
            self._transform is not None
            and not self._transform.foreign
            and collate_fn is None
            and _is_ours(read.pictures)
        )

    def __len__(self) -> int:
        return len(self.read.pictures)

    def __getitems__(self, request: Request) -> Any:
        """Returns a `Batch`, a `Waiting` or a `Left` one, or what the user's function makes; or the first failure."""
        room = self._room(request)
        places: Sequence[Tensor | None] = [None] * len(request.indices) if room is None else room.unbind()
        with torch.inference_mode(self._unobserved):
            made = self._samples(request, places)
        if isinstance(made, Failure):
            return made
        samples, images, waits = made
        if self.collate_fn is not None:
            return self._collated(self.collate_fn, samples, images)
        filled = room is not None and all(image is place for image, place in zip(images, places, strict=True))
        return self._batch(request, samples, images, room if filled else None, waits=waits)

    def _samples(
        self, request: Request, places: Sequence[Tensor | None]
    ) -> tuple[list[Sample], list[Any], bool] | Failure:
        """Returns the samples, their pictures, in their places where they fit, and whether these are still bytes."""
        samples, images = list[Sample](), list[Any]()
        for index, place in zip(request.indices.tolist(), places, strict=True):
            sample = self.read(request.epoch, index)
            if isinstance(sample, Failure):
                return sample
            samples.append(sample)
            images.append(sample.image if self._finishes_later else self._finished(sample, place))
        waits = self._finishes_later and all(_is_bytes(image) for image in images)
        if waits:
            images = [_moved(image, place) for image, place in zip(images, places, strict=True)]
        elif self._finishes_later:
            images = [self._finished(sample, None) for sample in samples]
        failure = next((image for image in images if isinstance(image, Failure)), None)
        return failure or (samples, images, waits)

    def _room(self, request: Request) -> Tensor | None:
        """Returns memory for the batch's pictures; None where their shape is not known or they are to be sent."""
        num = len(request.indices)
        if self._shape is None:
            return None
        if request.place is not None and self.handover is not None:
            return self.handover.room(request.place)[:num]
        sent = torch.utils.data.get_worker_info() is not None or self._finishes_later
        return None if num and sent else self._buffers.empty((num, *self._shape))

    def _finished(self, sample: Sample, place: Tensor | None) -> Any:
        """Returns a sample's picture after all stages, or a failure: `place`, if it fits there."""
        transform, image = self._transform, sample.image
        if not isinstance(image, Tensor):
            return image
        if transform is None:
            return _moved(image, place)
        try:
            if transform.augment:
                image = transform.augmented(image[None], [sample.numbers])[0]
            fits = place is not None and image.shape == place.shape
            return transform.finish(image, place if fits else None)
        except Exception as error:  # a user's transform or collection may give pictures of other channels
            return Failure(
                f"Finishing {self._name(sample)}, which has shape {list(image.shape)}: {type(error).__name__}: {error}"
            )

    def _batch(
        self, request: Request, samples: list[Sample], images: list[Any], room: Tensor | None, *, waits: bool
    ) -> Any:
        """Returns a batch of pictures, which are in `room` already, or come together now."""
        targets = _stacked([sample.target for sample in samples])
        numbers = np.array([sample.numbers for sample in samples], np.float64) if waits else None
        if room is not None and request.place is not None:
            return Left(request.place, targets.numpy(), request.indices, numbers)
        misfit = None if room is not None else self._misfit(samples, images)
        if misfit is not None:
            return misfit
        try:
            inputs = _together(images) if room is None else room
        except Exception as error:  # a transform may give tensors that cannot be put together, or not by a worker
            return self._failed(samples, error)
        batch = Batch(inputs, targets, torch.from_numpy(request.indices))
        return batch if numbers is None else Waiting(batch, numbers)

    def _collated(self, collate_fn: CollateFunction, samples: Sequence[Sample], images: Sequence[Any]) -> Any:
        try:
            return collate_fn([(i, s.target, s.picture) for i, s in zip(images, samples, strict=True)])
        except Exception as error:  # the user's code
            return self._failed(samples, error)

    def _failed(self, samples: Sequence[Sample], error: Exception) -> Failure:
        names = ", ".join(self._name(sample) for sample in samples[:3]) + (" …" if len(samples) > 3 else "")
        return Failure(f"Making a batch of {names or 'no pictures'}: {type(error).__name__}: {error}")

    def _misfit(self, samples: Sequence[Sample], images: Sequence[Any]) -> Failure | None:
        for sample, image in zip(samples, images, strict=True):  # a user's transform may return anything
            if not isinstance(image, Tensor):
                return Failure(
                    f"Making a batch: the transform made a {type(image).__name__} of {self._name(sample)}; "
                    "expected a tensor. End it with v2.ToImage() and v2.ToDtype(torch.float32, scale=True)."
                )
        for sample, image in zip(samples, images, strict=True):
            if image.shape != images[0].shape:
                return Failure(
                    f"Making a batch: {self._name(samples[0])} has shape {list(images[0].shape)} and "
                    f"{self._name(sample)} {list(image.shape)} after the transform; expected one "
                    "shape. Let the transform resize or crop, or give a collate_fn."
                )
        return None

    def _name(self, sample: Sample) -> str:
        return self.read.pictures.name(sample.picture)


def as_it_is(made: Any) -> Any:
    """Returns what it gets: to torch's DataLoader a batch is made already."""
    return made


def _is_ours(pictures: Pictures) -> bool:
    """Whether no code of the user's own reads them."""
    inner = pictures.pictures if isinstance(pictures, CachedPictures) else pictures
    return type(inner).__module__.startswith("holdfast.")


def _is_bytes(image: object) -> bool:
    return isinstance(image, Tensor) and image.dtype == torch.uint8


def _moved(image: Tensor, place: Tensor | None) -> Tensor:
    """Returns the picture in `place`, if it fits there; else as it is."""
    fits = place is not None and image.shape == place.shape and image.dtype == place.dtype
    return place.copy_(image) if place is not None and fits else image


def shape_known(
    transform: Callable[..., Any] | None, collate_fn: CollateFunction | None
) -> tuple[int, int, int] | None:
    """Returns the shape that a transform of ours gives every picture of a batch; None for any other."""
    if collate_fn is not None or not isinstance(transform, StagedTransform | JointPipeline):
        return None
    return transform.shape


def _together(images: list[Tensor]) -> Tensor:
    """Returns a batch of them, in the type that holds them all."""
    # In a worker, torch's own stacks right into the memory that the main process will see, of the first one's type.
    kind = reduce(torch.promote_types, (image.dtype for image in images))
    together: Tensor = default_collate([image.to(kind) for image in images])
    return together


def _stacked(targets: list[Target]) -> Tensor:
    if all(isinstance(target, int) for target in targets):
        return torch.tensor(targets, dtype=torch.int64)
    return torch.stack([torch.as_tensor(target) for target in targets])
