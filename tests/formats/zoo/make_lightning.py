"""What Lightning's Trainer and Fabric write: also of a GAN, of compiled and averaged models, weights alone."""

# ruff: noqa: ARG002, D102, D103  # a specimen's name says what it is; hooks and their arguments are Lightning's

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
import torchmetrics
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.nets import copied, small_net, train, trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("lightning", "torchmetrics")
add = COLLECTION.add
MAKER = f"PyTorch Lightning {lightning.__version__}"
logging.getLogger("lightning").setLevel(logging.ERROR)


class Classifier(lightning.LightningModule):
    """A small net, its metric and its optimizer."""

    def __init__(self, lr: float = 0.01, *, compiled: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        net = small_net()
        self.net = torch.compile(net, backend="eager") if compiled else net
        self.accuracy = torchmetrics.classification.MulticlassConfusionMatrix(2)
        self.accuracy.persistent(True)

    def training_step(self, batch: Any, number: int) -> Any:
        scores = self.net(batch[0])
        self.accuracy(scores, batch[1])
        return nn.functional.cross_entropy(scores, batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Gan(lightning.LightningModule):
    """Two nets and two optimizers, trained by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.discriminator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

    def training_step(self, batch: Any, number: int) -> None:
        noise = batch[0][:, :, 0, :4].mean(1)
        for optimizer, sign in zip(self.optimizers(), (1.0, -1.0), strict=True):
            optimizer.zero_grad()
            self.manual_backward(sign * self.discriminator(self.generator(noise)).mean())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.SGD(self.discriminator.parameters(), lr=0.01, momentum=0.9),
        ]


def _fitted(folder: Path, module: Any, **how: Any) -> Any:
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(8, 3, 8, 8), torch.arange(8) % 2), batch_size=4)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **{"enable_checkpointing": False, **how},
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


def _truth(path: Path, module: Any, trainer: Any, plain: Any) -> Truth:
    states = [optimizer.state_dict() for optimizer in trainer.optimizers]
    return Truth(
        path,
        "torch zip",
        MAKER,
        roles={"model": copied(module.state_dict())},
        plain={"model": copied(plain.state_dict())} if plain is not None else {},
        optimizers={"optimizer_states": states[0]} if len(states) == 1 else {},
        facts={"epoch": 2, "global_step": 4},
    )


@add("Trainer.save_checkpoint (with torchmetrics, hyperparameters, a schedule)")
def trainer(folder: Path) -> Made:
    module = Classifier()
    fitted = _fitted(folder, module)
    fitted.save_checkpoint(folder / "last.ckpt")
    made = _truth(folder / "last.ckpt", module, fitted, None)
    made.facts = {**made.facts, "hyper_parameters.lr": 0.01}
    made.schedules = ("lr_schedulers",)
    return made


@add("ModelCheckpoint callback")
def model_checkpoint(folder: Path) -> Made:
    module = Classifier()
    callback = ModelCheckpoint(folder, save_last=True, save_top_k=1)
    fitted = _fitted(folder, module, callbacks=[callback], enable_checkpointing=True)
    made = _truth(Path(callback.last_model_path), module, fitted, None)
    made.facts, made.schedules = {"epoch": 1, "global_step": 4}, ("lr_schedulers",)
    return made


@add("Trainer.save_checkpoint(weights_only=True)")
def weights_only(folder: Path) -> Made:
    module = Classifier()
    fitted = _fitted(folder, module)
    fitted.save_checkpoint(folder / "weights.ckpt", weights_only=True)
    made = _truth(folder / "weights.ckpt", module, fitted, None)
    made.optimizers = {}
    return made


@add("a GAN with two optimizers")
def gan(folder: Path) -> Made:
    module = Gan()
    fitted = _fitted(folder, module)
    fitted.save_checkpoint(folder / "gan.ckpt")
    made = _truth(folder / "gan.ckpt", module, fitted, None)
    parts = {"generator": module.generator.state_dict(), "discriminator": module.discriminator.state_dict()}
    made.roles, made.plain = {**made.roles, **parts}, parts
    states = [optimizer.state_dict() for optimizer in fitted.optimizers]
    made.optimizers = {"optimizer_states.0": states[0], "optimizer_states.1": states[1]}
    made.facts = {"epoch": 2}
    return made


@add("a module with a compiled net inside")
def compiled(folder: Path) -> Made:
    module = Classifier(compiled=True)
    fitted = _fitted(folder, module)
    fitted.save_checkpoint(folder / "compiled.ckpt")
    made = _truth(folder / "compiled.ckpt", module, fitted, None)
    made.schedules = ("lr_schedulers",)
    return made


@add("a compiled module")
def compiled_whole(folder: Path) -> Made:
    module = Classifier()
    fitted = _fitted(folder, torch.compile(module, backend="eager"))
    fitted.save_checkpoint(folder / "compiled.ckpt")
    made = _truth(folder / "compiled.ckpt", module, fitted, None)
    made.schedules = ("lr_schedulers",)
    return made


@add("EMAWeightAveraging callback")
def weight_averaging(folder: Path) -> Made:
    module = Classifier()
    callback = EMAWeightAveraging(decay=0.5)
    before: dict[str, Any] = {}

    class Watch(lightning.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            del trainer
            before["model"] = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
            before["ema"] = {n: t.clone() for n, t in callback._average_model.module.state_dict().items()}

    saving = ModelCheckpoint(folder, save_last=True, save_top_k=1)
    fitted = _fitted(folder, module, callbacks=[Watch(), callback, saving], enable_checkpointing=True)
    made = _truth(Path(saving.last_model_path), module, fitted, None)
    made.roles, made.plain = {"model": before["ema"], "current_model": before["model"]}, {}
    made.facts, made.schedules = {"epoch": 1, "global_step": 4}, ("lr_schedulers",)
    return made


@add("StochasticWeightAveraging callback")
def stochastic_weight_averaging(folder: Path) -> Made:
    module = Classifier()
    callback = StochasticWeightAveraging(0.01, swa_epoch_start=1)
    fitted = _fitted(folder, module, callbacks=[callback])
    fitted.save_checkpoint(folder / "swa.ckpt")
    made = _truth(folder / "swa.ckpt", module, fitted, None)
    made.roles = {**made.roles, "ema": copied(callback._average_model.state_dict())}
    made.optimizers, made.schedules = {"optimizer_states": None}, ("scheduler_state", "lr_schedulers")
    made.facts = {"hyper_parameters.lr": 0.01}
    return made


@add("Fabric.save")
def fabric(folder: Path) -> Made:
    runner = Fabric(accelerator="cpu", devices=1)
    net, optimizer = trained()
    wrapped, of_net = runner.setup(net, optimizer)
    runner.save(folder / "fabric.ckpt", {"model": wrapped, "optimizer": of_net, "iteration": 9, "best": 0.5})
    return Truth(
        folder / "fabric.ckpt",
        "torch zip",
        roles={"model": net.state_dict()},
        plain={"model": net.state_dict()},
        optimizers={"optimizer": optimizer.state_dict()},
        facts={"iteration": 9, "best": 0.5},
    )


@add("Fabric.save of a GAN")
def fabric_gan(folder: Path) -> Made:
    runner = Fabric(accelerator="cpu", devices=1)
    (g, of_g), (d, of_d) = trained(1), trained(2)
    train(g, of_g, 1)
    runner.save(folder / "gan.ckpt", {"netG": g, "netD": d, "optG": of_g, "optD": of_d})
    roles = {"netG": g.state_dict(), "netD": d.state_dict()}
    optimizers = {"optG": of_g.state_dict(), "optD": of_d.state_dict()}
    return Truth(folder / "gan.ckpt", "torch zip", roles=roles, plain=roles, optimizers=optimizers)
