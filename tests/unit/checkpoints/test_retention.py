from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

import holdfast
from holdfast.checkpoints.retention import (
    BEST_CLASSIFIER,
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
    parse_keep,
)
from holdfast.errors import ConfigError


def _saved(metrics: Mapping[int, Mapping[str, float]]) -> list[Saved]:
    return [Saved(step, numbers) for step, numbers in metrics.items()]


def _steps(steps: Iterable[int]) -> list[Saved]:
    return [Saved(step) for step in steps]


def _at_minutes(*minutes: float | None) -> list[Saved]:
    """Checkpoints of steps 1, 2, 3 …, saved at these minutes."""
    at = [None if m is None else 1.7e9 + 60 * m for m in minutes]
    return [Saved(step, saved_at=seconds) for step, seconds in enumerate(at, 1)]


ACCURACY = _saved(
    {10: {"accuracy": 0.5}, 20: {"accuracy": 0.9}, 30: {"accuracy": 0.7}, 40: {"accuracy": 0.8}, 50: {}},
)
EVERY_300 = _steps(range(300, 4000, 300))


def test_the_newest_are_kept() -> None:
    """Without more said, the newest three stay."""
    assert Last().keep(ACCURACY) == {30, 40, 50}
    assert Last(1).keep(ACCURACY) == {50}


def test_none_keeps_all() -> None:
    """`Last(None)` deletes nothing."""
    assert Last(None).keep(ACCURACY) == {10, 20, 30, 40, 50}


def test_more_than_there_are_keeps_all() -> None:
    """A count beyond what exists keeps what exists."""
    assert Last(99).keep(ACCURACY) == {10, 20, 30, 40, 50}


@pytest.mark.row("S8", "S9")
def test_the_best_is_kept_however_old() -> None:
    """The best by its metric stays beside the newest, in either direction."""
    assert (Last(1) | Best("accuracy")).keep(ACCURACY) == {20, 50}
    assert (Last(1) | Best("accuracy", "min")).keep(ACCURACY) == {10, 50}


def test_several_best_are_kept() -> None:
    """A count keeps the best, the second best and so on, and never one that was not measured."""
    assert Best("accuracy", count=2).keep(ACCURACY) == {20, 40}
    assert Best("accuracy", "min", count=3).keep(ACCURACY) == {10, 30, 40}
    assert Best("accuracy", count=99).keep(ACCURACY) == {10, 20, 30, 40}


def test_steps_are_ordered_as_numbers() -> None:
    """The order in which steps are listed does not matter."""
    assert Last(2).keep(_steps([100, 9, 20])) == {20, 100}


@pytest.mark.parametrize(
    "policy",
    [Last(), Last(None), Best("accuracy"), EverySteps(1), EveryEpochs(1), EveryMinutes(1), At([1]), Last() | At([1])],
)
def test_nothing_to_keep_of_nothing(policy: Policy) -> None:
    """No checkpoints, nothing kept and no best."""
    assert policy.keep([]) == set()
    assert Best("accuracy").best([]) is None


@pytest.mark.row("S8")
@pytest.mark.parametrize("direction", ["max", "min"])
def test_of_equals_the_earliest_is_the_best(direction: Any) -> None:
    """A later checkpoint that is only as good does not take the title."""
    equals = _saved({30: {"a": 0.5}, 10: {"a": 0.5}, 20: {"a": 0.5}})
    assert Best("a", direction).best(equals) == 10
    assert Best("a", direction, count=2).keep(equals) == {10, 20}


def test_there_is_no_best_without_its_metric() -> None:
    """Checkpoints that were never measured are never the best, however bad the measured ones are."""
    assert Best("loss").best(ACCURACY) is None
    assert Best("loss").keep(ACCURACY) == set()
    assert Best("accuracy").best(_saved({10: {}, 20: {"accuracy": -1.0}})) == 20


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_metric_that_is_not_finite_is_no_measurement(value: float, direction: Any) -> None:
    """A diverged loss is never the best, in neither direction, and loses every tie."""
    assert Best("loss", direction).best(_saved({10: {"loss": value}, 20: {"loss": 3.0}})) == 20
    ties = _saved({10: {"a": 1.0, "loss": value}, 20: {"a": 1.0, "loss": 3.0}})
    assert Best("a", direction, tie_metric="loss").best(ties) == 20


