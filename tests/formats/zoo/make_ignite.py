"""What ignite's Checkpoint handler writes, alone, with an averaged model, and with its score in the name."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler, ModelCheckpoint

from zoo.nets import small_net
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("pytorch-ignite")
add = COLLECTION.add


def _engine(net: Any, optimizer: Any) -> Engine:
    def step(engine: Engine, batch: Any) -> None:
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()

    return Engine(step)


def _run(folder: Path, *, average: bool = False) -> Made:
    net = small_net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    engine = _engine(net, optimizer)
    objects: dict[str, Any] = {"trainer": engine, "model": net, "optimizer": optimizer, "lr_scheduler": schedule}
    roles: dict[str, Any] = {}
    if average:
        handler = EMAHandler(net, momentum=0.5)
        handler.attach(engine, name="ema_momentum", event=Events.ITERATION_COMPLETED)
        objects["ema_model"] = handler.ema_model
        roles["ema"] = handler.ema_model
    saver = DiskSaver(str(folder), create_dir=True, require_empty=False)
    engine.add_event_handler(Events.COMPLETED, Checkpoint(objects, saver, filename_prefix="x"))
    torch.manual_seed(0)
    engine.run([torch.randn(2, 3, 8, 8) for _ in range(3)], max_epochs=2)
    roles = {"model": net.state_dict()} | {name: model.state_dict() for name, model in roles.items()}
    return Truth(
        next(folder.glob("x_*.pt")),
        "torch zip",
        "Ignite",
        roles=roles,
        plain=roles,
        optimizers={"optimizer": optimizer.state_dict()},
        schedules=("lr_scheduler",),
        facts={"trainer.iteration": 6, "trainer.epoch_length": 3, "trainer.max_epochs": 2},
    )


@add("Checkpoint to a DiskSaver")
def checkpoint(folder: Path) -> Made:
    return _run(folder)


@add("Checkpoint with EMAHandler's model")
def averaged(folder: Path) -> Made:
    return _run(folder, average=True)


@add("ModelCheckpoint of the model alone")
def model_alone(folder: Path) -> Made:
    net = small_net()
    engine = _engine(net, torch.optim.SGD(net.parameters(), lr=0.1))
    engine.add_event_handler(Events.COMPLETED, ModelCheckpoint(str(folder), "best"), {"net": net})
    engine.run([torch.randn(2, 3, 8, 8)], max_epochs=1)
    roles = {"model": net.state_dict()}
    return Truth(next(folder.glob("best_*.pt")), "torch zip", roles=roles, plain=roles)
