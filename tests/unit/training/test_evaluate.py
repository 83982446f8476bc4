from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.inference import CPU_BATCH_SIZE
from holdfast.training import evaluate


class _Scores(nn.Module):
    """Gives its inputs back as logits."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


@pytest.mark.row("T2")
def test_loss_and_accuracy_are_those_of_a_hand_computation() -> None:
    """Of three samples with known logits, two are right; the loss is the mean of three known logarithms."""
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0], [0.0, 0.0]])
    targets = torch.tensor([1, 1, 0])
    found = evaluate(_Scores(), [(logits, targets)])
    assert found is not None
    assert found.accuracy == 2 / 3
    assert found.loss == pytest.approx((math.log(4 / 3) + math.log(5) + math.log(2)) / 3, abs=1e-6)
    assert found.num_samples == 3
    assert torch.equal(found.outputs, logits) and torch.equal(found.targets, targets)
    torch.testing.assert_close(found.probabilities[0], torch.tensor([0.25, 0.75]))
    assert found.per_class(["no", "yes", "maybe"]) == {
        "no": {"accuracy": 1.0, "num_samples": 1},
        "yes": {"accuracy": 0.5, "num_samples": 2},
        "maybe": {"accuracy": None, "num_samples": 0},
    }


@pytest.mark.row("T2", "M6")
def test_every_module_gets_back_the_mode_it_was_in() -> None:
    """A mixture of modes is restored as it was, also when the loss fails."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    model[1].eval()
    batches = [(torch.rand(3, 2), torch.zeros(3, dtype=torch.int64))]
    evaluate(model, batches)
    assert [m.training for m in model.modules()] == [True, True, False, True]

    def broken(_outputs: Tensor, _targets: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate(model, batches, broken)
    assert [m.training for m in model.modules()] == [True, True, False, True]


@pytest.mark.row("T2", "M6")
def test_no_gradient_is_computed_and_no_statistic_moves() -> None:
    """Evaluation leaves parameters, gradients and batch-norm statistics as they were."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    found = evaluate(model, [(torch.rand(4, 2), torch.zeros(4, dtype=torch.int64))])
    assert found is not None and not found.outputs.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@pytest.mark.row("T2")
@pytest.mark.parametrize("sizes", [[40], [16, 16, 8], [1] * 40, [3, 30, 7]])
def test_the_result_does_not_depend_on_how_the_set_was_cut(sizes: list[int]) -> None:
    """Loss, accuracy and every output are the same bits for any batch sizes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    inputs, targets = torch.randn(40, 1, 8, 8), torch.randint(0, 4, (40,))
    whole = evaluate(model, [(inputs, targets)])
    cut = evaluate(model, list(zip(inputs.split(sizes), targets.split(sizes), strict=True)))
    assert whole is not None and cut is not None
    assert (cut.loss, cut.accuracy) == (whole.loss, whole.accuracy)
    assert torch.equal(cut.outputs, whole.outputs)


@pytest.mark.row("T2")
def test_indices_are_taken_from_the_source_or_counted() -> None:
    """A third member of the batch is the samples' indices; without one they are counted from 0."""
    inputs, targets = torch.rand(5, 2), torch.zeros(5, dtype=torch.int64)
    counted = evaluate(_Scores(), [(inputs[:3], targets[:3]), (inputs[3:], targets[3:])])
    given = evaluate(_Scores(), [(inputs, targets, torch.tensor([9, 7, 5, 3, 1]))])
    assert counted is not None and counted.indices.tolist() == [0, 1, 2, 3, 4]
    assert given is not None and given.indices.tolist() == [9, 7, 5, 3, 1]


@pytest.mark.row("T2", "T3")
def test_your_own_loss_is_called_once_with_everything() -> None:
    """The loss sees all outputs and targets at once, so a mean over unequal batches is a mean over samples."""
    calls: list[tuple[int, int]] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append((len(outputs), len(targets)))
        return F.mse_loss(outputs, targets)

    inputs = torch.arange(CPU_BATCH_SIZE + 1.0)[:, None]
    found = evaluate(_Scores(), [(inputs[:4], inputs[:4] + 1), (inputs[4:], inputs[4:] + 2)], loss)
    assert calls == [(CPU_BATCH_SIZE + 1, CPU_BATCH_SIZE + 1)]
    assert found is not None
    assert found.loss == pytest.approx((4 * 1 + (CPU_BATCH_SIZE - 3) * 4) / (CPU_BATCH_SIZE + 1))
    assert found.accuracy == 0.0  # there is no class to be right about


def test_it_is_given_up_when_asked() -> None:
    """A stop that is asked for ends the evaluation after the batch at hand, with None and the modes restored."""
    model, seen = _Scores().train(), []

    def batches() -> object:
        for number in range(5):
            seen.append(number)
            yield torch.rand(2, 3), torch.zeros(2, dtype=torch.int64)

    assert evaluate(model, batches(), should_stop=lambda: len(seen) == 2) is None
    assert seen == [0, 1]
    assert model.training
