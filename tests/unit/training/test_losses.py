from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from holdfast.errors import ConfigError
from holdfast.training import build_loss


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