def test_of_equal_accuracy_the_surest_classifier_is_the_best() -> None:
    """A tie in accuracy is settled by the smaller loss, and then by age; one without a loss comes last."""
    table = {10: {"accuracy": 1.0, "loss": 0.3}, 20: {"accuracy": 1.0, "loss": 0.1}, 30: {"accuracy": 0.9, "loss": 0.0}}
    assert BEST_CLASSIFIER.best(_saved(table)) == 20
    assert BEST_CLASSIFIER.best(_saved({**table, 40: table[20]})) == 20
    assert BEST_CLASSIFIER.best(_saved({5: {"accuracy": 1.0}, **table})) == 20


def test_every_so_many_steps_are_kept() -> None:
    """Checkpoints at a multiple stay, and step 0, which is one."""
    assert EverySteps(100).keep(_steps(range(0, 400, 50))) == {0, 100, 200, 300}
    assert EverySteps(1).keep(_steps([1, 2, 5])) == {1, 2, 5}


def test_where_no_checkpoint_is_at_a_multiple_the_first_after_it_is_kept() -> None:
    """A run that saves every 300 keeps about one in 1000, whatever the remainders are."""
    assert EverySteps(1000).keep(EVERY_300) == {1200, 2100, 3000}
    assert EverySteps(1000).keep(_steps([999, 1001, 1002, 5000, 5001])) == {1001, 5000}
    assert EverySteps(1000).keep(_steps([1, 999])) == set()


def test_a_kept_one_is_kept_again_when_those_between_are_gone() -> None:
    """What is left over of a pruned run answers as the whole run did."""
    assert EverySteps(1000).keep(_steps([1200, 2100, 3000, 3600, 3900])) == {1200, 2100, 3000}


