"""Choices that depend on what is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from holdfast.config import Config
from holdfast.data.tables.point_names import FACE_68_EYES
from holdfast.data.targets import Targets, TargetSpec
from holdfast.errors import ConfigError
from holdfast.run.recipe import DataSummary, resolve
from holdfast.run.saves import keep_of
from holdfast.run.task import target_spec

FACES = DataSummary(num_train=49, num_classes=1, short_side=333, channels=3)
SIDED = TargetSpec("landmarks", ("left", "right", "nose"))
NUMBERED = TargetSpec("landmarks", tuple(f"part_{k}" for k in range(68)))


def _resolved(targets: TargetSpec, **asked: Any) -> Config:
    return resolve(Config(data="x", **asked), FACES, targets)[0]


@pytest.mark.row("D3")
def test_points_without_pairs_are_not_flipped_and_it_is_said() -> None:
    """Without names of sides there is no flip, and the reason stands beside the choice."""
    resolved, choices = resolve(Config(data="x"), FACES, NUMBERED)
    reasons = {choice.setting: choice.reason for choice in choices}
    assert resolved.task == "landmarks" and resolved.flip_pairs == "none"
    assert "flip" not in (resolved.augment or "") and "no flip, for want of pairs" in reasons["augment"]
    assert (resolved.loss, resolved.resize) == ("wing", "exact")


@pytest.mark.row("D3", "T5")
@pytest.mark.parametrize(("asked", "lr"), [({}, 1e-3), ({"weights": "a.pth"}, 2e-4), ({"optimizer": "sgd"}, 0.00313)])
def test_a_small_batch_of_points_does_not_lower_the_rate(asked: dict[str, Any], lr: float) -> None:
    """Eight faces a batch keep AdamW's whole rate, and are not cropped; plain gradients are scaled as ever."""
    resolved = _resolved(NUMBERED, **asked)
    assert (resolved.batch_size, resolved.lr) == (8, lr)
    assert resolved.augment == "affine+color"
    assert _resolved(TargetSpec("regression", ("age",)), batch_size=8).lr == 1.25e-4


@pytest.mark.row("D3")
def test_points_with_sides_in_their_names_are_flipped() -> None:
    """Left and right in names make pairs, and the augmentation flips; so does asking for the 68."""
    assert "flip" in (_resolved(SIDED).augment or "") and _resolved(SIDED).flip_pairs == "names"
    assert "flip" in (_resolved(NUMBERED, flip_pairs="68").augment or "")


@pytest.mark.row("D3")
def test_the_spec_has_pairs_and_eyes_of_the_settings() -> None:
    """`68` brings the outer corners of the eyes; eyes that are given go before it; without any it is the diagonal."""
    values = np.zeros((2, 68, 2))
    targets = Targets("landmarks", list(NUMBERED.names), values)
    assert target_spec(Config(flip_pairs="68"), targets).eyes == FACE_68_EYES
    assert target_spec(Config(flip_pairs="68", eyes=["part_0", "16"]), targets).eyes == (0, 16)
    plain = target_spec(Config(flip_pairs="none"), targets)
    assert plain.eyes is None and plain.flip_pairs == () and plain.num_outputs == 136


@pytest.mark.parametrize(
    ("targets", "asked", "message"),
    [
        (NUMBERED, {"augment": "crop+flip"}, "flips pictures"),
        (NUMBERED, {"flip_pairs": "names"}, "no two names differ"),
        (NUMBERED, {"eyes": ["0"]}, "expected two points"),
        (NUMBERED, {"loss": "cross-entropy"}, "loss cross-entropy does not fit the task landmarks"),
        (NUMBERED, {"eval_transform": "a:b"}, "--eval-transform cannot be used with points"),
        (
            TargetSpec("multilabel", ("a",)),
            {"flip_pairs": "68"},
            "flip_pairs is for points, and the task is multilabel",
        ),
        (TargetSpec("classification", ("a", "b")), {"loss": "wing"}, "loss wing does not fit the task classification"),
    ],
)
def test_fails_on_settings_that_the_targets_cannot_have(
    targets: TargetSpec, asked: dict[str, Any], message: str
) -> None:
    """It is said before anything is made."""
    with pytest.raises(ConfigError, match=message):
        _resolved(targets, **asked)


@pytest.mark.parametrize(("task", "loss", "resize"), [("multilabel", "bce", "short"), ("regression", "mse", "exact")])
def test_labels_and_numbers_have_losses_of_their_own(task: Any, loss: str, resize: str) -> None:
    """What is chosen is what the task needs; a regression is not flipped by default."""
    resolved = _resolved(TargetSpec(task, ("a", "b")))
    assert (resolved.loss, resolved.resize) == (loss, resize)
    assert task != "regression" or "flip" not in (resolved.augment or "")


def test_your_own_loss_goes_with_any_task() -> None:
    """A loss by import path is not looked into."""
    assert _resolved(NUMBERED, loss="mine:loss").loss == "mine:loss"


def test_keep_knows_what_a_task_measures() -> None:
    """`best:2` is by the task's own metric and direction; a metric of another task is refused."""
    best = keep_of(Config(task="landmarks", keep="best:2"))
    assert (best.metric, best.direction) == ("nme", "min")  # type: ignore[attr-defined]
    assert keep_of(Config(keep="best:2")).metric == "accuracy"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="does not measure 'accuracy'; expected one of nme, loss"):
        keep_of(Config(task="landmarks", keep="best:2:accuracy"))
