"""Orders of the user's own: which samplers of torch's kind the loader can take, and what it says to the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from torch.utils.data import DistributedSampler

from holdfast.data.sample import Indices
from holdfast.errors import ConfigError


def refuse_sampler(sampler: object, with_sampling: bool) -> None:
    """Raises ConfigError for a sampler whose epochs could not be sought in, or that shares out by itself."""
    kind = type(sampler).__name__
    if with_sampling:
        raise ConfigError(f"Both sampler ({kind}) and sampling are given, and each is an order. Give one of them.")
    if not hasattr(sampler, "__len__"):
        raise ConfigError(
            f"The sampler ({kind}) has no len(). An epoch is a known number of positions, so that a run can be "
            "resumed in the middle of one: give it a __len__."
        )
    if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
        raise ConfigError(
            "The sampler (DistributedSampler) gives one rank's share, and the loader shares every batch out among the "
            "ranks itself. Give a sampler of the whole set, or shuffle=True."
        )


def positions_of(sampler: Iterable[int], num: int, set_size: int) -> Indices:
    """Returns the positions that a sampler gives for an epoch, `[num]`. Raises ConfigError when they are none."""
    kind = type(sampler).__name__
    given = list(itertools.islice(sampler, num + 1))
    if given and not all(isinstance(position, int | np.integer) for position in given):
        raise ConfigError(
            f"The sampler ({kind}) gave a {type(given[0]).__name__}; expected positions in the set, whole "
            "numbers. Of a batch sampler, give the sampler it was made of, and batch_size and drop_last here."
        )
    positions = np.array(given, np.int64)
    if len(positions) != num:
        count = f"more than {num}" if len(positions) > num else str(len(positions))
        raise ConfigError(f"The sampler ({kind}) gave {count} positions in an epoch, and its len() is {num}.")
    if num and not (positions.min() >= 0 and positions.max() < set_size):
        raise ConfigError(
            f"The sampler ({kind}) gave positions from {positions.min()} to {positions.max()}; expected "
            f"0 … {set_size - 1}."
        )
    return positions
