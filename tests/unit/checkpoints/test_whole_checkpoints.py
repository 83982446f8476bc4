from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.checkpoints import CheckpointStore, Last


class _Net(nn.Module):
    """A small net for 28 x 28 grey pictures, with batch statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 5, stride=3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(F.relu(self.norm(self.convolution(x))).flatten(1)))


def _digits(real_data: Path, number: int = 160) -> tuple[Tensor, Tensor]:
    """Returns the first real MNIST digits: [N, 1, 28, 28] float32 in [0, 1], and their labels."""
    with gzip.open(real_data / "mnist" / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + number * 784)[16:], np.uint8).reshape(number, 1, 28, 28)
    with gzip.open(real_data / "mnist" / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + number)[8:], np.uint8)
    return torch.from_numpy(pixels.copy()).float() / 255, torch.from_numpy(labels.copy()).long()


class _Training:
    """A person's own loop: a net, an optimizer with two groups, a scheduler, counters."""

    def __init__(self) -> None:
        self.model = _Net()
        groups = [{"params": self.model.convolution.parameters(), "lr": 1e-3}, {"params": self.model.head.parameters()}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.counters: dict[str, Any] = {"epoch": 0, "losses": [], "note": "α", "seen": {1, 2}}

    def parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "counters": self.counters,
        }

    def run(self, images: Tensor, labels: Tensor, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            chosen = torch.randperm(len(images))[:16]
            loss = F.cross_entropy(self.model(images[chosen]), labels[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.counters["losses"].append(loss.item())
            self.counters["epoch"] = step // 5


@pytest.mark.row("S3", "S10")
@pytest.mark.parametrize("background", [True, False])
def test_training_on_real_digits_resumes_bit_for_bit_from_every_checkpoint(
    tmp_path: Path, real_data: Path, background: bool
) -> None:
    """Epoch, weights, optimizer, scheduler, losses and extra state come back, and the end is the same."""
    images, labels = _digits(real_data)
    said: list[str] = []
    store = CheckpointStore(tmp_path, Last(None), background=background, say=said.append)
    torch.manual_seed(0)
    whole = _Training()
    for step in range(0, 10, 2):
        whole.run(images, labels, step, step + 2)
        store.save(step + 2, whole.parts())
    for stop in (2, 4, 6, 8):
        torch.manual_seed(99)
        resumed = _Training()
        store.open(stop).restore(resumed.parts())
        assert len(resumed.counters["losses"]) == stop
        assert resumed.scheduler.last_epoch == stop
        resumed.run(images, labels, stop, 10)
        assert resumed.counters == whole.counters
        assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()
        ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), stop
    assert said == []


@pytest.mark.row("S10")
def test_the_same_three_lines_again_go_on_where_they_stopped(tmp_path: Path) -> None:
    """A loop that restores, trains and saves ends on the same weights however often it is interrupted."""

    def loop(root: Path, stop_after: int | None) -> tuple[int, Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        parts = {"model": model, "optimizer": optimizer}
        store = CheckpointStore(root)
        start = store.restore_latest(parts)
        for step in range(start + 1, 11):
            optimizer.zero_grad()
            (model(torch.full((1, 3), step / 10)) - 1).pow(2).sum().backward()
            optimizer.step()
            store.save(step, parts)
            if stop_after is not None and step - start == stop_after:
                break
        return start, model.weight.detach().clone()

    _, expected = loop(tmp_path / "whole", None)
    starts = [loop(tmp_path / "parts", 3)[0] for _ in range(3)]
    start, found = loop(tmp_path / "parts", None)
    assert (*starts, start) == (0, 3, 6, 9)
    assert torch.equal(found, expected)


@pytest.mark.row("S4")
def test_two_models_with_their_optimizers_are_one_checkpoint(tmp_path: Path) -> None:
    """A generator and a discriminator, trained in turns, go on from one checkpoint exactly as they would have."""

    class Gan:
        def __init__(self, seed: int) -> None:
            torch.manual_seed(seed)
            self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))
            self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
            self.parts = {
                "generator": self.generator,
                "discriminator": self.discriminator,
                "generator_optimizer": torch.optim.Adam(self.generator.parameters(), 1e-2, betas=(0.5, 0.9)),
                "discriminator_optimizer": torch.optim.SGD(self.discriminator.parameters(), 1e-2, momentum=0.9),
            }

        def run(self, first: int, last: int) -> None:
            for step in range(first, last):
                torch.manual_seed(step)
                real, fake = torch.randn(6, 4) + 2, self.generator(torch.randn(6, 2))
                judged = F.softplus(-self.discriminator(real)) + F.softplus(self.discriminator(fake.detach()))
                self._step("discriminator_optimizer", judged.mean())
                self._step("generator_optimizer", F.softplus(-self.discriminator(fake)).mean())

        def _step(self, part: str, loss: Tensor) -> None:
            self.parts[part].zero_grad()
            loss.backward()
            self.parts[part].step()

    whole, resumed = Gan(0), Gan(1)
    whole.run(0, 4)
    store = CheckpointStore(tmp_path)
    path = Path(store.save(4, whole.parts))
    store.wait()
    assert {entry.stem for entry in path.glob("*.safetensors")} == set(whole.parts)
    saved = store.open(4).read("generator_optimizer")
    assert all(name.startswith("generator.") for name in saved["state"])
    whole.run(4, 8)
    assert store.restore_latest(resumed.parts) == 4
    resumed.run(4, 8)
    for part in ("generator", "discriminator"):
        ours, theirs = resumed.parts[part].state_dict(), whole.parts[part].state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()), part


@pytest.mark.row("S4")
def test_one_model_of_several_can_be_taken_alone(tmp_path: Path) -> None:
    """For inference the generator is restored without the rest."""
    generator, other = nn.Linear(2, 2), nn.Linear(2, 2)
    store = CheckpointStore(tmp_path)
    store.save(1, {"generator": generator, "discriminator": nn.Linear(2, 1)})
    store.restore_latest({"generator": other})
    assert torch.equal(other.weight, generator.weight)


@pytest.mark.row("S3")
def test_anything_with_state_dict_can_be_a_part(tmp_path: Path) -> None:
    """An object of the user's own is saved and restored by its two methods."""

    class Counter:
        def __init__(self, count: int) -> None:
            self.count = count

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.count = state["count"]

    store = CheckpointStore(tmp_path)
    store.save(1, {"counter": Counter(41)})
    counter = Counter(0)
    assert store.restore_latest({"counter": counter}) == 1
    assert counter.count == 41
