"""What NumPy writes: `.npz`, `.npy`, and arrays in pickles."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.nets import small_net
from zoo.specimen import Collection, Made, Refusal, Truth

COLLECTION = Collection("numpy", "torch")
add = COLLECTION.add


def _arrays() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    state = small_net().state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}, state


@add("numpy.savez")
def savez(folder: Path) -> Made:
    arrays, state = _arrays()
    np.savez(folder / "c.npz", **arrays)
    return Truth(folder / "c.npz", "npz", roles={"model": state}, plain={"model": state})


@add("numpy.savez_compressed")
def savez_compressed(folder: Path) -> Made:
    arrays, state = _arrays()
    np.savez_compressed(folder / "c.npz", **arrays)
    return Truth(folder / "c.npz", "npz", roles={"model": state}, plain={"model": state})


@add("numpy.savez, names with slashes, column-major and big-endian arrays, half precision")
def savez_orders(folder: Path) -> Made:
    arrays = {
        "block/kernel": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "block/bias": np.arange(3, dtype=">f4"),
        "half": np.arange(4, dtype=np.float16).reshape(2, 2), "flags": np.array([[True, False]]),
    }  # fmt: skip
    np.savez(folder / "c.npz", **arrays)
    state = {name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) for name, array in arrays.items()}
    return Truth(folder / "c.npz", "npz", roles={"model": state})


@add("numpy.save of an array")
def save(folder: Path) -> Made:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(folder / "c.npy", array)
    return Truth(folder / "c.npy", "npy", roles={"model": {"array": torch.from_numpy(array)}})


def _pickled(folder: Path, protocol: int) -> Made:
    arrays, state = _arrays()
    (folder / "c.pkl").write_bytes(pickle.dumps({"model": arrays, "step": np.int64(7)}, protocol))
    return Truth(folder / "c.pkl", "pickle", roles={"model": state}, plain={"model": state}, facts={"step": 7})


@add("pickle.dump of a dict of arrays, protocol 2")
def pickled(folder: Path) -> Made:
    return _pickled(folder, 2)


@add("pickle.dump of a dict of arrays, protocol 5")
def pickled_5(folder: Path) -> Made:
    return _pickled(folder, 5)


@add("pickle.dump of a dict of arrays whose names are bytes, as Python 2 left them")
def names_of_bytes(folder: Path) -> Made:
    arrays, state = _arrays()
    tree = {b"epoch": 3, b"params": {name.encode(): array for name, array in arrays.items()}}
    (folder / "c.pkl").write_bytes(pickle.dumps(tree))
    return Truth(folder / "c.pkl", "pickle", roles={"model": state}, plain={"model": state}, facts={"epoch": 3})


@add("pickle.dump of a dict of arrays whose names are tuples of words, as Flax flattens them")
def names_of_words(folder: Path) -> Made:
    arrays, state = _arrays()
    (folder / "c.pkl").write_bytes(pickle.dumps({tuple(name.split(".")): array for name, array in arrays.items()}))
    return Truth(folder / "c.pkl", "pickle", roles={"model": state}, plain={"model": state})


@add("pickle.dump of arrays in pairs with a second name, as Paddle's .pdparams has them")
def paired(folder: Path) -> Made:
    arrays, state = _arrays()
    tree = {name: (f"linear_{number}.w_0", array) for number, (name, array) in enumerate(arrays.items())}
    (folder / "c.pdparams").write_bytes(pickle.dumps(tree, 4))
    return Truth(folder / "c.pdparams", "pickle", roles={"model": state}, plain={"model": state})


@add("pickle.dump, twice into one file")
def twice(folder: Path) -> Made:
    arrays, state = _arrays()
    (folder / "c.pkl").write_bytes(pickle.dumps({"epoch": 3}) + pickle.dumps(arrays))
    return Truth(folder / "c.pkl", "pickle", roles={"model": state}, plain={"model": state})


@add("numpy.savez of text")
def text(folder: Path) -> Made:
    np.savez(folder / "c.npz", names=np.array(["ants", "bees"]))
    return Refusal(folder / "c.npz", "its values are 'U4'; expected numbers")


@add("numpy.save of Python objects")
def objects(folder: Path) -> Made:
    np.save(folder / "c.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return Refusal(folder / "c.npy", "it is an npy without weights; expected names with tensors")


@add("numpy.save of a dictionary of dictionaries of arrays, as converters from Caffe left it")
def save_dictionary(folder: Path) -> Made:
    kernel, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    np.save(folder / "vgg.npy", {"conv1": {"weights": kernel, "biases": bias}})  # type: ignore[arg-type]
    state = {"conv1.weights": torch.from_numpy(kernel), "conv1.biases": torch.from_numpy(bias)}
    return Truth(folder / "vgg.npy", "npy", roles={"model": state})
