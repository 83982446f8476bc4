"""A real training run with about 100 MB of state that saves every few steps, to be killed again and again.

Digits, a wide perceptron with batch norm and dropout, AdamW. It imports no more than it needs: most of a start is that.
Each start says where it goes on, and every step made is written to `steps.txt` unbuffered, so that a kill
loses none of it.

Run: python large_run.py FOLDER STEPS SAVE_EVERY WIDTH BACKGROUND (1 or 0)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from holdfast.checkpoints import CheckpointStore, Last
from holdfast.randomness import derive_seed, seed_generators

BATCH_SIZE = 8


def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches from `step` on; the order of an epoch is a function of its number."""
    table = load_digits()
    pictures, labels = torch.from_numpy(table.data).float() / 16, torch.from_numpy(table.target)
    steps_per_epoch = len(labels) // BATCH_SIZE
    while True:
        epoch, batch = divmod(step, steps_per_epoch)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        indices = order[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
        yield pictures[indices], labels[indices]
        step += 1


def main(folder: Path, steps: int, save_every: int, width: int, background: int) -> None:
    """Trains to `steps`, from wherever the newest checkpoint stands."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)),
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    parts = {"model": model, "optimizer": optimizer}
    log = os.open(folder / "steps.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with CheckpointStore(folder / "checkpoints", Last(2), background=bool(background)) as store:
        step = store.restore_latest(parts)
        os.write(log, b"start %d\n" % step)
        for inputs, targets in batches(step):
            if step == steps:
                break
            seed_generators(derive_seed("step", 0, step))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            step += 1
            os.write(log, b"%d\n" % step)
            if step % save_every == 0 or step == steps:
                store.save(step, parts)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
