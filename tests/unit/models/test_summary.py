from __future__ import annotations

import pytest
from torch import nn

from holdfast.models import summarize_model
from holdfast.models.lenet import LeNet


@pytest.mark.row("M5")
def test_names_shapes_and_counts_of_lenet() -> None:
    """Every parameter of LeNet at 28 × 28 is listed, and the total is the known 61,706."""
    summary = summarize_model(LeNet(10, 1, 28))
    assert [(t.name, t.shape) for t in summary.tensors][:2] == [("conv1.weight", (6, 1, 5, 5)), ("conv1.bias", (6,))]
    assert summary.num_parameters == summary.num_trained == 61_706
    assert summary.num_buffer_values == 0
    assert {t.dtype for t in summary.tensors} == {"float32"} and {t.kind for t in summary.tensors} == {"parameter"}


@pytest.mark.row("M5", "M6")
def test_buffers_and_frozen_parameters_are_counted_apart() -> None:
    """Buffers are not parameters, and frozen parameters are not trained ones."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].weight.requires_grad_(False)
    summary = summarize_model(model)
    assert summary.num_parameters == 12 + 4 + 4 + 4
    assert summary.num_trained == 12
    assert summary.num_buffer_values == 4 + 4 + 1
    by_name = {t.name: t for t in summary.tensors}
    assert not by_name["0.weight"].trained and by_name["0.bias"].trained
    assert (by_name["1.num_batches_tracked"].kind, by_name["1.num_batches_tracked"].dtype) == ("buffer", "int64")


@pytest.mark.row("M5")
def test_a_tied_tensor_is_counted_once() -> None:
    """Two layers that share a weight have it listed under its first name only."""
    model = nn.ModuleDict({"encoder": nn.Linear(5, 5, bias=False), "decoder": nn.Linear(5, 5, bias=False)})
    model["decoder"].weight = model["encoder"].weight
    summary = summarize_model(model)
    assert [t.name for t in summary.tensors] == ["encoder.weight"]
    assert summary.num_parameters == 25
