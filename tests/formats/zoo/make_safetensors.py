"""What the safetensors library and huggingface_hub write: single files, shards with an index."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import gzip
import json
from pathlib import Path

import safetensors.torch
import torch

from zoo.nets import Tied, copied, small_net
from zoo.specimen import Collection, Made, Refusal, Truth

COLLECTION = Collection("safetensors", "huggingface-hub")
add = COLLECTION.add


@add("safetensors.torch.save_file")
def single(folder: Path) -> Made:
    state = small_net().state_dict()
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt", "epoch": "3"})
    facts = {"format": "pt", "epoch": "3"}
    return Truth(
        folder / "model.safetensors", "safetensors", roles={"model": state}, plain={"model": state}, facts=facts
    )


@add("safetensors.torch.save_file, types, scalars and empty tensors")
def types(folder: Path) -> Made:
    dtypes = (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16),
        *(torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32),
        *(torch.uint64, torch.complex64),
    )
    state = {f"t.{dtype}": torch.arange(6).to(dtype).reshape(2, 3) for dtype in dtypes}
    state |= {"t.scalar": torch.tensor(1.5), "t.empty": torch.empty(0, 3)}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    return Truth(folder / "model.safetensors", "safetensors", roles={"model": state})


@add("safetensors.torch.save_model (tied weights, stored once)")
def tied(folder: Path) -> Made:
    net = Tied()
    safetensors.torch.save_model(net, str(folder / "model.safetensors"))
    return Truth(folder / "model.safetensors", "safetensors", roles={"model": copied(net.state_dict())})


@add("safetensors.torch.save_file, compressed with gzip, called .bin")
def in_gzip(folder: Path) -> Made:
    state = small_net().state_dict()
    (folder / "weights.bin").write_bytes(gzip.compress(safetensors.torch.save(state)))
    return Truth(folder / "weights.bin", "safetensors in gzip", roles={"model": state}, plain={"model": state})


def _shards(folder: Path, *, pickled: bool) -> dict[str, torch.Tensor]:
    from huggingface_hub import split_torch_state_dict_into_shards

    state = small_net().state_dict()
    pattern = "pytorch_model{suffix}.bin" if pickled else "model{suffix}.safetensors"
    split = split_torch_state_dict_into_shards(state, filename_pattern=pattern, max_shard_size=600)
    assert len(split.filename_to_tensors) > 1
    for name, inside in split.filename_to_tensors.items():
        shard = {key: state[key].clone() for key in inside}
        if pickled:
            torch.save(shard, folder / name)
        else:
            safetensors.torch.save_file(shard, folder / name, {"format": "pt"})
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    name = "pytorch_model.bin.index.json" if pickled else "model.safetensors.index.json"
    (folder / name).write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "small"}', encoding="utf-8")
    return state


@add("a folder of safetensors shards with their index")
def sharded(folder: Path) -> Made:
    state = _shards(folder, pickled=False)
    return Truth(folder, "safetensors index", roles={"model": state}, plain={"model": state})


@add("the index of safetensors shards")
def sharded_by_index(folder: Path) -> Made:
    state = _shards(folder, pickled=False)
    path = folder / "model.safetensors.index.json"
    return Truth(path, "safetensors index", roles={"model": state}, plain={"model": state})


@add("a folder of pytorch_model.bin shards with their index")
def sharded_bin(folder: Path) -> Made:
    state = _shards(folder, pickled=True)
    return Truth(folder, "safetensors index", roles={"model": state}, plain={"model": state})


@add("shards with one missing")
def shard_missing(folder: Path) -> Made:
    _shards(folder, pickled=False)
    shard = sorted(folder.glob("*-of-*"))[0]
    shard.unlink()
    return Refusal(folder, f"its shard {shard.name} is missing. Fetch it into the same folder")


@add("safetensors cut off")
def half_a_file(folder: Path) -> Made:
    data = safetensors.torch.save(small_net().state_dict())
    (folder / "model.safetensors").write_bytes(data[: len(data) - 100])
    return Refusal(folder / "model.safetensors", "safetensors file with .*cut or is damaged")
