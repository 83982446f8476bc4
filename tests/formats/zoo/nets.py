"""Small networks that the specimens hold, trained for a step or two so that every tensor has values of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def small_net(seed: int = 0) -> nn.Sequential:
    """Returns a convolution, a batch norm and a linear layer, for pictures `[B, 3, 8, 8]`."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


class Tied(nn.Module):
    """An embedding and a head that share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2, *, seed: int = 1) -> None:
    """Takes a few steps on random pictures `[2, 3, 8, 8]`."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(2, 3, 8, 8, generator=generator)).square().mean().backward()
        optimizer.step()


def trained(seed: int = 0, kind: Any = torch.optim.AdamW, **how: Any) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """Returns a net and its optimizer after two steps."""
    net = small_net(seed)
    optimizer = kind(net.parameters(), lr=0.01, **how)
    train(net, optimizer)
    return net, optimizer


def copied(state: Any) -> dict[str, Tensor]:
    """Returns a state dict's tensors as they are now, without what is none."""
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


LOST = '''
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.register_buffer("scale", torch.full((1,), 2.0))
        self.register_parameter("unused", None)

class Net(nn.Module):
    """Everything a module may hold, and things that only look like it."""
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.by_name = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Identity()})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3))])
        self.gains = nn.ParameterDict({"x": nn.Parameter(torch.full((2,), 3.0))})
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
        self.head = nn.Linear(4, 2)
        self.tied = nn.Linear(4, 2)
        self.tied.weight = self.head.weight
        self.settings = {"width": 4, "mean": torch.tensor([0.4, 0.5, 0.6])}
        self.criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
        self.attention = nn.MultiheadAttention(4, 2)
        self.memory = nn.LSTM(4, 3, bidirectional=True)
'''


@contextmanager
def lost_module(folder: Path, name: str = "lost_project", source: str = LOST) -> Iterator[Any]:
    """Gives a module whose source is deleted afterwards: what was pickled from it cannot be imported any more."""
    home = folder / "source"
    home.mkdir()
    (home / f"{name}.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(home))
        sys.modules.pop(name, None)
        (home / f"{name}.py").unlink()
