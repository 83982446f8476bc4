"""A loop that knows nothing of Holdfast, made exact: plain DataLoader, loss scaler, schedule, dropout, augmentation.

Kill it whenever you like and start it again: it goes on at the last epoch saved, and ends on the same bits.

python examples/any_loop.py [FOLDER]
"""

import hashlib
import random
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from holdfast import RandomState
from holdfast.checkpoints import CheckpointStore

EPOCHS = 6


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    shift = random.randint(-1, 1)  # Python's generator, NumPy's and torch's: whatever a loop has grown to use
    contrast = torch.from_numpy(rng.uniform(0.8, 1.2, (len(images), 1, 1, 1)).astype(np.float32))
    return images.roll(shift, dims=-1) * contrast + torch.randn_like(images) * 0.02


def digest(model: nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()[:16]


def main(folder: str = "runs/any_loop") -> None:
    torch.manual_seed(0)
    random.seed(0)
    rng, order = np.random.default_rng(0), torch.Generator().manual_seed(0)

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(digits.target)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=64, shuffle=True, generator=order)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(576, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    scaler = torch.amp.GradScaler("cpu", growth_interval=40)

    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    parts["random"] = RandomState(rng=rng, order=order)
    store = CheckpointStore(folder)
    start = store.restore_latest(parts)  # 0 when there is no checkpoint yet
    print(f"starting at epoch {start}", flush=True)

    for epoch in range(start, EPOCHS):
        model.train()
        for inputs, targets in train:
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(augment(inputs, rng)), targets)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        model.eval()
        with torch.inference_mode():
            val_loss = nn.functional.cross_entropy(model(images[1500:]), labels[1500:]).item()
        scheduler.step(val_loss)
        store.save(epoch + 1, parts)
        print(f"epoch {epoch + 1}: loss {val_loss:.6f}, learning rate {scheduler.get_last_lr()[0]:g}", flush=True)
    print(f"weights {digest(model)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
