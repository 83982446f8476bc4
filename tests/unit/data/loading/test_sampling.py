import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.loading.sampling import Draw, Sampling, Weighted
from holdfast.errors import ConfigError

pytestmark = pytest.mark.row("D6")

_LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)
_WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(0.01, 50)), min_size=1, max_size=40).filter(any)


def expected_of_classes(sampling: str, counts: np.ndarray) -> np.ndarray:
    """How often each class should be seen in an epoch, as a number with a fraction."""
    share = {"natural": counts, "balanced": np.ones(len(counts)), "sqrt": np.sqrt(counts)}[sampling]
    return share / share.sum() * counts.sum()


@given(_LABELS, st.sampled_from(["natural", "balanced", "sqrt"]), st.integers(0, 2**40), st.integers(0, 5))
def test_classes_and_samples_come_as_evenly_as_whole_numbers_allow(
    labels: np.ndarray, sampling: Sampling, seed: int, epoch: int
) -> None:
    """An epoch has as many samples as the set; each class comes as often as it should, to one, and so does each sample
    within its class."""
    positions = Draw(sampling, labels, seed).positions(epoch)
    assert len(positions) == len(labels)
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    expected = expected_of_classes(sampling, counts)
    assert (np.abs(np.bincount(of_class[positions], minlength=len(counts)) - expected) < 1).all()
    visits = np.bincount(positions, minlength=len(labels))
    assert (np.abs(visits - (expected / counts)[of_class]) < 1).all()


@given(_LABELS, st.sampled_from(["balanced", "sqrt"]), st.integers(0, 99), st.integers(0, 9))
def test_an_epoch_is_a_pure_function_of_seed_and_number(
    labels: np.ndarray, sampling: Sampling, seed: int, epoch: int
) -> None:
    """Asked again, in another order, by another object, it is the same."""
    draw = Draw(sampling, labels, seed)
    first = draw.positions(epoch)
    draw.positions(epoch + 1)
    assert np.array_equal(draw.positions(epoch), first)
    assert np.array_equal(Draw(sampling, labels, seed).positions(epoch), first)


def test_natural_is_a_permutation() -> None:
    """Every position once."""
    assert sorted(Draw("natural", np.zeros(50, int), 1).positions(0).tolist()) == list(range(50))


def test_epochs_and_seeds_differ() -> None:
    """Another epoch or seed draws other samples of a large class, in another order."""
    labels = np.array([0] * 90 + [1] * 10)
    draws = [Draw("balanced", labels, seed).positions(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(draw) for draw in draws}) == 4
    assert len({frozenset(i for i in draw if i < 90) for draw in draws}) == 4


def test_every_sample_of_a_large_class_comes_in_the_end() -> None:
    """Over the epochs each of 90 samples, of which 50 come at a time, is seen about equally often."""
    labels = np.array([0] * 90 + [1] * 10)
    draw = Draw("balanced", labels, 7)
    visits = np.bincount(np.concatenate([draw.positions(epoch) for epoch in range(200)]), minlength=100)
    assert visits[:90].sum() == visits[90:].sum() == 200 * 50
    assert visits[:90].min() > 80  # of 111 expected; five deviations of a fair draw are 35
    assert set(visits[90:].tolist()) == {1000}


@given(_WEIGHTS, st.integers(1, 60), st.integers(0, 99))
def test_weights_decide_how_often_to_one(weights: list[float], num: int, seed: int) -> None:
    """A sample of weight w comes num · w / sum times, rounded down or up; one of weight 0 never."""
    positions = Draw(Weighted(weights, num), np.zeros(len(weights), int), seed).positions(3)
    assert len(positions) == num
    visits = np.bincount(positions, minlength=len(weights))
    assert (np.abs(visits - num * np.array(weights) / sum(weights)) < 1).all()


def test_weights_hold_exactly_on_average() -> None:
    """Over 4,000 epochs the shares are the weights' within five standard deviations."""
    weights = np.array([0, 1, 2, 3, 4.0])
    draw = Draw(Weighted(weights, 3), np.zeros(5, int), 1)
    mean = sum(np.bincount(draw.positions(epoch), minlength=5) for epoch in range(4000)) / 4000
    assert np.abs(mean - 3 * weights / 10).max() < 5 * 0.5 / 4000**0.5


@given(_WEIGHTS, st.data())
def test_without_replacement_no_sample_comes_twice(weights: list[float], data: st.DataObject) -> None:
    """So many different samples, none of weight 0."""
    num = data.draw(st.integers(1, sum(w > 0 for w in weights)))
    positions = Draw(Weighted(weights, num, replacement=False), np.zeros(len(weights), int), 5).positions(0)
    assert len(set(positions.tolist())) == num
    assert all(weights[i] > 0 for i in positions)


def test_without_replacement_the_first_comes_by_its_weight() -> None:
    """The first of an epoch is sample i with probability w_i / sum."""
    weights = np.array([1.0, 2, 7])
    draw = Draw(Weighted(weights, 3, replacement=False), np.zeros(3, int), 2)
    firsts = np.bincount([draw.positions(epoch)[0] for epoch in range(4000)], minlength=3) / 4000
    assert np.abs(firsts - weights / 10).max() < 5 * 0.5 / 4000**0.5


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, np.nan], [1, np.inf], [[1.0]]])
def test_weights_fail_when_they_are_none(weights: list[float]) -> None:
    """The shape and the range are shown."""
    with pytest.raises(ConfigError, match=r"the weights have shape .* expected \[n\] finite numbers"):
        Weighted(weights)


def test_a_draw_fails_when_it_cannot_be_made() -> None:
    """Too many without replacement, another number of weights, no such sampling, labels that are no classes."""
    with pytest.raises(ConfigError, match="3 samples an epoch of 2 with a weight above 0, without replacement"):
        Weighted([1, 0, 1], replacement=False)
    with pytest.raises(ConfigError, match="2 weights for 3 samples"):
        Draw(Weighted([1, 1]), np.zeros(3, int), 0)
    with pytest.raises(ConfigError, match=r"no sampling 'even'; expected natural, balanced, sqrt, or Weighted"):
        Draw("even", np.zeros(3, int), 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is by class; these labels are no classes"):
        Draw("balanced", np.zeros((3, 2)), 0)


def test_what_differs_is_described_differently() -> None:
    """A cursor counted under one sampling is refused under another."""
    draws: list[Sampling | Weighted] = ["balanced", "sqrt", Weighted([1, 2]), Weighted([2, 1]), Weighted([1, 2], 1),
                                        Weighted([1, 2], replacement=False)]  # fmt: skip
    assert len({Draw(sampling, np.zeros(2, int), 0).describe() for sampling in draws}) == len(draws)
