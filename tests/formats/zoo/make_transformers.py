"""What transformers writes: the folders of `save_pretrained` and of its Trainer, with tiny networks made at random."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("transformers")
add = COLLECTION.add


def _vit() -> Any:
    torch.manual_seed(0)
    settings = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    return ViTForImageClassification(settings)


def _saved(folder: Path, kind: str, **how: Any) -> Made:
    model = _vit()
    model.save_pretrained(folder / "vit", **how)
    return Truth(folder / "vit", kind, roles={"model": _stored(folder / "vit")}, ties=False)


def _stored(folder: Path) -> dict[str, torch.Tensor]:
    """Returns what the library itself reads: it does not write the names of the live model, but those of its first."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


@add("save_pretrained, the folder")
def save_pretrained(folder: Path) -> Made:
    return _saved(folder, "safetensors")


@add("save_pretrained(max_shard_size=…)")
def sharded(folder: Path) -> Made:
    return _saved(folder, "safetensors index", max_shard_size="8KB")


@add("save_pretrained of tied weights, the file")
def tied(folder: Path) -> Made:
    torch.manual_seed(0)
    settings = BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = BertForMaskedLM(settings)
    model.save_pretrained(folder / "bert")
    roles = {"model": _stored(folder / "bert")}
    assert {"bert.embeddings.word_embeddings.weight"} <= roles["model"].keys() < set(model.state_dict())
    return Truth(folder / "bert/model.safetensors", "safetensors", roles=roles, facts={"format": "pt"}, ties=False)


@add("pytorch_model.bin, as versions before 5 wrote it")
def bin_file(folder: Path) -> Made:
    model = _vit()
    model.config.save_pretrained(folder / "vit")
    torch.save(model.state_dict(), folder / "vit/pytorch_model.bin")
    roles = {"model": model.state_dict()}
    return Truth(folder / "vit", "torch zip", roles=roles, plain=roles)


def _trained(folder: Path) -> Any:
    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> dict[str, Any]:
            generator = torch.Generator().manual_seed(index)
            return {"pixel_values": torch.randn(3, 16, 16, generator=generator), "labels": index % 3}

    settings = TrainingArguments(
        output_dir=str(folder / "out"), max_steps=2, save_steps=2, per_device_train_batch_size=2, use_cpu=True,
        report_to=[], disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(_vit(), settings, train_dataset=Pictures())
    trainer.train()
    return trainer


@add("Trainer's checkpoint folder")
def trainer(folder: Path) -> Made:
    made = _trained(folder)
    optimizer = getattr(made.optimizer, "optimizer", made.optimizer)
    return Truth(
        folder / "out/checkpoint-2",
        "folder of weights",
        "transformers",
        roles={"model": _stored(folder / "out/checkpoint-2")},
        optimizers={"optimizer": optimizer.state_dict()},
        schedules=("scheduler",),
        ties=False,
    )


@add("Trainer's optimizer.pt")
def trainer_optimizer(folder: Path) -> Made:
    made = _trained(folder)
    optimizer = getattr(made.optimizer, "optimizer", made.optimizer)
    path = folder / "out/checkpoint-2/optimizer.pt"
    return Truth(path, "torch zip", optimizers={"whole": optimizer.state_dict()})
