from __future__ import annotations

from typing import Any

import pytest

from holdfast.formats.flat_optimizer import as_optimizer


def test_flat_names_become_state_and_groups() -> None:
    """Parameters with the same options are one group, also when another stands between them; slots may be nested."""
    flat = {
        "state.a.weight.step": 1, "state.a.weight.factor.0.left": 2, "state.b.step": 3, "state.c.d.step": 4,
        "param_groups.a.weight.lr": 0.1, "param_groups.a.weight.betas": (0.9, 0.99),
        "param_groups.b.lr": 0.2, "param_groups.b.betas": (0.9, 0.99),
        "param_groups.c.d.lr": 0.1, "param_groups.c.d.betas": (0.9, 0.99),
    }  # fmt: skip
    assert as_optimizer(flat) == {
        "state": {"a.weight": {"step": 1, "factor.0.left": 2}, "b": {"step": 3}, "c.d": {"step": 4}},
        "param_groups": [
            {"params": ["a.weight", "c.d"], "lr": 0.1, "betas": (0.9, 0.99)},
            {"params": ["b"], "lr": 0.2, "betas": (0.9, 0.99)},
        ],
    }


def test_the_longest_parameter_that_fits_owns_a_slot() -> None:
    """Where one parameter's name begins another's."""
    flat = {"param_groups.a.lr": 1, "param_groups.a.b.lr": 1, "state.a.b.step": 2, "state.a.step": 3}
    assert as_optimizer(flat)["state"] == {"a.b": {"step": 2}, "a": {"step": 3}}


def test_numbers_are_numbers_again_where_the_groups_say_so() -> None:
    """Keys that became text are what the groups refer to."""
    groups = [{"lr": 1, "params": [0, 1]}]
    assert as_optimizer({"state": {"0": {}, "1": {}}, "param_groups": groups})["state"] == {0: {}, 1: {}}
    named = {"state": {"0": {}}, "param_groups": [{"params": ["0"]}]}
    assert as_optimizer(named) == named


@pytest.mark.parametrize(
    "node", [{}, {"param_groups": 3}, {"param_groups": [3]}, {"state.a": 1, "other": 2}, {"weight": 1}]
)
def test_what_is_no_optimizer_stays_as_it_is(node: dict[str, Any]) -> None:
    """Nothing is added to it and nothing taken."""
    assert as_optimizer(node) is node


def test_options_that_nest_are_not_compared() -> None:
    """A list that holds the same list twice, sixty levels deep, would take years: each parameter has its own group."""

    def nested() -> list[Any]:
        value: list[Any] = []
        for _ in range(60):
            value = [value, value]
        return value

    flat = {"param_groups.a.x": nested(), "param_groups.b.x": nested()}
    assert [group["params"] for group in as_optimizer(flat)["param_groups"]] == [["a"], ["b"]]
