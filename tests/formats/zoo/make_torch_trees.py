"""What scripts put into `torch.save`: weights bare, beside counters, of several models, under all sorts of names."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import datetime
import enum
import io
from argparse import Namespace
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from zoo.nets import copied, small_net, train, trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("torch")
add = COLLECTION.add


def _save(folder: Path, tree: Any, roles: dict[str, Any], **facts: Any) -> Truth:
    torch.save(tree, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles=roles, plain=roles, **facts)


@add("model.state_dict()")
def bare(folder: Path) -> Made:
    net, _ = trained()
    return _save(folder, net.state_dict(), {"model": net.state_dict()})


@add("dict(model.named_parameters())")
def bare_parameters(folder: Path) -> Made:
    net, _ = trained()
    return _save(folder, dict(net.named_parameters()), {"model": copied(dict(net.named_parameters()))})


@add("a layer's own state dict (names without a dot)")
def one_layer(folder: Path) -> Made:
    net = nn.Linear(3, 2)
    return _save(folder, net.state_dict(), {"model": net.state_dict()})


@add("{'epoch', 'model_state_dict', 'optimizer_state_dict', 'scheduler_state_dict', 'loss'}")
def general(folder: Path) -> Made:
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)
    tree = {
        "epoch": 5, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": schedule.state_dict(), "loss": torch.tensor(0.5), "best": np.float64(0.25),
    }  # fmt: skip
    made = _save(folder, tree, {"model": net.state_dict()}, facts={"epoch": 5, "best": 0.25})
    made.optimizers = {"optimizer_state_dict": optimizer.state_dict()}
    made.schedules = ("scheduler_state_dict",)
    return made


@add("{'net', 'optimizer', 'epoch', 'acc'}")
def net(folder: Path) -> Made:
    model, optimizer = trained(kind=torch.optim.SGD, momentum=0.9)
    tree = {"net": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2, "acc": 91.5}
    made = _save(folder, tree, {"model": model.state_dict()}, facts={"epoch": 2, "acc": 91.5})
    made.optimizers = {"optimizer": optimizer.state_dict()}
    return made


@add("{'state_dict', 'arch', 'best_prec1', 'optimizer', 'epoch'}")
def imagenet(folder: Path) -> Made:
    model, optimizer = trained(kind=torch.optim.SGD, momentum=0.9)
    wrapped = nn.DataParallel(model)
    tree = {
        "epoch": 90, "arch": "resnet50", "state_dict": wrapped.state_dict(), "best_prec1": torch.tensor(76.1),
        "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    torch.save(tree, folder / "checkpoint.pth.tar")
    return Truth(
        folder / "checkpoint.pth.tar",
        "torch zip",
        "PyTorch ImageNet example",
        {"model": wrapped.state_dict()},
        {"model": model.state_dict()},
        {"optimizer": optimizer.state_dict()},
        {"epoch": 90, "arch": "resnet50"},
    )


@add("{'G', 'D', 'optimizer_G', 'optimizer_D'}")
def gan(folder: Path) -> Made:
    (g, of_g), (d, of_d) = trained(1), trained(2)
    tree = {
        "G": g.state_dict(), "D": d.state_dict(), "optimizer_G": of_g.state_dict(), "optimizer_D": of_d.state_dict(),
        "iteration": 700,
    }  # fmt: skip
    made = _save(folder, tree, {"G": g.state_dict(), "D": d.state_dict()}, facts={"iteration": 700})
    made.optimizers = {"optimizer_G": of_g.state_dict(), "optimizer_D": of_d.state_dict()}
    return made


@add("{'models': {'encoder', 'decoder'}, 'optimizers': {…}}")
def encoder_decoder(folder: Path) -> Made:
    (a, of_a), (b, of_b) = trained(1), trained(2, torch.optim.SGD, momentum=0.9)
    tree = {
        "models": {"encoder": a.state_dict(), "decoder": b.state_dict()},
        "optimizers": {"encoder": of_a.state_dict(), "decoder": of_b.state_dict()}, "epoch": 1,
    }  # fmt: skip
    made = _save(folder, tree, {"encoder": a.state_dict(), "decoder": b.state_dict()}, facts={"epoch": 1})
    made.optimizers = {"encoder": of_a.state_dict(), "decoder": of_b.state_dict()}
    return made


@add("{'modelA_state_dict', 'modelB_state_dict', 'optimizerA_state_dict', …}")
def a_and_b(folder: Path) -> Made:
    (a, of_a), (b, of_b) = trained(1), trained(2)
    tree = {
        "modelA_state_dict": a.state_dict(), "modelB_state_dict": b.state_dict(),
        "optimizerA_state_dict": of_a.state_dict(), "optimizerB_state_dict": of_b.state_dict(),
    }  # fmt: skip
    made = _save(folder, tree, {"modelA": a.state_dict(), "modelB": b.state_dict()})
    made.optimizers = {"optimizerA_state_dict": of_a.state_dict(), "optimizerB_state_dict": of_b.state_dict()}
    return made


@add("a list of state dicts (an ensemble)")
def ensemble(folder: Path) -> Made:
    states = [small_net(seed).state_dict() for seed in range(3)]
    return _save(folder, states, {str(number): state for number, state in enumerate(states)})


@add("{'ensemble': [state dicts], 'weights': […]}")
def ensemble_with_weights(folder: Path) -> Made:
    states = [small_net(seed).state_dict() for seed in range(2)]
    roles = {f"ensemble.{number}": state for number, state in enumerate(states)}
    return _save(folder, {"ensemble": states, "weights": [0.3, 0.7]}, roles, facts={"weights": [0.3, 0.7]})


@add("weights with counters among them")
def mixed(folder: Path) -> Made:
    model, _ = trained()
    tree = {**model.state_dict(), "epoch": 4, "classes": ["ants", "bees"]}
    return _save(folder, tree, {"model": model.state_dict()}, facts={"epoch": 4, "classes": ["ants", "bees"]})


@add("weights in dicts of dicts, by module")
def nested(folder: Path) -> Made:
    a, b = nn.Linear(3, 4), nn.Linear(4, 2)
    tree = {"layers": {"first": dict(a.state_dict()), "last": dict(b.state_dict())}, "epoch": 3}
    return _save(folder, tree, {"first": a.state_dict(), "last": b.state_dict()}, facts={"epoch": 3})


@add("{'model': state_dict, 'ema': state_dict, 'step'}")
def with_average(folder: Path) -> Made:
    model, optimizer = trained()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    train(model, optimizer)
    average.update_parameters(model)
    tree = {"model": model.state_dict(), "ema": average.state_dict(), "step": 4}
    made = _save(folder, tree, {"model": model.state_dict(), "ema": average.state_dict()}, facts={"step": 4})
    made.plain = {"model": model.state_dict(), "ema": average.module.state_dict()}
    return made


@add("{'ema_state_dict': …} beside {'state_dict': …}")
def with_ema_state_dict(folder: Path) -> Made:
    model, other = small_net(1), small_net(2)
    tree = {"state_dict": model.state_dict(), "ema_state_dict": other.state_dict(), "global_step": 9}
    roles = {"model": model.state_dict(), "ema": other.state_dict()}
    return _save(folder, tree, roles, facts={"global_step": 9})


@add("optimizer.state_dict() alone")
def optimizer_alone(folder: Path) -> Made:
    _, optimizer = trained()
    made = _save(folder, optimizer.state_dict(), {})
    made.optimizers = {"optimizer": optimizer.state_dict()}
    return made


@add("optimizer states of many kinds, groups by layer, amsgrad, no momentum yet")
def optimizers(folder: Path) -> Made:
    model = small_net()
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[4].parameters(), "weight_decay": 0.01}]
    made = {
        "adam": torch.optim.Adam(groups, lr=0.01, amsgrad=True),
        "sgd": torch.optim.SGD(model.parameters(), lr=0.1),
        "rms": torch.optim.RMSprop(model.parameters(), lr=0.1, centered=True, momentum=0.5),
        "ada": torch.optim.Adagrad(model.parameters(), lr=0.1),
        "lbfgs": torch.optim.LBFGS(model.parameters()),
        "named": torch.optim.AdamW(model.named_parameters(), lr=0.1),
        "fresh": torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.5)),
    }
    for name in ("adam", "sgd", "rms", "ada", "named"):
        train(model, made[name], 1)
    states = {name: optimizer.state_dict() for name, optimizer in made.items()}
    truth = _save(folder, {"model": model.state_dict(), **states}, {"model": model.state_dict()})
    truth.optimizers = states
    return truth


class Phase(enum.Enum):
    """A member of this is pickled by its value."""

    WARM = "warm-up"


class Best(NamedTuple):
    """A named tuple, as many scripts keep their best result in."""

    epoch: int
    accuracy: float


@add("settings of every kind beside the weights")
def settings(folder: Path) -> Made:
    model, _ = trained()
    tree = {
        "state_dict": OrderedDict(model.state_dict()), "args": Namespace(lr=0.1, data=Path("data/x"), gpus=[0, 1]),
        "time": datetime.datetime(2024, 5, 6, 7, 8, 9), "phase": Phase.WARM, "best": Best(3, 0.5),
        "history": defaultdict(list, loss=[1.0, 0.5]), "seen": {1, 2}, "device": torch.device("cuda", 1),
        "dtype": torch.bfloat16, "size": torch.Size([2, 3]), "score": np.float32(0.5), "confusion": np.eye(2),
        "rng": torch.get_rng_state(), "numpy_rng": np.random.get_state(),
    }  # fmt: skip
    facts = {
        "args.lr": 0.1, "args.data": "data/x", "args.gpus": [0, 1], "time": "2024-05-06T07:08:09", "phase": "warm-up",
        "history.loss": [1.0, 0.5], "device": "cuda:1", "dtype": "torch.bfloat16", "size": [2, 3], "score": 0.5,
    }  # fmt: skip
    return _save(folder, tree, {"model": model.state_dict()}, facts=facts)


@add("a state dict with extra state of modules")
def extra_state(folder: Path) -> Made:
    class Counting(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"seen": 12}

        def set_extra_state(self, state: dict[str, int]) -> None:
            del state

    model = nn.Sequential(Counting(3, 2), nn.BatchNorm1d(2))
    return _save(folder, model.state_dict(), {"model": copied(model.state_dict())})


@add("list(model.parameters())")
def list_of_parameters(folder: Path) -> Made:
    model, _ = trained()
    made = _save(folder, list(model.parameters()), {"model": {str(n): p for n, p in enumerate(model.parameters())}})
    made.plain = {}
    return made


@add("one tensor")
def one_tensor(folder: Path) -> Made:
    tensor = torch.arange(6.0).reshape(2, 3)
    made = _save(folder, tensor, {"model": {"tensor": tensor}})
    made.plain = {}
    return made


@add("weights as NumPy arrays within a dict")
def arrays_within(folder: Path) -> Made:
    model, _ = trained()
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    made = _save(folder, {"model": arrays, "__author__": "someone"}, {"model": model.state_dict()})
    made.facts = {"__author__": "someone"}
    return made


@add("weights that were moved between types: half precision with float32 norms")
def half(folder: Path) -> Made:
    model = small_net().to(torch.bfloat16)
    model[1].float()
    return _save(folder, {"model": model.state_dict(), "dtype": "bf16"}, {"model": model.state_dict()})


@add("weights with quantised ones among them")
def quantised(folder: Path) -> Made:
    dense = torch.arange(6.0).reshape(2, 3)
    tree = {
        "fc.weight": torch.quantize_per_tensor(dense, 0.1, 2, torch.qint8), "fc.bias": torch.ones(2),
        "sparse.weight": dense.to_sparse(),
    }  # fmt: skip
    made = _save(folder, tree, {"model": {"fc.bias": torch.ones(2)}})
    made.plain, made.records = {}, ("fc.weight", "sparse.weight")
    return made


class _OfDevice:
    """Pickles a tensor as torch pickles one of XLA: a call with its values as an array, its type and its device."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> Any:
        tensor = self.tensor
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return torch._utils._rebuild_device_tensor_from_numpy, (values, tensor.dtype, "xla:0", False)


