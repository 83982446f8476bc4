"""What accelerate writes: the folder of `save_state`, and `save_model` in one file and in several."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator

from zoo.nets import train, trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("accelerate")
add = COLLECTION.add


def _state(folder: Path, *, safe: bool) -> Made:
    runner = Accelerator(cpu=True)
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    net, optimizer, schedule = runner.prepare(net, optimizer, schedule)
    train(net, optimizer, 1)
    runner.save_state(str(folder / "state"), safe_serialization=safe)
    runner.free_memory()
    return Truth(
        folder / "state",
        "folder of weights",
        "accelerate",
        roles={"model": net.state_dict()},
        plain={"model": net.state_dict()},
        optimizers={"optimizer": optimizer.optimizer.state_dict()},
        schedules=("scheduler",),
        ties=False,
    )


@add("Accelerator.save_state")
def state(folder: Path) -> Made:
    return _state(folder, safe=True)


@add("Accelerator.save_state(safe_serialization=False)")
def state_bin(folder: Path) -> Made:
    return _state(folder, safe=False)


def _model(folder: Path, *, safe: bool, size: str = "10GB") -> dict[str, torch.Tensor]:
    net, _ = trained()
    Accelerator(cpu=True).save_model(net, str(folder / "model"), max_shard_size=size, safe_serialization=safe)
    return net.state_dict()


@add("Accelerator.save_model")
def model(folder: Path) -> Made:
    roles = {"model": _model(folder, safe=True)}
    return Truth(folder / "model", "safetensors", roles=roles, plain=roles, facts={"format": "pt"})


@add("Accelerator.save_model(max_shard_size=…)")
def model_sharded(folder: Path) -> Made:
    roles = {"model": _model(folder, safe=True, size="1KB")}
    return Truth(folder / "model", "safetensors index", roles=roles, plain=roles)


@add("Accelerator.save_model(safe_serialization=False)")
def model_bin(folder: Path) -> Made:
    roles = {"model": _model(folder, safe=False)}
    return Truth(folder / "model", "torch zip", roles=roles, plain=roles)
