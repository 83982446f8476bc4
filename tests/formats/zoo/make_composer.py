"""What Composer's Trainer writes."""

# ruff: noqa: D102, D103  # a specimen's name says what it is; methods are Composer's

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from composer import Trainer
from composer.algorithms import EMA
from composer.models import ComposerModel
from torch.utils.data import DataLoader, TensorDataset

from zoo.nets import copied, small_net
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("mosaicml")
add = COLLECTION.add


class Model(ComposerModel):
    """A small net."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small_net()

    def forward(self, batch: Any) -> Any:
        return self.net(batch[0])

    def loss(self, outputs: Any, batch: Any) -> Any:
        return torch.nn.functional.cross_entropy(outputs, batch[1])


def _fitted(folder: Path, **how: Any) -> Any:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(8, 3, 8, 8), torch.arange(8) % 2)
    model = Model()
    trainer = Trainer(
        model=model, train_dataloader=DataLoader(data, batch_size=4), max_duration="2ep", device="cpu",
        optimizers=torch.optim.AdamW(model.parameters(), lr=0.01), save_folder=str(folder), save_interval="1ep",
        progress_bar=False, log_to_console=False, run_name="zoo", **how,
    )  # fmt: skip
    trainer.fit()
    trainer.close()
    return trainer


@add("Trainer's checkpoint")
def trainer(folder: Path) -> Made:
    made = _fitted(folder)
    path = sorted(folder.glob("ep2-*.pt"))[0]
    roles = {"model": copied(made.state.model.state_dict())}
    return Truth(
        path, "torch zip", "Composer", roles=roles, optimizers={"AdamW": None}, facts={"state.run_name": "zoo"}
    )


@add("Trainer's checkpoint with the EMA algorithm (the model has the average; the trained weights lie beside it)")
def averaged(folder: Path) -> Made:
    algorithm = EMA(half_life="1ba")
    made = _fitted(folder, algorithms=[algorithm])
    path = sorted(folder.glob("ep2-*.pt"))[0]
    beside = algorithm.ema_model
    trained = {**beside.named_parameters_dict, **beside.named_buffers_dict}
    roles = {"model": copied(made.state.model.state_dict()), "trained": trained}
    return Truth(path, "torch zip", "Composer", roles=roles, optimizers={"AdamW": None})
