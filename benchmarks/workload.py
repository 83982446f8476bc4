"""A training loop with a state of a chosen size: a vision transformer behind a convolution with batch norm, AdamW.

Two thirds of the state are optimizer slots, as they are in real image training; the batch norm has buffers that change
in the forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 1000


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, max(1, width // 64), batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norm2(tokens))


class VisionModel(nn.Module):
    """Images [B, 3, S, S] to logits [B, 1000]."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 16, 16), nn.BatchNorm2d(width), nn.Flatten(2))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits."""
        return self.head(self.blocks(self.stem(images).transpose(1, 2)).mean(1))


class Workload:
    """A model in training.

    Args:
        megabytes: about how large the state is to be (10^6 bytes); from 1 to a few thousand.
        batch: pictures in a batch.
        side: pixels of a picture's side.
    """

    def __init__(self, megabytes: int, batch: int = 4, side: int = 224) -> None:
        torch.manual_seed(0)
        width = 768 if megabytes >= 100 else 192 if megabytes >= 10 else 32
        block = 12 * (12 * width**2)  # bytes of one block: weights and two slots each, 4 bytes a number
        self.model = VisionModel(width, max(1, round(megabytes * 1e6 / block)))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self._images = torch.randn(batch, 3, side, side)
        self._targets = torch.randint(CLASSES, (batch,))
        self.forward_and_backward()
        self.step()

    def forward_and_backward(self) -> None:
        """Computes gradients."""
        nn.functional.cross_entropy(self.model(self._images), self._targets).backward()

    def step(self) -> None:
        """Updates the weights and clears the gradients."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    @property
    def parts(self) -> dict[str, object]:
        """What is saved: live objects."""
        return {"model": self.model, "optimizer": self.optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors of the state by name."""
        flat = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            flat |= {f"optimizer.{number}.{name}": tensor for name, tensor in slots.items()}
        return flat

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors of the state."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())


class Numbers(nn.Module):
    """A model that is nothing but its weights, and its AdamW: state of any size without computing anything.

    Args:
        megabytes: size of the state with both slots of every weight (10^6 bytes).
    """

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        count = max(1, min(64, megabytes // 8))
        each = int(megabytes * 1e6 / 12 / count)
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(each)) for _ in range(count))
        self.optimizer = torch.optim.AdamW(self.parameters(), foreach=False)
        for weight in self.weights:
            weight.grad = torch.zeros_like(weight)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @property
    def parts(self) -> dict[str, object]:
        """What is saved: live objects."""
        return {"model": self, "optimizer": self.optimizer}

    @property
    def num_bytes(self) -> int:
        """Bytes of weights and slots (the step counters' few bytes left out)."""
        return 3 * sum(weight.numel() * weight.element_size() for weight in self.weights)
