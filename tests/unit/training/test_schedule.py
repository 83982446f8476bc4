from __future__ import annotations

import math

import pytest
import torch

from holdfast.errors import ConfigError
from holdfast.training import build_schedule


@pytest.mark.row("T4")
def test_constant_stays_where_it_is() -> None:
    """Every step has the same rate."""
    schedule = build_schedule("constant", 0.3, 10)
    assert {schedule(step) for step in range(20)} == {0.3}


@pytest.mark.row("T4")
def test_warm_up_rises_in_equal_steps_to_the_rate() -> None:
    """Four steps of warm-up take a quarter, a half, three quarters and all of the rate."""
    schedule = build_schedule("constant", 0.8, 10, warmup_steps=4)
    assert [schedule(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


@pytest.mark.row("T4")
def test_cosine_falls_from_the_rate_to_the_least() -> None:
    """It starts at the rate, is half-way at half time, and ends at min_lr, where it stays."""
    schedule = build_schedule("cosine", 1.0, 100, min_lr=0.2)
    assert [schedule(step) for step in (0, 25, 50, 75, 100, 130)] == pytest.approx(
        [1.0, 0.6 + 0.4 * math.cos(math.pi / 4), 0.6, 0.6 - 0.4 * math.cos(math.pi / 4), 0.2, 0.2]
    )


@pytest.mark.row("T4")
def test_cosine_begins_after_the_warm_up() -> None:
    """The last step of the warm-up and the first of the curve both have the full rate."""
    schedule = build_schedule("cosine", 1.0, 30, warmup_steps=10)
    assert [schedule(9), schedule(10), schedule(20), schedule(30)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


@pytest.mark.row("T4")
def test_cosine_is_that_of_torch() -> None:
    """Step for step the curve is that of torch's CosineAnnealingLR."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.01)
    ours = build_schedule("cosine", 0.7, 50, min_lr=0.01)
    for step in range(50):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        theirs.step()


@pytest.mark.row("T4")
def test_step_falls_by_gamma_at_every_third() -> None:
    """By default the rate falls to a tenth at a third and again at two thirds; min_lr is its floor."""
    schedule = build_schedule("step", 1.0, 30, min_lr=0.05)
    assert [schedule(s) for s in (0, 9, 10, 19, 20, 29)] == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.05, 0.05])
    often = build_schedule("step", 1.0, 30, step_every=4, gamma=0.5)
    assert [often(s) for s in (3, 4, 8, 12)] == pytest.approx([1.0, 0.5, 0.25, 0.125])


def test_a_schedule_asked_twice_answers_the_same() -> None:
    """It is a pure function of the step: any order of questions gives the same answers."""
    schedule = build_schedule("cosine", 0.4, 17, warmup_steps=3)
    forwards = [schedule(step) for step in range(20)]
    assert [schedule(step) for step in reversed(range(20))] == forwards[::-1]


@pytest.mark.parametrize("total", [0, 1, 2])
@pytest.mark.parametrize("name", ["constant", "step", "cosine"])
def test_the_shortest_trainings_have_a_rate(name: str, total: int) -> None:
    """No division by zero for trainings of no, one or two steps, also when the warm-up is longer than they are."""
    schedule = build_schedule(name, 0.5, total, warmup_steps=5)
    assert all(0 <= schedule(step) <= 0.5 for step in range(4))


def test_fails_on_an_unknown_name() -> None:
    """The refusal lists the schedules there are."""
    with pytest.raises(ConfigError, match=r"no schedule 'linear'\. Choose one of: constant, step, cosine"):
        build_schedule("linear", 0.1, 10)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": -1.0}, {"warmup_steps": -1}, {"gamma": 0.0}, {"min_lr": -0.1}])
def test_fails_on_numbers_out_of_range(wrong: dict[str, float]) -> None:
    """The refusal repeats the numbers and says what was expected."""
    with pytest.raises(ConfigError, match="expected lr and gamma above 0, the others 0 or more"):
        build_schedule("cosine", **{"lr": 0.1, "total_steps": 10, **wrong})
