"""Whole pickled modules, with and without the source of their classes, and every wrapper around them."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import copy
import functools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

from zoo.nets import copied, lost_module, small_net, train, trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("torch")
add = COLLECTION.add


@contextmanager
def process_group() -> Iterator[None]:
    """A group of this process alone, on the CPU."""
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def _whole(folder: Path, *, old: bool = False, protocol: int = 2, wrap: Callable[[Any], Any] = lambda net: net) -> Made:
    torch.manual_seed(0)
    with lost_module(folder) as project, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = project.Net()
        wrapped = wrap(net)
        torch.save(wrapped, folder / "c.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    kind = "torch legacy" if old else "torch zip"
    roles = {"model": copied(wrapped.state_dict())}
    return Truth(folder / "c.pt", kind, roles=roles, plain={"model": copied(net.state_dict())})


COLLECTION.put("module", "a whole module whose class is gone", _whole)
for number in (1, 4):
    put = functools.partial(_whole, protocol=number)
    COLLECTION.put(f"module-protocol-{number}", f"a whole module, pickle protocol {number}", put)
COLLECTION.put(
    "module-legacy", "a whole module, layout of before 1.6 (with its source)", functools.partial(_whole, old=True)
)
COLLECTION.put("module-data-parallel", "a whole DataParallel", functools.partial(_whole, wrap=nn.DataParallel))


@add("a whole module beside its optimizer, schedule and counters")
def module_and_optimizer(folder: Path) -> Made:
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    torch.save({"model": net, "optimizer": optimizer, "lr_scheduler": schedule, "epoch": 2}, folder / "c.pt")
    return Truth(
        folder / "c.pt",
        "torch zip",
        roles={"model": net.state_dict()},
        plain={"model": net.state_dict()},
        optimizers={"optimizer": None},
        schedules=("lr_scheduler",),
        facts={"epoch": 2},
    )


@add("several whole modules in one file")
def modules(folder: Path) -> Made:
    a, b = small_net(1), small_net(2)
    torch.save({"encoder": a, "decoder": b}, folder / "c.pt")
    roles = {"encoder": a.state_dict(), "decoder": b.state_dict()}
    return Truth(folder / "c.pt", "torch zip", roles=roles, plain=roles)


def _state(folder: Path, wrapped: Any, plain: Any, name: str = "state_dict") -> Truth:
    torch.save({name: wrapped.state_dict(), "epoch": 1}, folder / "c.pt")
    return Truth(
        folder / "c.pt",
        "torch zip",
        roles={"model": copied(wrapped.state_dict())},
        plain={"model": copied(plain.state_dict())},
        facts={"epoch": 1},
    )


class Sectioned(nn.Module):
    """A net whose features are a module of their own, to be wrapped alone."""

    def __init__(self, *, wrap: bool) -> None:
        super().__init__()
        net = small_net()
        self.features = nn.DataParallel(net[:3]) if wrap else net[:3]
        self.classifier = net[4]

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """`[B, 3, 8, 8]` → `[B, 2]`."""
        return self.classifier(self.features(pictures).flatten(1))


@add("state dict of DataParallel")
def data_parallel(folder: Path) -> Made:
    net = small_net()
    return _state(folder, nn.DataParallel(net), net)


@add("state dict of a model with DataParallel around `.features` alone")
def data_parallel_inside(folder: Path) -> Made:
    return _state(folder, Sectioned(wrap=True), Sectioned(wrap=False))


@add("state dict of DistributedDataParallel, and the module whole")
def distributed_data_parallel(folder: Path) -> Made:
    with process_group():
        net, optimizer = trained()
        wrapped = nn.parallel.DistributedDataParallel(net)
        train(wrapped, optimizer)
        return _state(folder, wrapped, net)


@add("a whole DistributedDataParallel")
def distributed_data_parallel_whole(folder: Path) -> Made:
    with process_group():
        net = small_net()
        wrapped = nn.parallel.DistributedDataParallel(net)
        torch.save(wrapped, folder / "c.pt")
        roles = {"model": wrapped.state_dict()}
        return Truth(folder / "c.pt", "torch zip", roles=roles, plain={"model": net.state_dict()})


@add("state dict of FSDP2 (DTensors over one process), with its optimizer")
def fsdp2(folder: Path) -> Made:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with process_group():
        plain = copy.deepcopy(small_net())
        net = small_net()
        mesh = init_device_mesh("cpu", (1,))
        fully_shard(net[0], mesh=mesh)
        fully_shard(net, mesh=mesh)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": 0}, folder / "c.pt")
        return Truth(
            folder / "c.pt",
            "torch zip",
            roles={"model": net.state_dict()},
            plain={"model": plain.state_dict()},
            optimizers={"optimizer": optimizer.state_dict()},
            facts={"step": 0},
        )


@add("state dict of FSDP2, one process's piece of two: it opens, and the pieces stay records")
def fsdp2_piece(folder: Path) -> Made:
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
        whole, piece = torch.arange(4.0), torch.arange(6.0).reshape(2, 3)
        state = {
            "fc.weight": DTensor.from_local(piece, mesh, [Shard(0)]),
            "fc.bias": DTensor.from_local(whole, mesh, [Replicate()]),
        }
        torch.save(state, folder / "c.pt")
    finally:
        dist.destroy_process_group()
    return Truth(folder / "c.pt", "torch zip", roles={"model": {"fc.bias": whole}}, records=("fc.weight",))


@add("state dict of torch.compile's module")
def compiled(folder: Path) -> Made:
    net = small_net()
    return _state(folder, torch.compile(net, backend="eager"), net)


@add("state dict of a model with a compiled part")
def compiled_inside(folder: Path) -> Made:
    plain, wrapped = Sectioned(wrap=False), Sectioned(wrap=False)
    wrapped.features = torch.compile(wrapped.features, backend="eager")
    return _state(folder, wrapped, plain)


@add("a whole compiled module")
def compiled_whole(folder: Path) -> Made:
    net = small_net()
    wrapped = torch.compile(net, backend="eager")
    torch.save(wrapped, folder / "c.pt")
    roles = {"model": wrapped.state_dict()}
    return Truth(folder / "c.pt", "torch zip", roles=roles, plain={"model": net.state_dict()})


@add("state dict of a compiled DistributedDataParallel of a compiled model")
def compiled_twice(folder: Path) -> Made:
    with process_group():
        net = small_net()
        inner = torch.compile(net, backend="eager")
        return _state(folder, torch.compile(nn.parallel.DistributedDataParallel(inner), backend="eager"), net)


@add("state dict of AveragedModel")
def averaged(folder: Path) -> Made:
    net, optimizer = trained()
    wrapped = torch.optim.swa_utils.AveragedModel(net)
    wrapped.update_parameters(net)
    train(net, optimizer)
    wrapped.update_parameters(net)
    return _state(folder, wrapped, wrapped.module)


@add("state dict of AveragedModel around DataParallel, under `swa_state`")
def averaged_parallel(folder: Path) -> Made:
    net, _ = trained()
    wrapped = torch.optim.swa_utils.AveragedModel(nn.DataParallel(net))
    wrapped.update_parameters(nn.DataParallel(net))
    made = _state(folder, wrapped, net, "swa_state")
    made.roles, made.plain = {"ema": copied(wrapped.state_dict())}, {"ema": copied(net.state_dict())}
    return made


@add("a whole AveragedModel")
def averaged_whole(folder: Path) -> Made:
    net, _ = trained()
    wrapped = torch.optim.swa_utils.AveragedModel(net)
    wrapped.update_parameters(net)
    torch.save({"swa": wrapped, "net": net}, folder / "c.pt")
    roles = {"ema": wrapped.state_dict(), "model": net.state_dict()}
    return Truth(folder / "c.pt", "torch zip", roles=roles, plain={"ema": net.state_dict(), "model": net.state_dict()})


@add("state dict of activation checkpointing's wrapper, under compile and DataParallel")
def activation_checkpointing(folder: Path) -> Made:
    plain, net = Sectioned(wrap=False), Sectioned(wrap=False)
    net.features = checkpoint_wrapper(net.features)
    return _state(folder, nn.DataParallel(torch.compile(net, backend="eager")), plain)


@add("a whole module with weight_norm and spectral_norm, old and new")
def norms_whole(folder: Path) -> Made:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(
            torch.nn.utils.weight_norm(nn.Linear(3, 4)),
            torch.nn.utils.spectral_norm(nn.Linear(4, 4)),
            nn.Linear(4, 2),
        )
    net(torch.randn(2, 3))
    torch.save(net, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": net.state_dict()})


@add("state dict with weight_norm and spectral_norm, old and new")
def norms(folder: Path) -> Made:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(
            torch.nn.utils.weight_norm(nn.Linear(3, 4)),
            torch.nn.utils.spectral_norm(nn.Linear(4, 4)),
            parametrizations.weight_norm(nn.Linear(4, 4)),
            parametrizations.spectral_norm(nn.Linear(4, 4)),
            parametrizations.orthogonal(nn.Linear(4, 2)),
        )
    net(torch.randn(2, 3))
    made = _state(folder, net, net)
    made.plain = {}
    return made


@add("a traced torch.fx graph, whole")
def traced_graph(folder: Path) -> Made:
    net = small_net()
    torch.save(torch.fx.symbolic_trace(net), folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": net.state_dict()}, plain={"model": net.state_dict()})


@add("a quantised module, whole (torch.ao)")
def quantised_whole(folder: Path) -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), {nn.Linear})
    torch.save(net, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": copied(net[1].state_dict(prefix="1."))})


@add("a module with lazy, shared and never-persistent parts, under its own `__getstate__`")
def own_getstate(folder: Path) -> Made:
    source = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.alias = self.body
        self.register_buffer("cache", torch.ones(5), persistent=False)

    def __getstate__(self):
        state = self.__dict__.copy()
        state["cache_of_graphs"] = None
        return state
"""
    with lost_module(folder, "stateful_project", source) as project:
        net = project.Net()
        torch.save({"state": {"net": net}, "iter": 3}, folder / "c.pt")
    roles = {"model": net.state_dict()}
    return Truth(folder / "c.pt", "torch zip", roles=roles, plain=roles, facts={"iter": 3})
