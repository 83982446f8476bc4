"""Start from a model for other classes, keep what fits, know what did not: python examples/warm_start.py

Its two files go to runs/warm_start.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DataParallel

import holdfast
from holdfast.models import build_model

if __name__ == "__main__":
    folder = Path("runs/warm_start")
    folder.mkdir(parents=True, exist_ok=True)

    # Somebody's training on several GPUs, compiled, of ten classes, with its optimizer.
    theirs = build_model("lenet", 10, in_channels=1, image_size=28)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    theirs(torch.rand(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    wrapped = DataParallel(theirs)
    names = [str(digit) for digit in range(10)]
    torch.save(
        {"model": wrapped.state_dict(), "optimizer": optimizer.state_dict(), "classes": names}, folder / "theirs.pt"
    )

    # Ours, of three of these classes and one new one: rows of the head go by name, moments by parameter.
    ours = build_model("lenet", 4, in_channels=1, image_size=28)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=5e-4)
    report = holdfast.load_into(ours, folder / "theirs.pt", optimizer=optimizer, classes=["3", "7", "9", "none"])
    print(report)

    # And back: a wrapped model takes a plain one's file as well.
    torch.save(ours.state_dict(), folder / "plain.pt")
    again: nn.Module = DataParallel(build_model("lenet", 4, in_channels=1, image_size=28))
    assert holdfast.load_into(again, folder / "plain.pt").is_exact
