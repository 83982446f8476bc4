"""What diffusers writes: models alone, in two precisions side by side, and pipelines of several."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMPipeline, DDPMScheduler, UNet2DModel

from zoo.nets import copied
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("diffusers", "torch", "safetensors")
add = COLLECTION.add


def _unet() -> Any:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        layers_per_block=1,
    )  # fmt: skip


def _vae() -> Any:
    torch.manual_seed(1)
    return AutoencoderKL(block_out_channels=(32,), latent_channels=2)


@add("UNet2DModel.save_pretrained")
def unet(folder: Path) -> Made:
    net = _unet()
    net.save_pretrained(folder / "unet")
    return Truth(folder / "unet", "safetensors", roles={"model": copied(net.state_dict())})


@add("AutoencoderKL.save_pretrained, in full and with variant='fp16' beside it")
def vae_variants(folder: Path) -> Made:
    net = _vae()
    net.save_pretrained(folder / "vae")
    _vae().half().save_pretrained(folder / "vae", variant="fp16")
    return Truth(folder / "vae", "safetensors", roles={"model": copied(net.state_dict())})


@add("DDPMPipeline.save_pretrained")
def pipeline_of_one(folder: Path) -> Made:
    net = _unet()
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(folder / "ddpm")
    return Truth(folder / "ddpm", "folder of weights", "diffusers", roles={"unet": copied(net.state_dict())})


@add("the folder of a pipeline with unet, vae and scheduler")
def pipeline(folder: Path) -> Made:
    unet, vae, out = _unet(), _vae(), folder / "pipeline"
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(out)
    vae.save_pretrained(out / "vae", safe_serialization=False)
    index = json.loads((out / "model_index.json").read_text(encoding="utf-8"))
    index |= {"vae": ["diffusers", "AutoencoderKL"], "safety_checker": [None, None]}
    (out / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    roles = {"unet": copied(unet.state_dict()), "vae": copied(vae.state_dict())}
    return Truth(out, "folder of weights", "diffusers", roles=roles)
