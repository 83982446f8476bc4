"""What the kill campaigns share: a model and transform with every kind of randomness, and a way to die at random."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2


class NetWithEverything(nn.Module):
    """Convolutions with batch norm and dropout: running statistics and random numbers in every step."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.2),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `[B, C, 48, 48]` to logits `[B, K]`."""
        logits: Tensor = self.head(self.body(images))
        return logits


_torch_part = v2.Compose(
    [v2.RandomResizedCrop(48, antialias=True), v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)]
)


def augment(image: Tensor) -> Tensor:
    """Crop, flip and colour by torch; brightness by Python's random; noise by NumPy."""
    picture: Tensor = _torch_part(image)
    picture = picture.float() / 255 * random.uniform(0.8, 1.2)
    noise = np.random.normal(0, 0.02, tuple(picture.shape)).astype(np.float32)
    return picture + torch.from_numpy(noise)


def environment() -> dict[str, str]:
    """The environment in which `campaign:NetWithEverything` can be imported, and what else could be before."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def command(*arguments: str | Path) -> list[str]:
    """The real command line."""
    return [sys.executable, "-m", "holdfast", "train", *map(str, arguments)]


def run_to_end(arguments: list[str | Path], cwd: Path) -> str:
    """Runs a command that must succeed; returns what it printed."""
    done = subprocess.run(command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_and_kill(arguments: list[str | Path], cwd: Path, chance: random.Random, most_steps: int) -> bool:
    """Starts a command with `--log-every 1` and kills it with SIGKILL within its next `most_steps` steps.

    Returns:
        Whether it was killed; False when it had reached its end before.
    """
    steps_to_live = chance.randint(0, most_steps)
    with subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        if steps_to_live == 0:
            # Before the first step: while it starts, checks its pictures or restores.
            time.sleep(chance.uniform(0.05, 6))
        else:
            for line in process.stdout:
                said.append(line)
                steps_to_live -= line.startswith("step ")
                if steps_to_live == 0:
                    time.sleep(chance.uniform(0, 0.05))
                    break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        said.append(process.stdout.read())
    assert process.returncode in (0, -signal.SIGKILL), "".join(said)
    return process.returncode != 0


def last_weights(run: Path) -> bytes:
    """The bytes of model.safetensors in the newest checkpoint."""
    newest = max((run / "checkpoints").glob("step-*"))
    return (newest / "model.safetensors").read_bytes()
