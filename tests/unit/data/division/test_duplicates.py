"""Groups of exact and of near duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from holdfast.data.division.duplicates import exact_duplicates, joined, near_duplicates


def _lists(groups: list[np.ndarray]) -> list[list[int]]:
    return [group.tolist() for group in groups]


def _crowd(seed: int, num: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes and thumbnails of `num` more or less noisy copies of 40 pictures, three of them plain."""
    rng = np.random.default_rng(seed)
    original = rng.integers(0, 40, num)
    noise = rng.normal(0, 1, (num, 8, 8, 3)) * rng.choice([0, 8, 12, 15, 20], num)[:, None, None, None]
    thumbnails = np.clip(rng.integers(0, 256, (40, 8, 8, 3))[original] + noise, 0, 255).astype(np.uint8)
    hashes = rng.integers(0, 2**63, 40, dtype=np.uint64)[original]
    for index in range(num):
        for bit in rng.choice(64, rng.integers(0, 7)):
            hashes[index] ^= np.uint64(1) << np.uint64(bit)
    thumbnails[:3] = 255
    return hashes, thumbnails


def _one_by_one(hashes: np.ndarray, thumbnails: np.ndarray, distance: int) -> list[list[int]]:
    """The definition, by comparing every picture with every other."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(float)
    correlation = np.corrcoef(flat + np.random.default_rng(9).normal(0, 1e-9, flat.shape))
    leader = list(range(len(hashes)))
    for a in range(len(hashes)):
        for b in range(a):
            near = int(hashes[a] ^ hashes[b]).bit_count() <= distance and correlation[a, b] >= 0.99
            if near and flat[a].std() >= 3 and flat[b].std() >= 3:
                old, new = sorted((leader[a], leader[b]), reverse=True)
                leader = [new if x == old else x for x in leader]
    groups = [[i for i, x in enumerate(leader) if x == first] for first in dict.fromkeys(leader)]
    return sorted(group for group in groups if len(group) > 1)


@pytest.mark.parametrize("distance", [1, 4, 8, 16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_index_finds_what_comparing_all_pairs_finds(seed: int, distance: int) -> None:
    """Bands and sorting miss no pair within the distance and add none."""
    hashes, thumbnails = _crowd(seed)
    expected = _one_by_one(hashes, thumbnails, distance)
    assert expected
    assert _lists(near_duplicates(hashes, thumbnails, distance=distance)) == expected


def test_the_order_of_pictures_does_not_matter() -> None:
    """Shuffled pictures fall into the same groups."""
    hashes, thumbnails = _crowd(3)
    order = np.random.default_rng(0).permutation(len(hashes))
    shuffled = near_duplicates(hashes[order], thumbnails[order])
    back = sorted(sorted(order[group].tolist()) for group in shuffled)
    assert back == sorted(_lists(near_duplicates(hashes, thumbnails)))


def test_plain_pictures_are_no_duplicates_of_each_other() -> None:
    """Pictures of one colour have equal hashes and thumbnails, and say nothing about each other."""
    thumbnails = np.full((5, 8, 8, 3), 200, dtype=np.uint8)
    assert near_duplicates(np.zeros(5, dtype=np.uint64), thumbnails) == []


def test_many_copies_of_one_picture_are_one_group() -> None:
    """Ten thousand equal pictures take one comparison, not fifty million."""
    thumbnail = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    groups = near_duplicates(np.full(10_000, 7, dtype=np.uint64), np.repeat(thumbnail, 10_000, axis=0))
    assert _lists(groups) == [list(range(10_000))]


def test_a_crowd_of_nearly_equal_hashes_ends_and_tells_no_lies() -> None:
    """Where thousands of pictures share their hashes' bits, what is found is right, though some may be missed."""
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (3000, 8, 8, 3), dtype=np.uint8)
    thumbnails[2000] = thumbnails[17]
    hashes = rng.integers(0, 4, 3000, dtype=np.uint64)
    hashes[2000] = hashes[17]
    assert _lists(near_duplicates(hashes, thumbnails)) == [[17, 2000]]


def test_nothing_has_no_duplicates() -> None:
    """No pictures, or one, are no groups."""
    for num in (0, 1):
        hashes, thumbnails = np.zeros(num, dtype=np.uint64), np.zeros((num, 8, 8, 3), dtype=np.uint8)
        assert near_duplicates(hashes, thumbnails) == []
        assert exact_duplicates([""] * num) == []
        assert joined(num).tolist() == list(range(num))


def test_exact_duplicates_are_equal_digests() -> None:
    """Equal digests are a group; files that could not be read, whose digest is empty, are none."""
    assert _lists(exact_duplicates(["b", "a", "", "b", "c", "", "a", "b"])) == [[0, 3, 7], [1, 6]]


def test_groupings_are_joined_through_their_members() -> None:
    """A picture that is in a group of either kind links the two groups."""
    exact = [np.array([0, 3]), np.array([5, 6])]
    near = [np.array([3, 4]), np.array([1, 2])]
    assert joined(8, exact, near).tolist() == [0, 1, 1, 0, 0, 5, 5, 7]
