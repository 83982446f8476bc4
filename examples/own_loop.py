"""The three-line checkpoint in a loop of your own: kill this script, start it again, and it goes on where it was.

python examples/own_loop.py [FOLDER]
"""

import sys

import torch
from torch import nn

from holdfast import CheckpointStore, build_model
from holdfast.data import Loader, open_data
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform

STEPS, SAVE_EVERY = 60, 20


def main(folder: str = "runs/own_loop") -> None:
    torch.manual_seed(0)
    pictures = open_data("digits").pictures
    transform = eval_transform(Preprocessing(img_size=16, resize=16, mean=(0.3,), std=(0.35,)))
    batches = Loader(pictures, batch_size=32, shuffle=True, transform=transform)
    model = build_model("lenet", num_classes=10, in_channels=1, image_size=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.5)
    log: dict[str, list[float]] = {"loss": []}  # plain values are saved like anything else

    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "batches": batches, "log": log}
    store = CheckpointStore(folder)
    step = store.restore_latest(parts)  # 0 when there is no checkpoint yet

    print(f"starting at step {step}" + (f": finished; delete {folder} to begin again" if step == STEPS else ""))
    while step < STEPS:
        for inputs, targets, _indices in batches:  # the rest of the epoch
            loss = nn.functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            step += 1
            log["loss"].append(loss.item())
            if step % SAVE_EVERY == 0:
                store.save(step, parts)
                print(f"step {step}: loss {loss.item():.3f}, saved")
            if step == STEPS:
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
