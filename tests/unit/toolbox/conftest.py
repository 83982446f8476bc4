"""Checkpoints of several kinds, small and real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a value with torch.save under a name, and returns the path."""

    def write(name: str, value: Any, **options: Any) -> Path:
        torch.save(value, tmp_path / name, **options)
        return tmp_path / name

    return write


class Tied(nn.Module):
    """A model of two linear layers that share their weight, with batch norm between."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One pass."""
        out: torch.Tensor = self.last(self.norm(self.first(x)))
        return out


@pytest.fixture
def tied() -> Tied:
    """A model with tied weights that has seen one batch."""
    model = Tied()
    model(torch.linspace(-1, 1, 12).reshape(3, 4))
    return model