@add("weights on a TPU (torch_xla), in bfloat16 with float32 norms")
def on_xla(folder: Path) -> Made:
    model = small_net().to(torch.bfloat16)
    model[1].float()
    tree = {"model": {name: _OfDevice(tensor) for name, tensor in model.state_dict().items()}, "step": 3}
    return _save(folder, tree, {"model": model.state_dict()}, facts={"step": 3})


@add("a torch.save within a torch.save, in an io.BytesIO")
def in_buffer(folder: Path) -> Made:
    model, buffer = small_net(), io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return _save(folder, {"weights": buffer, "epoch": 2}, {"model": model.state_dict()}, facts={"epoch": 2})


@add("StyleGAN2-pytorch: {'g', 'd', 'g_ema', 'g_optim', 'd_optim', 'args'}")
def stylegan2(folder: Path) -> Made:
    (g, of_g), (d, of_d), average = trained(1), trained(2), small_net(3)
    tree = {
        "g": g.state_dict(), "d": d.state_dict(), "g_ema": average.state_dict(), "g_optim": of_g.state_dict(),
        "d_optim": of_d.state_dict(), "args": Namespace(size=256), "ada_aug_p": 0.0,
    }  # fmt: skip
    roles = {"g": g.state_dict(), "d": d.state_dict(), "ema": average.state_dict()}
    made = _save(folder, tree, roles, facts={"args.size": 256})
    made.optimizers = {"g_optim": of_g.state_dict(), "d_optim": of_d.state_dict()}
    return made


@add("MMEngine's runner: meta, message_hub, param_schedulers, ema_state_dict")
def mmengine(folder: Path) -> Made:
    (model, optimizer), average = trained(1, torch.optim.SGD, momentum=0.9), small_net(2)
    shadow = {f"module.{name}": tensor for name, tensor in average.state_dict().items()}
    tree = {
        "meta": {"cfg": "model = dict()", "epoch": 12, "mmengine_version": "0.10.7"},
        "state_dict": model.state_dict(), "message_hub": {"log_scalars": {"loss": np.arange(3.0)}},
        "optimizer": optimizer.state_dict(), "param_schedulers": [{"last_step": 5, "_last_value": [0.1]}],
        "ema_state_dict": {**shadow, "steps": torch.tensor(5)},
    }  # fmt: skip
    made = _save(folder, tree, {"model": model.state_dict(), "ema": tree["ema_state_dict"]}, facts={"meta.epoch": 12})
    made.plain = {"model": model.state_dict(), "ema": average.state_dict()}
    made.made_by, made.optimizers = "OpenMMLab", {"optimizer": optimizer.state_dict()}
    return made
