"""What timm writes: the files of its CheckpointSaver, with and without an average, and its folders for the hub."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import CheckpointSaver, ModelEmaV2, ModelEmaV3

from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("timm", "torch")
add = COLLECTION.add


def _model(name: str = "test_resnet") -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=3)


def _steps(model: Any, optimizer: Any) -> None:
    torch.manual_seed(1)
    size = model.default_cfg["input_size"][-1]
    optimizer.zero_grad()
    model(torch.randn(2, 3, size, size)).square().mean().backward()
    optimizer.step()


def _saver(folder: Path, ema: type | None, *, recovery: bool = False) -> Made:
    model = _model()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01, weight_decay=0.05)
    average = ema(model, decay=0.5) if ema else None
    for _ in range(2):
        _steps(model, optimizer)
        if average is not None:
            average.update(model)
    arguments = Namespace(model="test_resnet", lr=0.01, data_dir="pictures", amp=False)
    saver = CheckpointSaver(
        model, optimizer, arguments, average, checkpoint_dir=str(folder), recovery_dir=str(folder), max_history=2
    )
    if recovery:
        saver.save_recovery(4, 100)
        path = next(folder.glob("recovery*"))
    else:
        saver.save_checkpoint(4, metric=61.5)
        path = folder / "last.pth.tar"
    roles = {"model": model.state_dict()} | ({"ema": average.module.state_dict()} if average is not None else {})
    return Truth(
        path,
        "torch zip",
        "timm",
        roles=roles,
        plain=roles,
        optimizers={"optimizer": optimizer.state_dict()},
        facts={"epoch": 4, "arch": "test_resnet", "args.lr": 0.01, "args.data_dir": "pictures"},
    )


@add("CheckpointSaver")
def saver(folder: Path) -> Made:
    return _saver(folder, None)


@add("CheckpointSaver with ModelEmaV2")
def saver_with_average(folder: Path) -> Made:
    return _saver(folder, ModelEmaV2)


@add("CheckpointSaver with ModelEmaV3")
def saver_with_average_3(folder: Path) -> Made:
    return _saver(folder, ModelEmaV3)


@add("CheckpointSaver, its recovery file")
def recovery(folder: Path) -> Made:
    return _saver(folder, ModelEmaV2, recovery=True)


@add("save_for_hf, the folder")
def for_the_hub(folder: Path) -> Made:
    model = _model("test_vit")
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    roles = {"model": model.state_dict()}
    return Truth(folder, "safetensors", roles=roles, plain=roles, ties=False)


@add("save_for_hf, pytorch_model.bin")
def for_the_hub_bin(folder: Path) -> Made:
    model = _model("test_vit")
    timm.models.save_for_hf(model, folder, safe_serialization=False)
    roles = {"model": model.state_dict()}
    return Truth(folder, "torch zip", roles=roles, plain=roles)


@add("a whole model")
def whole(folder: Path) -> Made:
    model = _model("test_convnext")
    torch.save(model, folder / "model.pth")
    roles = {"model": model.state_dict()}
    return Truth(folder / "model.pth", "torch zip", "timm", roles=roles, plain=roles)
