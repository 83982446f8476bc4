from __future__ import annotations

from typing import Any

import pytest

from holdfast.config import Config
from holdfast.errors import ConfigError
from holdfast.run.resume import Difference, asked_settings, recipe_differences, refuse, target_epochs

ASKED = Config(data="d", epochs=5)
RESOLVED = ASKED.replace(model="lenet", lr=0.01, batch_size=32)


def test_asked_settings_leave_out_what_is_at_its_default() -> None:
    """Only what was asked for is remembered."""
    assert asked_settings(ASKED) == {"data": "d", "epochs": 5}


@pytest.mark.row("S10")
def test_the_same_words_are_the_same_recipe_whatever_they_resolve_to() -> None:
    """A newer version that would choose otherwise does not change a run whose command is the same."""
    newer = ASKED.replace(model="another-net", lr=0.5)
    assert recipe_differences(asked_settings(ASKED), RESOLVED, ASKED, newer) == []


def test_saying_what_was_chosen_is_no_difference() -> None:
    """Asking for just what the run chose by itself goes on with it."""
    asked = ASKED.replace(lr=0.01)
    assert recipe_differences(asked_settings(ASKED), RESOLVED, asked, RESOLVED) == []


def test_another_recipe_is_a_difference() -> None:
    """Each setting that differs is named with what it was and is."""
    asked = ASKED.replace(lr=0.02, seed=3)
    found = recipe_differences(asked_settings(ASKED), RESOLVED, asked, RESOLVED.replace(lr=0.02, seed=3))
    assert found == [Difference("lr", 0.01, 0.02), Difference("seed", 0, 3)]
    assert str(found[0]) == "lr: 0.01 → 0.02"


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 9},
        {"workers": 7},
        {"device": "cpu"},
        {"save_every": "3"},
        {"background_saves": False},
        {"keep": 9},
        {"data": "moved"},
    ],
)
def test_place_machine_and_length_are_no_recipe(changed: dict[str, Any]) -> None:
    """Settings that cannot change a step's bits may differ from command to command."""
    asked = ASKED.replace(**changed)
    assert recipe_differences(asked_settings(ASKED), RESOLVED, asked, RESOLVED.replace(**changed)) == []


def test_without_the_first_command_the_resolved_settings_are_compared() -> None:
    """When environment.json is gone, nothing is guessed: what was resolved then and now is held side by side."""
    assert recipe_differences(None, RESOLVED, ASKED, RESOLVED) == []
    assert [d.setting for d in recipe_differences(None, RESOLVED, ASKED, RESOLVED.replace(lr=0.5))] == ["lr"]


def test_refuse_lets_the_same_recipe_pass() -> None:
    """Without differences there is nothing to refuse."""
    refuse([], "runs/x", forced=False)


def test_refuse_fails_with_every_difference_and_the_ways_out() -> None:
    """The message names the run, each difference, --out, --fork and --force."""
    with pytest.raises(ConfigError, match=r"runs/x.*\n  lr: 0.1 → 0.2\n  loss: nll → mse\n.*--out.*--fork.*--force"):
        refuse([Difference("lr", 0.1, 0.2), Difference("loss", "nll", "mse")], "runs/x", forced=False)


def test_force_lets_a_rate_change() -> None:
    """What leaves the meaning of a step alone may be changed in place."""
    refuse([Difference("lr", 0.1, 0.2)], "runs/x", forced=True)


@pytest.mark.parametrize("setting", ["batch_size", "seed", "classes", "model", "freeze", "optimizer", "val_fraction"])
def test_force_fails_where_a_step_would_mean_something_else(setting: str) -> None:
    """What decides what a step or a weight is cannot be changed even by force."""
    with pytest.raises(ConfigError, match=rf"--force cannot change .*\n  {setting}: 1 → 2\nGive another --out"):
        refuse([Difference("lr", 0.1, 0.2), Difference(setting, 1, 2)], "runs/x", forced=True)


@pytest.mark.row("S10")
@pytest.mark.parametrize(
    ("stored", "finished", "asked", "more", "extensions", "expected"),
    [
        (5, False, None, None, [], 5),
        (5, True, None, None, [], 5),
        (5, False, 5, None, [], 5),
        (5, True, 8, None, [], 8),
        (5, False, 8, None, [], 8),
        (5, True, None, 3, [], 8),
        # the run is being extended by 3: the same words again are the same command
        (8, False, None, 3, [{"from": 5, "to": 8, "more": 3}], 8),
        # … until it is finished: then they ask for three more
        (8, True, None, 3, [{"from": 5, "to": 8, "more": 3}], 11),
        (8, False, None, 2, [{"from": 5, "to": 8, "more": 3}], 10),
        # the command that began the run does not shrink it back
        (8, False, 5, None, [{"from": 5, "to": 8, "more": 3}], 8),
        (8, True, 5, None, [{"from": 5, "to": 8, "more": None}], 8),
    ],
)
def test_target_epochs(
    stored: int, finished: bool, asked: int | None, more: int | None, extensions: list[dict[str, Any]], expected: int
) -> None:
    """`N` is a length, `+N` an extension, and a command that is repeated means what it meant."""
    assert target_epochs(stored, finished, asked, more, extensions) == expected


@pytest.mark.parametrize("extensions", [[], [{"from": 3, "to": 5, "more": 2}]])
def test_target_epochs_fails_when_it_would_shrink(extensions: list[dict[str, Any]]) -> None:
    """Fewer epochs than the run has are refused with both numbers."""
    with pytest.raises(ConfigError, match="The run has 5 epochs and --epochs asks for 4"):
        target_epochs(5, True, 4, None, extensions)
