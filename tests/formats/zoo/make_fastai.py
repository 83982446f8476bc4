"""What fastai writes: `learn.save` with and without the optimizer, and `learn.export`, the learner pickled whole."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastai.callback.progress  # noqa: F401  # it gives learners their no_bar
import torch
from fastai.data.core import Datasets
from fastai.learner import Learner
from fastai.optimizer import Adam

from zoo.nets import small_net
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("fastai")
add = COLLECTION.add


def _picture(number: int) -> torch.Tensor:
    return torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(number))


def _label(number: int) -> torch.Tensor:
    return torch.tensor(number % 2)


def _learner(folder: Path) -> Any:
    torch.manual_seed(0)
    data = Datasets(list(range(8)), [[_picture], [_label]], splits=[list(range(6)), [6, 7]])
    loaders = data.dataloaders(bs=3, device=torch.device("cpu"), num_workers=0)
    learner = Learner(
        loaders, small_net(), loss_func=torch.nn.CrossEntropyLoss(), opt_func=Adam, path=folder, model_dir="models"
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, lr=0.01)
    return learner


@add("learn.save (with the optimizer)")
def save(folder: Path) -> Made:
    learner = _learner(folder)
    path = learner.save("stage-1")
    roles = {"model": learner.model.state_dict()}
    return Truth(
        Path(path), "torch zip", "fastai", roles=roles, plain=roles, optimizers={"opt": learner.opt.state_dict()}
    )


@add("learn.save(with_opt=False)")
def save_without_optimizer(folder: Path) -> Made:
    learner = _learner(folder)
    path = learner.save("stage-1", with_opt=False)
    roles = {"model": learner.model.state_dict()}
    return Truth(Path(path), "torch zip", roles=roles, plain=roles)


@add("learn.export")
def export(folder: Path) -> Made:
    learner = _learner(folder)
    learner.export("export.pkl")
    roles = {"model": learner.model.state_dict()}
    return Truth(folder / "export.pkl", "torch zip", "fastai export", roles=roles, plain=roles)
