"""Which samples an epoch visits when not each of them once: a pure function of (seed, epoch, weights).

Nothing is drawn one by one. A sample with the expected number of visits e is visited ⌊e⌋ or ⌈e⌉ times, never by chance
three times or not at all, and the expectation is exact (systematic sampling). Classes are drawn alike: of 10 classes in
an epoch of 1,000 samples each has exactly 100. An epoch's draw costs a sort; seeking within it costs nothing.

Source: W. G. Madow and L. H. Madow, On the theory of systematic sampling, 1944; P. S. Efraimidis and P. G. Spirakis,
Weighted random sampling with a reservoir, 2006 (without replacement).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

from holdfast.data.loading.order import hashed_positions
from holdfast.data.sample import Indices
from holdfast.errors import ConfigError
from holdfast.randomness import derive_seed
from holdfast.words import count

Floats = npt.NDArray[np.float64]
Sampling = Literal["natural", "balanced", "sqrt"]
SAMPLINGS: tuple[Sampling, ...] = ("natural", "balanced", "sqrt")


@dataclass(frozen=True, eq=False)
class Weighted:
    """Samples drawn in proportion to weights of their own.

    Args:
        weights: `[n]`, 0 or more, for each position in the set; their scale means nothing.
        num_samples: samples in an epoch; by default n.
        replacement: True: a sample may come several times, as often as its weight says. False: no sample comes twice,
            and larger weights come earlier and more surely; `num_samples` may not exceed the weights above 0.

    Raises:
        ConfigError: weights that are negative or not finite or all 0, or more samples than there are.
    """

    weights: npt.ArrayLike
    num_samples: int | None = None
    replacement: bool = True

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, np.float64)
        if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise ConfigError(
                f"Weighted sampling: the weights have shape {weights.shape} and run from "
                f"{weights.min(initial=np.inf):g} to {weights.max(initial=-np.inf):g}; expected [n] finite numbers, "
                "0 or more, and not all 0."
            )
        object.__setattr__(self, "weights", weights)
        most = np.inf if self.replacement else np.count_nonzero(weights)
        if not 1 <= self.size <= most:
            raise ConfigError(
                f"Weighted sampling: {count(self.size, 'sample')} an epoch of {np.count_nonzero(weights)} with a "
                f"weight above 0{'' if self.replacement else ', without replacement'}. Take fewer, or replacement=True."
            )

    @property
    def size(self) -> int:
        """Samples in an epoch."""
        return len(np.asarray(self.weights)) if self.num_samples is None else self.num_samples


class Draw:
    """The epochs of a set under a sampling.

    Args:
        sampling: "natural": every sample once. "balanced": every class equally often, to one sample. "sqrt": classes in
            proportion to the square root of their size, half-way between. Within a class all samples come equally
            often, to one. Or `Weighted`.
        labels: `[n]` int64, the class of each position in the set.
        seed: another seed, other draws.

    Raises:
        ConfigError: no such sampling; classes are asked for and the labels are none; weights of another length.
    """

    def __init__(self, sampling: Sampling | Weighted, labels: npt.NDArray[Any], seed: int) -> None:
        self.sampling, self.seed, self.num = sampling, seed, len(labels)
        self.size = self.num
        self._groups: Indices | None = None
        self._weights: Floats | None = None
        if isinstance(sampling, Weighted):
            self._weights = np.asarray(sampling.weights)
            self.size = sampling.size
            if len(self._weights) != self.num:
                raise ConfigError(
                    f"Weighted sampling: {count(len(self._weights), 'weight')} for {count(self.num, 'sample')}."
                )
        elif sampling not in SAMPLINGS:
            raise ConfigError(f"There is no sampling {sampling!r}; expected {', '.join(SAMPLINGS)}, or Weighted(…).")
        elif sampling != "natural":
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise ConfigError(f"Sampling {sampling!r} is by class; these labels are no classes. Take 'natural'.")
            _, self._groups, counts = np.unique(labels, return_inverse=True, return_counts=True)
            share = np.ones(len(counts)) if sampling == "balanced" else np.sqrt(counts)
            self._weights = (share / counts)[self._groups]

    def positions(self, epoch: int) -> Indices:
        """Returns the positions that epoch `epoch` visits, in order, `[size]` int64."""
        words = hashed_positions(derive_seed("sampling", self.seed, epoch), self.num + 1)
        words, offset = words[:-1], float(words[-1] >> np.uint64(11)) / 2**53
        if isinstance(self.sampling, Weighted) and not self.sampling.replacement:
            return _without_replacement(np.asarray(self.sampling.weights), words, self.size)
        # Class by class and in a new order within each: then classes are drawn as evenly as samples.
        order = np.argsort(words, kind="stable") if self._groups is None else np.lexsort((words, self._groups))
        drawn = order if self._weights is None else np.repeat(order, _visits(self._weights[order], self.size, offset))
        shuffled = hashed_positions(derive_seed("sampling", self.seed, epoch, 1), self.size)
        return drawn[np.argsort(shuffled, kind="stable")].astype(np.int64, copy=False)

    def describe(self) -> str:
        """Returns a text that differs where the draws do."""
        if not isinstance(self.sampling, Weighted):
            return self.sampling
        kind = "with" if self.sampling.replacement else "without"
        digest = xxhash.xxh3_64_hexdigest(np.asarray(self.sampling.weights).tobytes())
        return f"{self.size} by weights {digest} {kind} replacement"


def _visits(weights: Floats, size: int, offset: float) -> Indices:
    """Returns how often each sample is visited: how many of `offset` + 0, 1, 2 … fall into its share of [0, size)."""
    # The sums are made class-wise exact by rounding what floats leave beside whole numbers.
    ends = np.round(np.cumsum(weights) * (size / weights.sum()), 9)
    ends[-1] = size
    visits: Indices = np.diff(np.ceil(ends - offset), prepend=np.ceil(-offset)).astype(np.int64)
    return visits


def _without_replacement(weights: Floats, words: npt.NDArray[np.uint64], size: int) -> Indices:
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    with np.errstate(divide="ignore"):
        waits = -np.log(uniform) / weights  # of exponential clocks; a weight of 0 never rings
    return np.argsort(waits, kind="stable")[:size].astype(np.int64, copy=False)
