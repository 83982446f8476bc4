import numpy as np
import pytest
import xxhash

from holdfast.data.loading.order import epoch_order, name_keys


@pytest.mark.parametrize(
    ("seed", "epoch", "expected"),
    [
        (0, 0, [7, 8, 5, 0, 2, 12, 13, 11, 6, 4, 3, 1, 15, 10, 14, 9]),
        (42, 3, [3, 7, 13, 5, 1, 11, 4, 15, 8, 0, 14, 12, 9, 10, 6, 2]),
    ],
)
def test_the_order_is_frozen(seed: int, epoch: int, expected: list[int]) -> None:
    """An epoch's order is the one it always was: a run begun with an older version resumes exactly."""
    assert epoch_order(seed, epoch, 16).tolist() == expected


def test_a_long_order_is_frozen() -> None:
    """Ten thousand positions have the digest they always had."""
    order = epoch_order(1234, 5, 10_000)
    assert order.dtype == np.int64
    assert xxhash.xxh3_64_hexdigest(order.astype("<i8").tobytes()) == "63a88eec197d0be3"


def test_the_order_of_a_division_is_frozen() -> None:
    """The order in which names are dealt out to sets is the one it always was."""
    names = [f"cat/{k}.jpg" for k in range(8)]
    assert name_keys(0, names).tolist() == [6, 3, 1, 5, 7, 4, 0, 2]
    assert name_keys(1, names).tolist() != [6, 3, 1, 5, 7, 4, 0, 2]


def test_equal_hashes_are_set_apart_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were two names to collide, their order would still depend on nothing but them."""
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda name, _: len(name))
    assert name_keys(0, ["bb", "a", "aa", "b"]).tolist() == [3, 0, 2, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_and_one_have_one_order(n: int) -> None:
    """Empty and single sets have the only order there is."""
    assert epoch_order(9, 9, n).tolist() == list(range(n))


def test_every_place_is_equally_likely() -> None:
    """Over 4,000 epochs each of 8 samples stands in each place about 500 times (within six deviations)."""
    counts = np.zeros((8, 8), dtype=int)
    for epoch in range(4000):
        counts[np.arange(8), epoch_order(0, epoch, 8)] += 1
    assert abs(counts - 500).max() < 6 * np.sqrt(4000 * (1 / 8) * (7 / 8))


def test_orders_of_epochs_and_of_the_division_are_unrelated() -> None:
    """Two epochs, two seeds, and the division of a class agree in about one place, as random orders do."""
    orders = [
        epoch_order(0, 0, 1000),
        epoch_order(0, 1, 1000),
        epoch_order(1, 0, 1000),
        np.argsort(name_keys(0, [str(k) for k in range(1000)])),
    ]
    for first in range(4):
        for second in range(first):
            assert (orders[first] == orders[second]).sum() < 10
