"""Programs with their weights (TorchScript, torch.export) and checkpoints of torch.distributed."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from zoo.make_torch_modules import process_group
from zoo.nets import small_net, trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("torch")
add = COLLECTION.add
DCP = "torch.distributed.checkpoint"


def _script(folder: Path, net: Any, plain: nn.Module) -> Made:
    torch.jit.save(net, folder / "c.pt")
    roles = {"model": plain.state_dict()}
    return Truth(folder / "c.pt", "TorchScript", "torch.jit", roles=roles, plain=roles)


@add("torch.jit.script")
def scripted(folder: Path) -> Made:
    net, _ = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _script(folder, torch.jit.script(net.eval()), net)


@add("torch.jit.trace")
def traced(folder: Path) -> Made:
    net, _ = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _script(folder, torch.jit.trace(net.eval(), torch.ones(1, 3, 8, 8)), net)


@add("torch.export.save")
def exported(folder: Path) -> Made:
    net, _ = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(net.eval(), (torch.ones(1, 3, 8, 8),)), folder / "c.pt2")
    roles = {"model": net.state_dict()}
    return Truth(folder / "c.pt2", "torch.export program", "torch.export", roles=roles, plain=roles)


def _distributed(folder: Path, *, later: bool) -> Made:
    net, optimizer = trained()
    tree = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    with warnings.catch_warnings(), process_group():
        warnings.simplefilter("ignore")
        if later:
            dcp.async_save(tree, checkpoint_id=folder / "c").result()
        else:
            dcp.save(tree, checkpoint_id=folder / "c")
    return Truth(
        folder / "c",
        "DCP directory",
        DCP,
        roles={"model": net.state_dict()},
        plain={"model": net.state_dict()},
        optimizers={"optimizer": optimizer.state_dict()},
        facts={"epoch": 3},
    )


@add("torch.distributed.checkpoint.save")
def distributed_checkpoint(folder: Path) -> Made:
    return _distributed(folder, later=False)


@add("torch.distributed.checkpoint.async_save")
def distributed_checkpoint_async(folder: Path) -> Made:
    return _distributed(folder, later=True)


@add("torch.distributed.checkpoint of a model and an optimizer by name (get_state_dict)")
def distributed_checkpoint_by_name(folder: Path) -> Made:
    from torch.distributed.checkpoint.state_dict import get_state_dict

    net, optimizer = trained()
    with warnings.catch_warnings(), process_group():
        warnings.simplefilter("ignore")
        weights, state = get_state_dict(net, optimizer)
        dcp.save({"app": {"model": weights, "optim": state}}, checkpoint_id=folder / "c")
    roles = {"model": dict(weights)}
    return Truth(folder / "c", "DCP directory", DCP, roles=roles, plain=roles, optimizers={"optim": state})


@add("torch.distributed.checkpoint of FSDP2 over two processes")
def distributed_checkpoint_of_two(folder: Path) -> Made:
    context = torch.multiprocessing.get_context("fork")
    workers = [context.Process(target=_one_of_two, args=(rank, str(folder))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    net = small_net()
    roles = {"model": net.state_dict()}
    return Truth(folder / "c", "DCP directory", DCP, roles=roles, plain=roles, facts={"step": 5})


def _one_of_two(rank: int, folder: str) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    net = fully_shard(small_net(), mesh=init_device_mesh("cpu", (2,)))
    dcp.save({"model": net.state_dict(), "step": 5}, checkpoint_id=f"{folder}/c")
    dist.destroy_process_group()
