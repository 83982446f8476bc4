"""A real training run with about 100 MB of state that saves every few steps, to be killed again and again.

Digits, a wide perceptron with batch norm and dropout, AdamW; order and random numbers as a run of ours has them. Each
start says where it goes on, and every step made is written to `steps.txt` unbuffered, so that a kill loses none of it.

Run: python large_run.py FOLDER STEPS SAVE_EVERY WIDTH
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore, Last
from holdfast.data import Loader, open_data
from holdfast.data.transforms import Preprocessing, eval_transform
from holdfast.training import TrainState, train_steps


def main(folder: Path, steps: int, save_every: int, width: int) -> None:
    """Trains to `steps`, from wherever the newest checkpoint stands."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transform = eval_transform(Preprocessing(img_size=16, resize=16, mean=(0.3,), std=(0.35,)))
    batches = Loader(open_data("digits").pictures, batch_size=8, shuffle=True, transform=transform, drop_last=True)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(256, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)),
    )
    state = TrainState(model, torch.optim.AdamW(model.parameters(), 1e-3), nn.CrossEntropyLoss())
    parts = {**state.parts(), "loader": batches}
    log = os.open(folder / "steps.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with CheckpointStore(folder / "checkpoints", Last(2)) as store:
        os.write(log, b"start %d\n" % store.restore_latest(parts))
        while state.step < steps:
            for result in train_steps(state, batches, until=steps):
                os.write(log, b"%d\n" % result.step)
                if result.step % save_every == 0 or result.step == steps:
                    store.save(result.step, parts)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
