"""What retention promises whatever was saved and whichever policies are joined."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.checkpoints.retention import (
    AnyOf,
    At,
    Best,
    EveryEpochs,
    EveryMinutes,
    EverySteps,
    Last,
    Policy,
    Saved,
    best_of,
)

LAW = settings(deadline=None, max_examples=150, derandomize=True)

forever = (
    st.builds(EverySteps, st.integers(1, 25))
    | st.builds(EveryEpochs, st.integers(1, 4))
    | st.builds(EveryMinutes, st.sampled_from([0.5, 1, 2, 5, 10]))
    | st.builds(At, st.sets(st.integers(0, 60), max_size=5))
)
passing = st.builds(Last, st.integers(1, 4)) | st.builds(
    Best, st.just("a"), st.sampled_from(["max", "min"]), st.integers(1, 3), st.sampled_from([None, "b"])
)
policies = st.recursive(forever | passing, lambda inner: st.lists(inner, min_size=1, max_size=3).map(AnyOf))


@st.composite
def runs(draw: st.DrawFn) -> list[Saved]:
    """Checkpoints of a run in order: uneven steps, growing epochs, a clock that may jump, gaps in what is known."""
    step, at, saved = draw(st.integers(-1, 3)), 1e9, []
    steps_per_epoch = draw(st.integers(1, 12))
    for _ in range(draw(st.integers(0, 14))):
        step += draw(st.integers(1, 9))
        at += 60 * draw(st.sampled_from([0, 0.4, 1, 1, 2, 5, 30, -0.5, -1, -3, -40]))
        known = draw(st.sampled_from(["both", "both", "both", "neither"])) == "both"
        metrics = draw(st.dictionaries(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 1.0, float("nan")])))
        saved.append(Saved(step, metrics, step // steps_per_epoch if known else None, at if known else None))
    return saved


@given(runs(), policies)
@LAW
def test_only_what_is_there_is_kept(saved: list[Saved], policy: Policy) -> None:
    """No policy answers with a step that it was not given."""
    assert policy.keep(saved) <= {one.step for one in saved}


@given(runs(), policies, st.randoms(use_true_random=False))
@LAW
def test_the_order_in_which_they_are_listed_does_not_matter(saved: list[Saved], policy: Policy, random: object) -> None:
    """A shuffled list has the same answer."""
    shuffled = list(saved)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert policy.keep(shuffled) == policy.keep(saved)


@given(runs(), policies, policies, policies)
@LAW
def test_a_union_is_the_union_of_the_answers(saved: list[Saved], a: Policy, b: Policy, c: Policy) -> None:
    """`a | b` keeps exactly what either keeps, and how unions are nested makes no difference."""
    assert (a | b).keep(saved) == a.keep(saved) | b.keep(saved)
    assert (a | b) | c == a | (b | c) == AnyOf([a, b, c])


@given(runs(), st.integers(1, 5))
@LAW
def test_the_newest_is_always_among_the_last(saved: list[Saved], count: int) -> None:
    """`Last` keeps the newest and as many as were asked for, if there are as many."""
    kept = Last(count).keep(saved)
    assert len(kept) == min(count, len(saved))
    assert not saved or saved[-1].step in kept


@given(runs(), forever, policies, st.integers(0, 14), st.integers(0, 14))
@LAW
def test_forever_is_forever(saved: list[Saved], policy: Policy, other: Policy, first: int, second: int) -> None:
    """Prune, train on, prune again: what an every- or at-policy kept once stays, whatever is joined to it."""
    early, late = sorted((first, second))
    left: list[Saved] = []
    kept_once: set[int] = set()
    for new in (saved[:early], saved[early:late], saved[late:]):
        there = left + new
        assert kept_once <= {one.step for one in there}
        kept_once |= policy.keep(there)
        kept = (policy | other).keep(there)
        assert kept_once <= kept
        left = [one for one in there if one.step in kept]
    assert kept_once <= {one.step for one in left}


@given(runs(), forever)
@LAW
def test_pruning_at_every_save_keeps_what_pruning_once_at_the_end_keeps(saved: list[Saved], policy: Policy) -> None:
    """However often it is asked, a policy of steps or epochs ends up with the same, if only the newest is left."""
    if isinstance(policy, EveryMinutes):
        return  # it keeps both sides of a backward jump, and a side may be gone before the jump shows
    left: list[Saved] = []
    for one in saved:
        there = [*left, one]
        kept = (policy | Last(1)).keep(there)
        left = [each for each in there if each.step in kept]
    assert policy.keep(left) == policy.keep(saved)


@given(runs(), st.sampled_from([0.5, 1, 2, 5, 10]))
@LAW
def test_every_so_many_minutes_are_kept_and_no_more(saved: list[Saved], minutes: float) -> None:
    """Where the clock never went back, kept ones are so far apart, and every other one is near one kept before it."""
    known = [(one.step, one.saved_at) for one in saved if one.saved_at is not None]
    times = [at for _, at in known]
    if times != sorted(times):
        return
    kept = EveryMinutes(minutes).keep(saved)
    far = [at for step, at in known if step in kept]
    assert all(b - a >= 60 * minutes for a, b in pairwise(far))
    assert all(any(0 <= at - a < 60 * minutes for a in far) for _, at in known)


@given(runs(), st.sampled_from([0.5, 1, 2, 5, 10]))
@LAW
def test_both_sides_of_a_backward_jump_are_kept(saved: list[Saved], minutes: float) -> None:
    """Nobody knows how long it was across a jump, so neither of the two is given up for being too near."""
    known = [one for one in saved if one.saved_at is not None]
    kept = EveryMinutes(minutes).keep(saved)
    for one, after in pairwise(known):
        if after.saved_at < one.saved_at:  # type: ignore[operator]  # both are known
            assert {one.step, after.step} <= kept


@given(runs(), st.sampled_from(["max", "min"]), st.integers(1, 3))
@LAW
def test_the_single_best_is_the_first_of_the_several(saved: list[Saved], direction: str, count: int) -> None:
    """`best` is among those kept for any count, none is better, and a union names the same one."""
    policy = Best("a", direction, count, "b")  # type: ignore[arg-type]
    best = policy.best(saved)
    measured = {one.step: one.metrics["a"] for one in saved if one.metrics.get("a", float("nan")) >= 0}
    assert (best is None) == (not measured)
    if best is not None:
        assert best in policy.keep(saved)
        assert measured[best] == (max if direction == "max" else min)(measured.values())
    assert best_of(Last() | policy) == policy
