"""The verdict says what was compared, and where it first differs."""

from __future__ import annotations

import json
from pathlib import Path

from holdfast.run.cause import Cause
from holdfast.run.proof import Difference, OwnCheckpoint, Proof, difference_of
from holdfast.run.step_record import StepRecord
from holdfast.run.stretch import Stretch


def _proof() -> Proof:
    return Proof(Path("runs/x"), Stretch(40, 50, 60), (0, 0, 1), steps_compared=20, num_tensors=122)


def test_equal_bits_are_said_with_what_was_compared() -> None:
    """Steps, tensors, the run's own checkpoints, notes, and the verdict last."""
    proof = _proof()
    proof.own = [OwnCheckpoint(50), OwnCheckpoint(60), OwnCheckpoint(55, damage="its manifest is missing")]
    proof.notes = ["seen"]
    assert proof.bit_exact
    assert proof.lines() == [
        "steps 40 to 60: replayed, and replayed with a kill at step 50: 122 tensors equal at each of 20 steps",
        "the run's own checkpoints at steps 50, 60: equal",
        "the run's own checkpoint at step 55: not compared, since it cannot be read (its manifest is missing)",
        "note: seen",
        "bit-exact",
    ]


def test_the_first_difference_is_said_with_its_size_and_cause() -> None:
    """Step, first tensor, size, how many of all; then the likely cause."""
    proof = _proof()
    proof.difference = Difference(43, ["model.conv1.weight"] * 17, [], 122, 3e-8)
    proof.cause = Cause("inputs", "the transform")
    assert not proof.bit_exact
    assert proof.lines() == [
        (
            "steps 40 to 60: replayed, and replayed with a kill at step 50: differs first at step 43, "
            "model.conv1.weight (max abs difference 3e-08), 17 of 122 tensors at that step"
        ),
        "likely cause: the transform",
        "not bit-exact",
    ]


def test_a_run_that_did_otherwise_is_not_bit_exact() -> None:
    """Replays that agree with each other, and not with the run's own checkpoint."""
    proof = _proof()
    proof.own = [OwnCheckpoint(60, Difference(60, [], ["loader"], 122))]
    assert not proof.bit_exact
    assert proof.lines()[1:] == [
        "the run's own checkpoint at step 60: differs, the numbers of loader; all 122 tensors are equal",
        "not bit-exact",
    ]


def test_the_json_holds_everything() -> None:
    """Plain values, and the same verdict."""
    proof = _proof()
    proof.own = [OwnCheckpoint(60)]
    values = json.loads(json.dumps(proof.to_json()))
    assert (values["run"], values["bit_exact"], values["steps_compared"]) == ("runs/x", True, 20)
    assert values["stretch"] == {"start": 40, "kill": 50, "end": 60}
    assert values["own"] == [{"step": 60, "difference": None, "damage": None}]


def test_a_difference_names_tensors_in_order_and_what_one_side_lacks() -> None:
    """Numbers count only where they are asked for."""
    first = StepRecord(3, {"model.b": "1", "model.a": "1", "optimizer.x": "1"}, {"model": "1", "loader": "1"})
    second = StepRecord(3, {"model.b": "2", "model.a": "1"}, {"model": "1", "loader": "2"})
    assert difference_of(first, first) is None
    assert difference_of(first, second) == Difference(3, ["model.b", "optimizer.x"], ["loader"], 3)
    third = StepRecord(3, first.tensors, second.numbers)
    assert difference_of(first, third) == Difference(3, [], ["loader"], 3)
    assert difference_of(first, third, numbers=False) is None
