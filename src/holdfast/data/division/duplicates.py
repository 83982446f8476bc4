"""Which pictures are the same: exact duplicates from digests, near duplicates from likenesses. Numbers in, groups out.

Near duplicates are found without comparing every picture with every other. Two hashes that differ in at most d bits
agree wholly in at least two of d + 2 bands of bits; so for each pair of bands the pictures are sorted by these bits,
and only neighbours that agree in them are compared, the next 32 of them at most: the time grows as N log N, and what
may be missed for it are some copies among thousands of pictures with nearly the same hash. This file reads no pictures
and knows nothing of labels or sets.

Source of the idea: M. Norouzi, A. Punjani, D. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import xxhash

from holdfast.data.sample import Indices

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]

# Measured on 150 photographs, 24 of 1 to 24 megapixels and 12,000 CIFAR pictures. Copies at JPEG quality 20 to 90,
# half and a third of the size, made square or 10 % brighter: photographs differ in 0 or 1 bit at the median and in 7
# at the 99th percentile, and correlate by 0.991 at least. Of 72 million pairs of different CIFAR pictures 199 lie
# within 8 bits, and two of these correlate so closely (they are copies). Scanned pages, nearly all white, lie within 8
# bits of each other and correlate by 0.985 at most.
NEAR_DISTANCE = 8
NEAR_CORRELATION = 0.99
MAX_DISTANCE = 16
PLAIN_DEVIATION = 3.0  # grey levels; below it a thumbnail is one colour and noise, and any two would be alike
_PAIRS_AT_ONCE = 1 << 16
_MAX_NEIGHBOURS = 32  # a bucket is this crowded only where the pictures are nearly one picture, as X-rays are


def exact_duplicates(digests: Sequence[Hashable]) -> list[Indices]:
    """Returns the groups of two or more indices whose digests are equal, each ascending, ordered by first member.

    An empty digest (a file that could not be read) is equal to none.
    """
    first: dict[Hashable, int] = {}
    members: dict[int, list[int]] = {}  # of those with copies only: a list for each of a million pictures is slow
    for index, digest in enumerate(digests):
        if digest and (leader := first.setdefault(digest, index)) != index:
            members.setdefault(leader, [leader]).append(index)
    return [np.array(members[leader], dtype=np.int64) for leader in sorted(members)]


def near_duplicates(
    hashes: Hashes,
    thumbnails: Thumbnails,
    *,
    distance: int = NEAR_DISTANCE,
    correlation: float = NEAR_CORRELATION,
) -> list[Indices]:
    """Returns the groups of two or more pictures that look the same.

    Two pictures look the same when their hashes differ in `distance` bits at most and their thumbnails correlate by
    `correlation` at least (which a change of brightness or contrast leaves as it is). Groups are joined through their
    members: where A looks like B and B like C, all three are one group. Plain pictures (of one colour) are in none.

    Args:
        hashes: `[N]` uint64, see `likeness_of`.
        thumbnails: `[N, ...]` uint8, see `likeness_of`.
        distance: bits, in [0, 16].
        correlation: in [-1, 1].

    Returns:
        `[n]` int64 ascending for each group, ordered by first member.
    """
    if len(hashes) < 2:
        return []
    flat = thumbnails.reshape(len(thumbnails), -1)
    # Equal pictures need not be compared among themselves: one stands for all.
    rows = np.concatenate([hashes.astype(">u8").view(np.uint8).reshape(-1, 8), flat], axis=1)
    # Sorted by a digest: sorting rows of 200 bytes takes longer than all that follows.
    digests = np.fromiter(map(xxhash.xxh3_64_intdigest, rows), np.uint64, len(rows))
    _, first, copy_of = np.unique(digests, return_index=True, return_inverse=True)
    vectors, deviations = _unit_vectors(flat[first])
    kept = np.flatnonzero(deviations >= PLAIN_DEVIATION)
    kept = kept[np.argsort(hashes[first[kept]], kind="stable")]  # in a crowded bucket, likely copies are neighbours
    leader = np.arange(len(first))
    hashes, vectors = hashes[first[kept]], vectors[kept]
    own = np.arange(len(kept))
    for a, b in _candidates(hashes, distance):
        apart = np.flatnonzero(own[a] != own[b])
        close = apart[np.einsum("ij,ij->i", vectors[a[apart]], vectors[b[apart]]) >= correlation]
        own = _join(own, a[close], b[close])
    leader[kept] = kept[own]
    groups = _groups(leader[copy_of])
    plain = np.ones(len(first), dtype=bool)
    plain[kept] = False
    return [group for group in groups if not plain[copy_of[group[0]]]]


def joined(num: int, *groupings: Sequence[Indices]) -> Indices:
    """Returns `[num]` int64: for each picture the smallest index of all that are its duplicates in any grouping.

    Pictures with equal numbers belong together; one that is in no group has its own index.
    """
    groups = [group for grouping in groupings for group in grouping]
    if not groups:
        return np.arange(num)
    ends = np.concatenate([group[:-1] for group in groups]), np.concatenate([group[1:] for group in groups])
    return _join(np.arange(num), *ends)


def _candidates(hashes: Hashes, distance: int) -> Iterator[tuple[Indices, Indices]]:
    """Yields pairs (a, b) of indices whose hashes differ in `distance` bits at most; a pair may come more than once."""
    num_bands = distance + 2
    # Every num_bands-th bit: neighbouring bits are alike in pictures, and bands of them would leave crowded buckets.
    width = -(-64 // num_bands)
    bands = [_gathered(hashes, range(band, 64, num_bands)) for band in range(num_bands)]
    for one, other in combinations(bands, 2):
        key = one << np.uint64(width) | other
        if 2 * width <= 16:
            key = key.astype(np.uint16)  # NumPy sorts these by counting
        order = np.argsort(key, kind="stable")
        key, sorted_hashes = key[order], hashes[order]
        start, step = np.arange(len(key)), 0
        found: list[tuple[Indices, Indices]] = []
        num_found = 0
        while step < _MAX_NEIGHBOURS:
            step += 1
            start = start[start + step < len(key)]
            start = start[key[start] == key[start + step]]  # the bucket's later members have no neighbour so far on
            if not len(start):
                break
            near = start[np.bitwise_count(sorted_hashes[start] ^ sorted_hashes[start + step]) <= distance]
            if len(near):
                found.append((order[near], order[near + step]))
                num_found += len(near)
            if num_found >= _PAIRS_AT_ONCE:
                yield _concatenated(found)
                found, num_found = [], 0
        if found:
            yield _concatenated(found)


def _gathered(hashes: Hashes, bits: range) -> Hashes:
    """Returns the hashes' bits at these places, side by side."""
    found = np.zeros_like(hashes)
    for place, bit in enumerate(bits):
        found |= (hashes >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)
    return found


def _concatenated(found: list[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _unit_vectors(flat: Thumbnails) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns `[N, T]` float32 of mean 0 and length 1, whose dot product is the correlation, and deviations `[N]`."""
    vectors = flat.astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors /= np.maximum(lengths, 1e-6)[:, None]
    return vectors, lengths / np.float32(np.sqrt(flat.shape[1]))


def _join(leader: Indices, a: Indices, b: Indices) -> Indices:
    """Returns `leader` with a[k] and b[k] under one leader for every k; every leader leads itself before and after."""
    while True:
        low, high = np.minimum(leader[a], leader[b]), np.maximum(leader[a], leader[b])
        if np.array_equal(low, high):
            return leader
        leader = leader.copy()
        np.minimum.at(leader, high, low)
        while not np.array_equal(leader, leader[leader]):
            leader = leader[leader]


def _groups(leader: Indices) -> list[Indices]:
    members = np.flatnonzero(np.bincount(leader, minlength=len(leader))[leader] > 1)
    order = members[np.argsort(leader[members], kind="stable")]
    cuts = np.flatnonzero(np.diff(leader[order])) + 1
    groups = np.split(order, cuts) if len(order) else []
    return sorted(groups, key=lambda group: int(group[0]))
