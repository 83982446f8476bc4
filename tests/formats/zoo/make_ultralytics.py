"""What Ultralytics' trainer writes: the average as a half-precision module pickled whole, the optimizer beside it."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import ModelEMA

from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("ultralytics")
add = COLLECTION.add


def _model() -> Any:
    torch.manual_seed(0)
    model = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
    model.args = get_cfg()
    return model


def _tree(model: Any, ema: Any, **more: Any) -> dict[str, Any]:
    import ultralytics

    return {
        "epoch": 4, "best_fitness": 0.25, "model": model, "ema": ema, "updates": 12, "optimizer": None,
        "train_args": {"imgsz": 64, "lr0": 0.01}, "date": "2026-01-02T03:04:05", "version": ultralytics.__version__,
        **more,
    }  # fmt: skip


@add("last.pt: an average in half precision, no model beside it, the optimizer in half precision")
def last(folder: Path) -> Made:
    import ultralytics

    model = _model()
    ema = ModelEMA(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    half = copy.deepcopy(ema.ema).half()
    torch.save(_tree(None, half, optimizer=optimizer.state_dict()), folder / "last.pt")
    return Truth(
        folder / "last.pt",
        "torch zip",
        f"Ultralytics {ultralytics.__version__}",
        roles={"ema": half.state_dict()},
        plain={"ema": half.state_dict()},
        optimizers={"optimizer": optimizer.state_dict()},
        facts={"epoch": 4, "best_fitness": 0.25, "updates": 12, "train_args.imgsz": 64},
    )


@add("best.pt after strip_optimizer")
def stripped(folder: Path) -> Made:
    import ultralytics
    from ultralytics.utils.torch_utils import strip_optimizer

    model = _model()
    half = copy.deepcopy(model).half()
    torch.save(_tree(copy.deepcopy(model), half), folder / "best.pt")
    strip_optimizer(str(folder / "best.pt"))
    truth = f"Ultralytics {ultralytics.__version__}"
    roles = {"model": half.state_dict()}
    return Truth(folder / "best.pt", "torch zip", truth, roles=roles, plain=roles, facts={"epoch": -1})


@add("YOLO.save")
def save(folder: Path) -> Made:
    import ultralytics

    torch.manual_seed(0)
    net = YOLO("yolo11n.yaml", verbose=False)
    net.save(folder / "yolo.pt")
    half = copy.deepcopy(net.model).half()
    truth = f"Ultralytics {ultralytics.__version__}"
    return Truth(folder / "yolo.pt", "torch zip", truth, roles={"model": half.state_dict()})


@add("a checkpoint with model and average")
def both(folder: Path) -> Made:
    import ultralytics

    model, ema = _model(), _model()
    with torch.no_grad():
        next(ema.parameters()).add_(1)
    torch.save(_tree(model, ema.half()), folder / "both.pt")
    truth = f"Ultralytics {ultralytics.__version__}"
    roles = {"model": model.state_dict(), "ema": ema.state_dict()}
    return Truth(folder / "both.pt", "torch zip", truth, roles=roles, plain=roles)
