"""What torchvision's models and the training scripts beside them save, with the same keys."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import torchvision

from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("torchvision", "torch")
add = COLLECTION.add


def _model(name: str = "shufflenet_v2_x0_5") -> Any:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None, num_classes=3)


def _step(model: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()


@add("the classification reference's checkpoint (args, scaler, model_ema)")
def reference(folder: Path) -> Made:
    """`model_ema` is the state dict of an AveragedModel, `args` an argparse.Namespace."""
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8),
        ],
        milestones=[2],
    )
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    for _ in range(2):
        _step(model, optimizer)
        average.update_parameters(model)
    tree = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(),
        "epoch": 1, "args": Namespace(model="shufflenet_v2_x0_5", lr=0.1, device="cuda", output_dir="."),
        "model_ema": average.state_dict(), "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }  # fmt: skip
    torch.save(tree, folder / "model_1.pth")
    return Truth(
        folder / "model_1.pth",
        "torch zip",
        "torchvision references",
        roles={"model": model.state_dict(), "ema": average.state_dict()},
        plain={"model": model.state_dict(), "ema": average.module.state_dict()},
        optimizers={"optimizer": optimizer.state_dict()},
        schedules=("lr_scheduler",),
        facts={"epoch": 1, "args.lr": 0.1, "args.device": "cuda"},
    )


@add("the detection reference's checkpoint")
def detection(folder: Path) -> Made:
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 22])
    tree = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(),
        "args": Namespace(model="ssdlite"), "epoch": 0,
    }  # fmt: skip
    torch.save(tree, folder / "model_0.pth")
    roles = {"model": model.state_dict()}
    optimizers = {"optimizer": optimizer.state_dict()}
    return Truth(
        folder / "model_0.pth", "torch zip", "torchvision references", roles, roles, optimizers, {"epoch": 0},
        ("lr_scheduler",),
    )  # fmt: skip


@add("a model's weights, layout of before 1.6")
def weights(folder: Path) -> Made:
    model = _model("squeezenet1_1")
    torch.save(model.state_dict(), folder / "squeezenet.pth", _use_new_zipfile_serialization=False)
    roles = {"model": model.state_dict()}
    return Truth(folder / "squeezenet.pth", "torch legacy", roles=roles, plain=roles)


@add("a whole model")
def whole(folder: Path) -> Made:
    model = _model("mnasnet0_5")
    torch.save(model, folder / "model.pth")
    roles = {"model": model.state_dict()}
    return Truth(folder / "model.pth", "torch zip", "torchvision", roles=roles, plain=roles)