def test_every_so_many_epochs_are_kept() -> None:
    """The first checkpoint of each multiple stays, of those within an epoch too; epoch 0 is none."""
    saved = [Saved(step, epoch=step // 10) for step in range(5, 80, 5)]
    assert EveryEpochs(2).keep(saved) == {20, 40, 60}
    assert EveryEpochs(5).keep([Saved(epoch * 10, epoch=epoch) for epoch in (3, 6, 9, 12)]) == {60, 120}
    assert EveryEpochs(1).keep([Saved(0, epoch=0), Saved(5, epoch=0)]) == set()


def test_every_so_many_minutes_are_kept() -> None:
    """The first stays, then each that is far enough from the one kept before it; so far exactly is enough."""
    assert EveryMinutes(60).keep(_at_minutes(0, 20, 59.9, 60, 80, 119, 125, 400)) == {1, 4, 7, 8}
    assert EveryMinutes(0.5).keep(_at_minutes(0, 0.4, 0.5, 0.6)) == {1, 3}


@pytest.mark.parametrize("make", [lambda: EveryMinutes("10"), lambda: Best(""), lambda: Best(3)])  # type: ignore[arg-type]
def test_a_policy_fails_when_it_is_made_of_the_wrong_things(make: Callable[[], Policy]) -> None:
    """A text for minutes and a metric without a name are told where they are written."""
    with pytest.raises(ConfigError, match="expected"):
        make()


def test_a_clock_that_went_backwards_deletes_nothing_for_it() -> None:
    """Across a backward jump both sides stay, whether or not anything in between was due."""
    assert EveryMinutes(60).keep(_at_minutes(0, 50, 40, 45)) == {1, 2, 3}
    assert EveryMinutes(60).keep(_at_minutes(100, 130, -500, -490, -440)) == {1, 2, 3, 5}
    assert EveryMinutes(60).keep(_at_minutes(30, 20, 10)) == {1, 2, 3}


def test_what_a_backward_jump_kept_is_kept_again() -> None:
    """The jump still shows when those between are gone, so nothing is judged anew."""
    whole = _at_minutes(0, 10, 50, 40, 45, 70, 99, 100, 101)
    kept = EveryMinutes(60).keep(whole)
    assert kept == {1, 3, 4, 8}
    assert EveryMinutes(60).keep([one for one in whole if one.step in kept]) == kept


def test_what_was_never_recorded_keeps_nothing() -> None:
    """Checkpoints without an epoch or a time are kept by neither rule, and do not disturb those with one."""
    assert EveryEpochs(1).keep(_steps([1, 2])) == set()
    assert EveryMinutes(1).keep(_steps([1, 2])) == set()
    assert EveryMinutes(60).keep(_at_minutes(0, None, math.nan, 61)) == {1, 4}
    assert EveryEpochs(1).keep([Saved(1, epoch=1), Saved(2), Saved(3, epoch=2)]) == {1, 3}


def test_named_steps_are_kept() -> None:
    """Exactly the steps that were named stay, if they are there."""
    assert At([100, 250]).keep(_steps([50, 100, 200, 300])) == {100}
    assert At(()).keep(_steps([50])) == set()
    assert At([2, 1, 2]) == At({1, 2})


def test_a_union_keeps_what_any_of_it_keeps() -> None:
    """`a | b` keeps both answers, and a union of unions is one flat list in order."""
    policy = Last(1) | (EverySteps(1000) | At([600]))
    assert policy.keep(EVERY_300) == {600, 1200, 2100, 3000, 3900}
    assert policy.policies == (Last(1), EverySteps(1000), At([600]))
    assert policy == AnyOf([Last(1), AnyOf([EverySteps(1000)]), At([600])])


def test_a_union_fails_with_what_is_no_policy() -> None:
    """Joining with anything else is a TypeError; an empty union, which would keep nothing, a ConfigError."""
    with pytest.raises(TypeError, match="unsupported operand"):
        Last() | {1}  # type: ignore[operator]  # the point of the test
    with pytest.raises(ConfigError, match=r"^Keeping checkpoints by AnyOf: there is no policy in it; expected one"):
        AnyOf([])


def test_the_best_of_a_policy_is_its_first() -> None:
    """`best_of` finds the rule that says which is best, inside a union too."""
    assert best_of(BEST_CLASSIFIER) is BEST_CLASSIFIER
    assert best_of(Last() | Best("a") | Best("b")) == Best("a")
    assert best_of(Last() | At([1])) is None
    assert best_of(Last()) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Last(0), "by Last: count is 0; expected a whole number, 1 or more, or None for all."),
        (lambda: Last(-3), "by Last: count is -3;"),
        (lambda: Last(True), "by Last: count is True;"),
        (lambda: Best("a", count=0), "by Best: count is 0; expected a whole number, 1 or more."),
        (lambda: Best("a", "most"), "the best by a: direction is 'most'; expected 'max' or 'min'."),  # type: ignore[arg-type]
        (lambda: EverySteps(0), "by EverySteps: steps is 0; expected a whole number, 1 or more."),
        (lambda: EverySteps(2.5), "by EverySteps: steps is 2.5;"),  # type: ignore[arg-type]
        (lambda: EveryEpochs(-1), "by EveryEpochs: epochs is -1; expected a whole number, 1 or more."),
        (lambda: EveryMinutes(0), "by EveryMinutes: minutes is 0; expected a finite number above 0."),
        (lambda: EveryMinutes(math.nan), "by EveryMinutes: minutes is nan;"),
        (lambda: EveryMinutes(math.inf), "by EveryMinutes: minutes is inf;"),
        (lambda: At([5, -1]), "by At: a step is -1; expected a whole number, 0 or more."),
    ],
)
def test_a_policy_fails_when_its_numbers_make_no_sense(make: Callable[[], Policy], message: str) -> None:
    """A count, interval or direction that cannot be meant is refused where it is written, not at the first save."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("3", Last(3)),
        ("all", Last(None)),
        ("best", BEST_CLASSIFIER),
        ("best:2", Best("accuracy", "max", 2, "loss")),
        ("best:2:accuracy", Best("accuracy", "max", 2, "loss")),
        ("best:1:loss", Best("loss", "min")),
        ("best:1:val_loss", Best("val_loss", "min", tie_metric="loss")),
        ("best:1:score:min", Best("score", "min", tie_metric="loss")),
        ("every:1000steps", EverySteps(1000)),
        ("every:1000", EverySteps(1000)),
        ("every:1step", EverySteps(1)),
        ("every:5epochs", EveryEpochs(5)),
        ("every:1epoch", EveryEpochs(1)),
        ("every:60min", EveryMinutes(60)),
        ("every:0.5 minutes", EveryMinutes(0.5)),
        ("at:100+200", At([100, 200])),
        (" 3 , at:0 ", Last(3) | At([0])),
        (
            "3,best:2:accuracy,every:1000steps,every:5epochs,every:60min,at:100+200",
            AnyOf(
                [
                    Last(3),
                    Best("accuracy", count=2, tie_metric="loss"),
                    EverySteps(1000),
                    EveryEpochs(5),
                    EveryMinutes(60),
                    At([100, 200]),
                ]
            ),
        ),
    ],
)
def test_what_a_person_writes_becomes_a_policy(text: str, policy: Policy) -> None:
    """Each word of `--keep` is one policy, and several are their union in the order written."""
    assert parse_keep(text) == policy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is none of its words."),
        ("3,", "'' is none of its words."),
        ("al", "'al' is none of its words. Did you mean 'all'?"),
        ("evry:10steps", "'evry:10steps' is none of its words. Did you mean 'every'?"),
        ("bset:2", "'bset:2' is none of its words. Did you mean 'best'?"),
        ("-3", "'-3' is none of its words."),
        ("3.5", "'3.5' is none of its words."),
        ("0", "Keeping checkpoints by Last: count is 0; expected a whole number, 1 or more, or None for all."),
        ("best:two", "'two' is not a whole number."),
        ("best:1:", "'best:1::max' lacks a metric, or a direction that is max or min."),
        ("best:1:loss:least", "'best:1:loss:least' lacks a metric, or a direction that is max or min."),
        ("every", "'every' has too few or too many parts."),
        ("all:3", "'all:3' has too few or too many parts."),
        ("best:1:a:max:b", "'best:1:a:max:b' has too few or too many parts."),
        ("every:often", "'often' is not a number and a unit."),
        ("every:10stpes", "'stpes' is no unit. Did you mean 'steps'?"),
        ("every:10hours", "'hours' is no unit."),
        ("every:1.5epochs", "'1.5' is not a whole number."),
        ("every:0steps", "Keeping checkpoints by EverySteps: steps is 0; expected a whole number, 1 or more."),
        ("every:0min", "Keeping checkpoints by EveryMinutes: minutes is 0.0; expected a finite number above 0."),
        ("every:1.2.3min", "could not convert string to float: '1.2.3'"),
        ("at:", "'' is not a whole number."),
        ("at:1+x", "'x' is not a whole number."),
        ("at:²", "'²' is not a whole number."),
        ("٣", "'٣' is not a whole number."),
    ],
)
def test_bad_words_fail_with_the_nearest_and_with_all_that_may_be_said(text: str, problem: str) -> None:
    """The message repeats what was written, says which word is wrong and how, and lists what is accepted."""
    with pytest.raises(ConfigError) as caught:
        parse_keep(text)
    assert str(caught.value) == (
        f"keep is {text!r}: {problem} Expected words with commas between them: 3 (the newest three), all, "
        "best:2:accuracy, best:1:loss:min, every:1000steps, every:5epochs, every:60min, at:100+200."
    )


def test_retention_needs_no_torch() -> None:
    """The file imports neither torch nor NumPy, so that a wrong `--keep` is answered at once."""
    spec = importlib.util.find_spec("holdfast.checkpoints.retention")
    assert spec is not None and spec.origin is not None and holdfast.__file__ is not None
    program = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('retention', sys.argv[1])\n"
        "module = sys.modules['retention'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.parse_keep('3'), sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, spec.origin], capture_output=True, text=True, check=True)
    assert done.stdout == "Last(count=3) []\n"
