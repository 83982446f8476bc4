"""What each epoch of a loader visits, and in which batches; a pure function of the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch.utils.data import Sampler

from holdfast.data.loading.order import epoch_order
from holdfast.data.loading.samplers import positions_of, refuse_sampler
from holdfast.data.loading.sampling import Draw, Sampling, Weighted
from holdfast.data.sample import Indices
from holdfast.distributed import World
from holdfast.errors import ConfigError
from holdfast.randomness import derive_seed, seed_generators
from holdfast.words import count


class Epochs:
    """The batches of every epoch.

    Args:
        indices: the members of the set, `[n]` int64.
        labels: `[n]` int64, their classes; None where `sampling` is "natural".
        seed, shuffle, sampler, sampling, drop_last, world: as for `Loader`.
        batch_size: samples in a global batch.

    Raises:
        ConfigError: no batch can be made, or the sampler or the sampling cannot be used.
    """

    def __init__(
        self,
        indices: Indices,
        labels: Indices | None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        sampler: Sampler[int] | Sequence[int] | None = None,
        sampling: Sampling | Weighted = "natural",
        drop_last: bool = False,
        world: World | None = None,
    ) -> None:
        self._indices, self._batch_size, self._seed, self._shuffle = indices, batch_size, seed, shuffle
        self.sampler, self._world = sampler, world or World()
        self._draw = None if labels is None else Draw(sampling, labels, seed)
        if sampler is not None:
            refuse_sampler(sampler, self._draw is not None)
        drawn: Any = indices if self._draw is None else range(self._draw.size)
        self._num_samples = len(drawn if sampler is None else cast(Sequence[int], sampler))
        self.num_batches = _count_batches(self._num_samples, batch_size, drop_last)

    def sampling(self) -> dict[str, Any]:
        """Returns what a checkpoint says of the sampling; nothing when every sample is visited once."""
        return {} if self._draw is None else {"sampling": self._draw.describe()}

    def order(self, epoch: int) -> Indices:
        """Returns all that an epoch visits, in order: indices into the collection. A sampler is asked again."""
        if self.sampler is not None:
            if hasattr(self.sampler, "set_epoch"):
                self.sampler.set_epoch(epoch)
            seed_generators(derive_seed("sampler", self._seed, epoch))
            return self._indices[positions_of(self.sampler, self._num_samples, len(self._indices))]
        if self._draw is not None:
            return self._indices[self._draw.positions(epoch)]
        return self._indices[epoch_order(self._seed, epoch, len(self._indices))] if self._shuffle else self._indices

    def batch(self, order: Indices, number: int) -> Indices:
        """Returns this rank's share of batch `number` of an epoch of that order, as an array of its own."""
        members = order[number * self._batch_size : (number + 1) * self._batch_size]
        return members[self._world.share(len(members))].copy()


def _count_batches(num_samples: int, batch_size: int, drop_last: bool) -> int:
    if num_samples == 0 or (drop_last and num_samples < batch_size):
        raise ConfigError(
            f"No batch can be made of {count(num_samples, 'sample')} with batch size {batch_size}; "
            "take a smaller batch or keep the last one (drop_last=False)."
        )
    return num_samples // batch_size if drop_last else -(-num_samples // batch_size)
