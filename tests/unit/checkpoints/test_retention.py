from __future__ import annotations

import pytest

from holdfast.checkpoints.retention import BEST_CLASSIFIER, Retention

ACCURACY = {10: {"accuracy": 0.5}, 20: {"accuracy": 0.9}, 30: {"accuracy": 0.7}, 40: {"accuracy": 0.8}, 50: {}}


def test_the_newest_are_kept() -> None:
    """Without more said, the newest three stay."""
    assert Retention().keep(ACCURACY) == {30, 40, 50}


@pytest.mark.parametrize("last", [1, 0, -5])
def test_the_newest_is_kept_whatever_is_asked(last: int) -> None:
    """A count below one still keeps the newest."""
    assert Retention(last=last).keep(ACCURACY) == {50}


def test_none_keeps_all() -> None:
    """`last=None` deletes nothing."""
    assert Retention(last=None).keep(ACCURACY) == set(ACCURACY)


def test_more_than_there_are_keeps_all() -> None:
    """A count beyond what exists keeps what exists."""
    assert Retention(last=99).keep(ACCURACY) == set(ACCURACY)


@pytest.mark.row("S8", "S9")
def test_the_best_is_kept_however_old() -> None:
    """The best by its metric stays beside the newest, in either direction."""
    assert Retention(last=1, metric="accuracy").keep(ACCURACY) == {20, 50}
    assert Retention(last=1, metric="accuracy", direction="min").keep(ACCURACY) == {10, 50}


def test_steps_are_ordered_as_numbers() -> None:
    """The order in which steps are listed does not matter."""
    assert Retention(last=2).keep({100: {}, 9: {}, 20: {}}) == {20, 100}


def test_nothing_to_keep_of_nothing() -> None:
    """No checkpoints, nothing kept and no best."""
    assert Retention(metric="accuracy").keep({}) == set()
    assert Retention(metric="accuracy").best({}) is None


@pytest.mark.row("S8")
@pytest.mark.parametrize("direction", ["max", "min"])
def test_of_equals_the_earliest_is_the_best(direction: str) -> None:
    """A later checkpoint that is only as good does not take the title."""
    equals = {30: {"a": 0.5}, 10: {"a": 0.5}, 20: {"a": 0.5}}
    assert Retention(metric="a", direction=direction).best(equals) == 10


def test_there_is_no_best_without_its_metric() -> None:
    """Checkpoints that were never measured are never the best, and no metric means no best."""
    assert Retention(metric="loss").best(ACCURACY) is None
    assert Retention().best(ACCURACY) is None
    assert Retention(metric="accuracy").best({10: {}, 20: {"accuracy": -1.0}}) == 20


def test_of_equal_accuracy_the_surest_classifier_is_the_best() -> None:
    """A tie in accuracy is settled by the smaller loss, and then by age."""
    table = {10: {"accuracy": 1.0, "loss": 0.3}, 20: {"accuracy": 1.0, "loss": 0.1}, 30: {"accuracy": 0.9, "loss": 0.0}}
    assert BEST_CLASSIFIER.best(table) == 20
    assert BEST_CLASSIFIER.best({**table, 40: table[20]}) == 20
