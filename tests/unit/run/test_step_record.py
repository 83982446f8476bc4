"""The record of a step: a digest for every tensor, and one for the rest of each part."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.named_state import state_of
from holdfast.run.step_record import record_of


def test_one_bit_changes_one_digest() -> None:
    """The tensor that holds it, by name; minus zero is not zero."""
    tree = {"model": {"a": torch.zeros(3), "b": torch.zeros(())}, "progress": {"step": 4}}
    before = record_of(4, tree)
    tree["model"]["a"][1] = -0.0
    after = record_of(4, tree)
    assert before.tensors.keys() == {"model.a", "model.b"}
    assert [name for name in before.tensors if before.tensors[name] != after.tensors[name]] == ["model.a"]
    assert before.numbers == after.numbers


def test_a_number_changes_its_part() -> None:
    """What is no tensor has one digest a part."""
    tensor = torch.zeros(2)
    one = record_of(4, {"model": {"a": tensor}, "progress": {"step": 4}})
    other = record_of(4, {"model": {"a": tensor}, "progress": {"step": 5}})
    assert one.tensors == other.tensors
    assert [part for part in one.numbers if one.numbers[part] != other.numbers[part]] == ["progress"]


def test_a_saved_state_has_the_record_of_the_live_one(tmp_path: Path) -> None:
    """Model with tied weights and an optimizer with slots: through the disk and back, the same digests."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    parts = {"model": model, "optimizer": optimizer}
    live = record_of(1, state_of(parts))
    with CheckpointStore(tmp_path) as store:
        store.save(1, parts)
        checkpoint = store.open(1)
    assert record_of(1, {part: checkpoint.read(part) for part in parts}) == live
    assert "optimizer.state.model.0.weight.exp_avg" in live.tensors
