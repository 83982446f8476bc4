from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.inference import (
    ACCELERATOR_BATCH_SIZE,
    CPU_BATCH_SIZE,
    choose_device,
    fixed_batch_size,
    forward_fixed,
)
from holdfast.models import build_model

FAMILIES = {
    "lenet": ("lenet", 1, 28, {}),
    "cifar-net": ("cifar-net", 3, 32, {"dropout": 0.5}),
    "mlp": ("mlp", 1, 28, {"dropout": 0.5}),
    "dynamic": ("dynamic", 1, 28, {}),
    "resnet": ("resnet18", 3, 64, {}),
    "vit": ("vit_tiny_patch16_224", 3, 64, {"depth": 4}),
    "convnext": ("convnext_atto", 3, 64, {}),
}


@pytest.mark.row("M6", "U1")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_depends_on_its_picture_alone(family: str, precision: str) -> None:
    """A picture's outputs are the same bits wherever it stands, whoever its neighbours are, however many they are."""
    name, channels, side, args = FAMILIES[family]
    torch.manual_seed(0)
    model = build_model(name, 5, channels, side, **args)
    inputs = torch.randn(CPU_BATCH_SIZE + 5, channels, side, side)
    whole = forward_fixed(model, inputs, precision)
    assert whole.shape == (len(inputs), 5) and whole.dtype == torch.float32
    assert len({tuple(row) for row in whole.tolist()}) == len(inputs)

    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    assert torch.equal(forward_fixed(model, inputs[order], precision), whole[order])
    for first, last in ((0, 1), (7, 8), (len(inputs) - 1, len(inputs)), (3, 9), (2, 2 + CPU_BATCH_SIZE)):
        assert torch.equal(forward_fixed(model, inputs[first:last], precision), whole[first:last]), (first, last)
    among_others = torch.cat([torch.full_like(inputs[:3], 1e4), inputs[4:5], torch.full_like(inputs[:2], -3.0)])
    assert torch.equal(forward_fixed(model, among_others, precision)[3], whole[4])


@pytest.mark.row("M6")
def test_every_forward_pass_has_the_fixed_size() -> None:
    """The last batch is padded with zeros to the size of the others, and the padding's rows are thrown away."""
    seen: list[torch.Tensor] = []

    class _Recorder(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs.clone())
            return inputs.flatten(1)

    inputs = torch.rand(CPU_BATCH_SIZE + 3, 1, 2, 2) + 1
    outputs = forward_fixed(_Recorder(), inputs)
    assert torch.equal(outputs, inputs.flatten(1))
    assert [len(chunk) for chunk in seen] == [CPU_BATCH_SIZE, CPU_BATCH_SIZE]
    assert bool((seen[1][3:] == 0).all())


@pytest.mark.row("M6")
def test_it_runs_in_eval_mode_without_gradients() -> None:
    """The model is left in eval mode, its outputs need no gradient, and its statistics have not moved."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = forward_fixed(model, torch.rand(3, 1, 2, 2))
    assert not outputs.requires_grad
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.row("M3", "M6")
def test_random_numbers_in_eval_mode_do_not_depend_on_what_was_drawn_before() -> None:
    """Python's, NumPy's and torch's generators are seeded alike before each pass."""

    class _Draws(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
            return torch.tensor(drawn).expand(len(inputs), 3)

    first = forward_fixed(_Draws(), torch.zeros(CPU_BATCH_SIZE * 2, 1))
    random.random(), np.random.rand(), torch.rand(3)
    assert torch.equal(forward_fixed(_Draws(), torch.zeros(1, 1))[0], first[0])
    assert torch.equal(first[0], first[-1])


def test_bf16_is_autocast_and_answers_in_float32() -> None:
    """With bf16 the matrix products are rounded, the result is float32 and differs from full precision a little."""
    torch.manual_seed(0)
    model, inputs = nn.Linear(64, 4), torch.randn(3, 64)
    exact, rounded = forward_fixed(model, inputs), forward_fixed(model, inputs, "bf16")
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, atol=0.05, rtol=0.05)


@pytest.mark.row("T6")
def test_the_device_is_chosen_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes CUDA where there is one, then Apple's GPU, then the CPU."""
    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert choose_device("auto") == torch.device(expected)


@pytest.mark.row("T6")
def test_a_device_can_be_named() -> None:
    """A device that exists is taken as named."""
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:63", "abacus"])
def test_fails_when_the_device_is_not_there(name: str) -> None:
    """A device that cannot be used is refused by name, with the way out."""
    with pytest.raises(ConfigError, match=rf"The device '{name}' cannot be used here \(.+\)\. Try --device auto"):
        choose_device(name)


@pytest.mark.row("T6")
def test_the_size_of_a_pass_depends_on_the_kind_of_device_alone() -> None:
    """A pass is small on a CPU and larger on an accelerator."""
    assert fixed_batch_size(torch.device("cpu")) == CPU_BATCH_SIZE
    assert fixed_batch_size(torch.device("cuda", 1)) == fixed_batch_size(torch.device("mps")) == ACCELERATOR_BATCH_SIZE
