"""Points on pictures in a loop of your own: picture and `KeyPoints` together, a loss that passes over the missing.

    python examples/landmarks.py [FACES.csv]

With a CSV of points (such as the 68 points of faces) it learns these; without one it makes pictures of a cross with
three named points. `holdfast train FACES.csv` does the same with checkpoints, a validation set and a report.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import holdfast
from holdfast.data import joint_train_transform, read_landmarks
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.targets import targets_of
from holdfast.training import build_loss, build_optimizer


def make_crosses(folder: Path, num: int = 48) -> Path:
    """Draws pictures of a cross whose arms are named, one of them missing now and then; returns their CSV."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    rows = ["file,left_x,left_y,right_x,right_y,top_x,top_y"]
    for k in range(num):
        x, y, arm = (int(v) for v in draw.integers((20, 20, 8), (44, 44, 16)))
        picture = Image.new("RGB", (64, 64), (30, 30, 60))
        ImageDraw.Draw(picture).line([(x - arm, y), (x + arm, y)], fill=(240, 220, 60), width=3)
        ImageDraw.Draw(picture).line([(x, y - arm), (x, y)], fill=(240, 80, 60), width=3)
        picture.save(folder / f"{k}.png")
        top = f"{x},{y - arm}" if k % 7 else ","  # an empty cell is a missing point
        rows.append(f"{k}.png,{x - arm},{y},{x + arm},{y},{top}")
    table = folder / "points.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def main() -> None:
    """Learns the points and says how far off they are."""
    table = Path(sys.argv[1]) if len(sys.argv) > 1 else make_crosses(Path("runs/crosses"))
    collection = read_landmarks(table)
    names = targets_of(collection.pictures).names
    for notice in collection.notices:
        print("note:", notice)

    # Left and right change places when a picture is mirrored; other points keep their names.
    pairs = [(names.index("left"), names.index("right"))] if "left" in names else []
    preprocessing = Preprocessing(64, 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), exact=True)
    transform = joint_train_transform(preprocessing, "crop+affine+flip" if pairs else "crop+affine", pairs)
    loader = holdfast.Loader(collection.pictures, batch_size=16, transform=transform, shuffle=True)

    torch.manual_seed(0)
    model = holdfast.build_model("cifar-net", num_classes=2 * len(names), image_size=64)
    loss = build_loss("smooth-l1")  # outputs [B, 2P], targets [B, P, 2] in [-1, 1], NaN where a point is missing
    state = holdfast.TrainState(model, build_optimizer(model, "adamw", 2e-3), loss)
    for epoch in range(4):
        losses, known = [], 0
        for result in holdfast.train_steps(state, loader):
            losses.append(float(result.loss))
            known += int((~result.batch.targets.isnan()).all(-1).sum())
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}, learned from {known:,} points")


if __name__ == "__main__":
    main()
