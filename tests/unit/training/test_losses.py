from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from holdfast.errors import ConfigError
from holdfast.training import build_loss, standardised


@pytest.mark.row("T3")
def test_cross_entropy_by_hand() -> None:
    """For logits 0 and ln 3, the loss of the second class is ln 4/3."""
    loss = build_loss("cross-entropy")(torch.tensor([[0.0, math.log(3)]]), torch.tensor([1]))
    assert float(loss) == pytest.approx(math.log(4 / 3), abs=1e-6)


@pytest.mark.row("T3")
def test_label_smoothing_mixes_in_the_uniform_distribution() -> None:
    """With smoothing s the loss is (1 - s) times the true class's plus s times the mean over classes."""
    logits, target = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([0])
    costs = -F.log_softmax(logits, 1)[0]
    expected = 0.8 * float(costs[0]) + 0.2 * float(costs.mean())
    assert float(build_loss("cross-entropy", 0.2)(logits, target)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.row("T3")
def test_nll_takes_log_probabilities() -> None:
    """The negative log-likelihood is minus the log-probability of the true class."""
    scores = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert float(build_loss("nll")(scores, torch.tensor([1, 0]))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.row("T3")
def test_mse_by_hand_on_numbers_and_on_class_indices() -> None:
    """Numbers are compared as they are; class indices as one-hot rows."""
    loss = build_loss("mse")
    assert float(loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))) == 2.5
    assert float(loss(torch.tensor([[0.5, 0.0, 1.0]]), torch.tensor([2]))) == pytest.approx(0.25 / 3)


@pytest.mark.row("T3")
def test_your_own_loss_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function is taken as it is; a class, a module or not, is made without arguments."""
    (tmp_path / "losses_of_a_user.py").write_text(
        "def absolute(outputs, targets):\n"
        "    return (outputs - targets).abs().mean()\n"
        "class Plain:\n"
        "    def __call__(self, outputs, targets):\n"
        "        return (outputs - targets).sum()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0])
    assert float(build_loss("losses_of_a_user:absolute")(one, two)) == 1.5
    assert float(build_loss("losses_of_a_user:Plain")(one, two)) == 1.0
    made = build_loss("torch.nn:SmoothL1Loss")
    assert isinstance(made, nn.SmoothL1Loss)


def test_fails_on_an_unknown_name() -> None:
    """The refusal lists the losses there are."""
    with pytest.raises(
        ConfigError, match=r"no loss 'hinge'\. Choose one of: cross-entropy, nll, bce, mse, .*wing, or package"
    ):
        build_loss("hinge")


@pytest.mark.parametrize("path", ["no_such_package:loss", "torch.nn:NoSuchLoss", ":loss", "torch:"])
def test_fails_when_your_own_cannot_be_imported(path: str) -> None:
    """The refusal repeats the path."""
    with pytest.raises(ConfigError, match=f"Importing the loss '{path}'"):
        build_loss(path)


@pytest.mark.row("D3", "T3")
@pytest.mark.parametrize("name", ["mse", "l1", "smooth-l1", "wing"])
def test_what_is_missing_counts_for_nothing(name: str) -> None:
    """A target of NaN changes neither the loss nor a gradient: they are those of the known alone."""
    loss = build_loss(name)
    outputs = torch.tensor([[0.5, 2.0, -0.25, 9.0]], requires_grad=True)
    value = loss(outputs, torch.tensor([[[0.0, 1.0], [0.5, math.nan]]]))
    value.backward()
    alone = torch.tensor([[0.5, 2.0, -0.25]], requires_grad=True)
    expected = loss(alone, torch.tensor([[0.0, 1.0, 0.5]]))
    expected.backward()
    assert value.item() == expected.item()
    assert outputs.grad is not None and alone.grad is not None
    assert outputs.grad[0, :3].tolist() == alone.grad[0].tolist() and outputs.grad[0, 3] == 0


@pytest.mark.row("T3")
@pytest.mark.parametrize("name", ["mse", "l1", "smooth-l1", "wing"])
def test_with_nothing_known_the_loss_is_nought(name: str) -> None:
    """A batch without one known point moves nothing, and is no NaN; an output that is one, stays one."""
    outputs = torch.ones(2, 2, requires_grad=True)
    value = build_loss(name)(outputs, torch.full((2, 2), math.nan))
    value.backward()
    assert value.item() == 0 and outputs.grad is not None and outputs.grad.tolist() == [[0, 0], [0, 0]]
    assert math.isnan(float(build_loss(name)(torch.full((1, 2), math.nan), torch.zeros(1, 2))))


@pytest.mark.row("D3", "T3")
def test_wing_is_logarithmic_near_and_linear_far_and_whole_between() -> None:
    """As in the paper, with w = 10 and epsilon = 2 pixels of 64: w ln(1 + e/epsilon), then e - C, without a jump."""
    wing = build_loss("wing")

    def of(error: float) -> float:
        return float(wing(torch.tensor([[error]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)))

    width, curvature = 10 / 32, 2 / 32
    assert of(0.1) == pytest.approx(width * math.log(1 + 0.1 / curvature))
    assert of(-1.0) == pytest.approx(1.0 - width + width * math.log(1 + width / curvature))
    assert of(width - 1e-9) == pytest.approx(of(width + 1e-9), abs=1e-7)


@pytest.mark.row("T3")
def test_bce_judges_every_label_by_itself() -> None:
    """The mean over labels of minus the log-probability of what is true."""
    value = build_loss("bce")(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]]))
    assert float(value) == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-6)


@pytest.mark.row("T3")
def test_a_standardised_loss_compares_in_units_of_the_spread() -> None:
    """Outputs are standard deviations from the mean; targets are as they are in the table."""
    loss = standardised(build_loss("mse"), [1990.0], [4.0])
    assert float(loss(torch.tensor([[0.5], [0.0]]), torch.tensor([[1994.0], [1990.0]]))) == pytest.approx(0.125)
