"""The likely cause follows from what differs first, and on which side of the kill."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.run.cause import cause_against_run, cause_between_replays
from holdfast.run.step_record import Ready, StepRecord
from holdfast.run.stretch import Stretch

STRETCH = Stretch(10, 15, 20)
BATCH = {"inputs": "i", "targets": "t", "indices": "n"}


def _record(step: int, **changes: Any) -> StepRecord:
    values: dict[str, Any] = {"tensors": {}, "numbers": {}, "batch": BATCH, "loss": "0x1p0", "hidden": {}}
    return StepRecord(step, **{**values, **changes})


def _kind(step: int, before: dict[str, Any] | None = None, *, deterministic: bool = True, **second: Any) -> str:
    """Returns the cause's kind when the second replay has `before` before step `step`, and `second` after it."""
    early = (
        _record(step - 1, hidden={"model.calls": "5"}),
        _record(step - 1, **(before or {"hidden": {"model.calls": "5"}})),
    )
    late = (_record(step), _record(step, **second))
    return cause_between_replays(STRETCH, early, late, deterministic=deterministic).kind


@pytest.mark.parametrize("step", [11, 16, 18])
def test_other_inputs_are_the_first_suspect(step: int) -> None:
    """Whatever else differs: other inputs, or other samples, explain it."""
    assert _kind(step, batch={**BATCH, "inputs": "x"}, loss="0x1p1") == "inputs"
    assert _kind(step, batch={**BATCH, "inputs": "x", "indices": "x"}) == "order"


def test_inputs_that_differ_after_the_kill_alone_were_kept_from_call_to_call() -> None:
    """Before the kill nothing but an unseeded generator or the clock is left; after it, what a process remembers."""
    texts = []
    for step in (15, 16):
        pair = (_record(step), _record(step, batch={**BATCH, "inputs": "x"}))
        texts.append(cause_between_replays(STRETCH, pair, pair, deterministic=True).text)
    assert "has no seed, or reads the clock" in texts[0]
    assert "keeps something from call to call" in texts[1]


def test_hidden_state_is_named_when_the_kill_changed_it() -> None:
    """A counter that stood elsewhere before the step; one that differed all along harmed nothing."""
    lost = {"hidden": {"model.calls": "0"}}
    assert _kind(17, lost, loss="0x1p1") == "hidden state"
    assert _kind(17, {"hidden": {}}, loss="0x1p1") == "hidden state"
    early = (_record(16, hidden={"model.calls": "5"}), _record(16, hidden={"model.calls": "0"}))
    late = (_record(17), _record(17, loss="0x1p1"))
    told = cause_between_replays(STRETCH, early, late, deterministic=True)
    assert "before that step model.calls was 5 without the kill and 0 after it" in told.text
    restless = frozenset({"model.calls"})
    assert cause_between_replays(STRETCH, early, late, deterministic=True, restless=restless).kind == "nondeterminism"


def test_the_step_after_the_kill_tells_model_from_optimizer() -> None:
    """Another loss from equal inputs and weights is the model's; equal losses and other weights, the optimizer's."""
    assert _kind(16, loss="0x1p1") == "hidden state"
    assert _kind(16) == "optimizer"


@pytest.mark.parametrize("step", [11, 15, 17])
def test_elsewhere_it_is_the_settings_or_an_operation(step: int) -> None:
    """Without the kill to blame: deterministic algorithms are off, or an operation is not deterministic."""
    assert _kind(step, loss="0x1p1") == "nondeterminism"
    assert _kind(step, loss="0x1p1", deterministic=False) == "settings"
    assert _kind(step) == "nondeterminism"


def test_a_difference_before_any_step_is_the_start_or_the_restore() -> None:
    """First weights that the seed does not decide, or a state that does not survive being saved."""
    for stretch, step, kind in [
        (Stretch(0, 5, 9), 0, "first weights"),
        (STRETCH, 10, "restore"),
        (STRETCH, 15, "restore"),
    ]:
        pair = (_record(step), _record(step, batch={}, loss=None))
        assert cause_between_replays(stretch, pair, pair, deterministic=True).kind == kind


def test_the_run_may_differ_for_its_recipe_its_machine_or_its_settings() -> None:
    """In this order; with none of them, what is left is listed."""
    ready = Ready(_record(10), 5, 100, 0, True, "r1", {})
    assert cause_against_run(ready, ["threads 1 → 2"], "r0", 10).kind == "recipe"
    machine = cause_against_run(ready, ["threads 1 → 2", "torch 1 → 2"], "r1", 10)
    assert machine.kind == "machine" and "(threads 1 → 2; torch 1 → 2)" in machine.text
    unsettled = Ready(_record(10), 5, 100, 0, False, "r1", {})
    assert cause_against_run(unsettled, [], None, 10).kind == "settings"
    assert cause_against_run(ready, [], "r1", 10).kind == "unknown"
    assert "fork" in cause_against_run(ready, [], "r1", 0).text
