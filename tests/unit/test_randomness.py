import random

import numpy as np
import pytest
import torch

from holdfast.randomness import derive_seed, seed_generators


def draw() -> tuple[float, float, float]:
    """One number from each of the three generators."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (("order", 0, 0), 6087065507001435998),
        (("sample", 7, 2, 31), 4929110837778374422),
        (("step", -1, 2**62, 0), 8940951571206878426),
        (("init",), 2599583089243287105),
    ],
)
def test_seeds_are_frozen(position: tuple[object, ...], expected: int) -> None:
    """A position gives the seed it always gave: runs of older versions resume exactly."""
    assert derive_seed(*position) == expected


def test_a_seed_depends_on_every_number_and_on_its_place() -> None:
    """Changing, adding or exchanging numbers, or the domain, gives another seed in [0, 2**63)."""
    positions = [("sample", 1, 2, 3), ("sample", 1, 2, 4), ("sample", 1, 3, 2), ("sample", 2, 1, 3), ("sample", 1, 2)]
    positions += [("step", 1, 2, 3), ("order", 1, 2, 3), ("sample", 1, 2, 3, 0), ("sample", -1, 2, 3)]
    seeds = [derive_seed(*position) for position in positions]
    assert len(set(seeds)) == len(positions)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_positions_give_unrelated_seeds() -> None:
    """Ten thousand neighbouring samples have ten thousand seeds, each bit set in about half of them."""
    seeds = np.array([derive_seed("sample", 0, 0, i) for i in range(10_000)], dtype=np.uint64)
    assert len(np.unique(seeds)) == 10_000
    share = ((seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    assert abs(share - 0.5).max() < 0.025


def test_the_same_seed_gives_the_same_draws_from_all_three() -> None:
    """Python's, NumPy's and torch's generators all start over."""
    seed_generators(5)
    first = draw()
    draw()
    seed_generators(5)
    assert draw() == first


@pytest.mark.parametrize("other", [4, 6, 5 + 2**31])
def test_another_seed_changes_all_three(other: int) -> None:
    """A change among the low 32 bits changes what each of the generators draws."""
    seed_generators(5)
    first = draw()
    seed_generators(other)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


@pytest.mark.parametrize("other", [5 + 2**32, 5 + 2**62])
def test_high_bits_change_what_python_and_numpy_draw(other: int) -> None:
    """All 63 bits reach Python's and NumPy's generators; torch's CPU generator looks at the low 32 only."""
    seed_generators(5)
    first = draw()
    seed_generators(other)
    second = draw()
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_torch_draws_what_manual_seed_would_give() -> None:
    """Seeding the one generator is torch.manual_seed without the visit to every backend."""
    seed_generators(2**63 - 1)
    ours = torch.rand(4)
    torch.manual_seed(2**63 - 1)
    assert torch.equal(ours, torch.rand(4))


def test_asking_for_cuda_is_harmless_where_there_is_none() -> None:
    """`cuda=True` seeds the CPU's generator all the same."""
    seed_generators(3, cuda=True)
    first = draw()
    seed_generators(3)
    assert draw() == first
