"""What skorch writes: parameters, optimizer and history in files, its Checkpoint callback, and nets pickled whole."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint

from zoo.nets import small_net
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("skorch")
add = COLLECTION.add


def _fitted(module: Any = None, **how: Any) -> Any:
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        module or small_net(), max_epochs=2, train_split=None, verbose=0, lr=0.01, optimizer=torch.optim.Adam,
        criterion=torch.nn.CrossEntropyLoss, **how,
    )  # fmt: skip
    pictures = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    return net.fit(pictures, np.arange(8, dtype=np.int64) % 2)


@add("save_params(f_params=…)")
def params(folder: Path) -> Made:
    net = _fitted()
    net.save_params(f_params=folder / "params.pt", use_safetensors=False)
    roles = {"model": net.module_.state_dict()}
    return Truth(folder / "params.pt", "torch zip", roles=roles, plain=roles)


@add("save_params(use_safetensors=True)")
def params_safetensors(folder: Path) -> Made:
    net = _fitted()
    net.save_params(f_params=folder / "params.safetensors", use_safetensors=True)
    roles = {"model": net.module_.state_dict()}
    return Truth(folder / "params.safetensors", "safetensors", roles=roles, plain=roles)


@add("save_params(f_optimizer=…)")
def optimizer(folder: Path) -> Made:
    net = _fitted()
    net.save_params(f_optimizer=folder / "optimizer.pt")
    return Truth(folder / "optimizer.pt", "torch zip", optimizers={"whole": net.optimizer_.state_dict()})


@add("Checkpoint callback's params.pt")
def callback(folder: Path) -> Made:
    net = _fitted(callbacks=[Checkpoint(dirname=str(folder), monitor=None)])
    roles = {"model": net.module_.state_dict()}
    return Truth(folder / "params.pt", "torch zip", roles=roles, plain=roles)


@add("a net pickled whole")
def pickled(folder: Path) -> Made:
    net = _fitted()
    (folder / "net.pkl").write_bytes(pickle.dumps(net))
    roles = {"model": net.module_.state_dict()}
    return Truth(folder / "net.pkl", "pickle", "skorch", roles=roles, plain=roles, optimizers={"optimizer_": None})


class Sized(torch.nn.Sequential):
    """A net that skorch makes itself, anew, with settings of its own."""

    def __init__(self, width: int = 2) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(192, width), torch.nn.Linear(width, 2))


@add("a net pickled whole, whose module skorch made from another")
def pickled_with_settings(folder: Path) -> Made:
    net = _fitted(Sized(2), module__width=3)
    (folder / "net.pkl").write_bytes(pickle.dumps(net, 2))
    roles = {"model": net.module_.state_dict()}
    assert roles["model"]["1.weight"].shape == (3, 192)
    return Truth(folder / "net.pkl", "pickle", "skorch", roles=roles, plain=roles, optimizers={"optimizer_": None})
