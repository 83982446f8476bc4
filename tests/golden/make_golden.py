"""Writes the golden checkpoint of the present format version into `v2/` beside this file, the same bytes everywhere.

The files are never rewritten once a version is out: they prove that later code still opens them. A new format version
gets a folder of its own.

Run: python tests/golden/make_golden.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from holdfast.checkpoints import CheckpointStore, write_single_file
from holdfast.checkpoints.tensors import DTYPE_NAMES

STEP = 3
DTYPES = (  # those of version 1 when it came out
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2),
    torch.complex64,
)
METADATA = {"epoch": 1, "classes": ["ants", "bees", "Käfer"], "architecture": {"name": "linear", "inputs": 3}}


def golden_parts() -> dict[str, Any]:
    """Returns what the golden checkpoint holds; every value is written out, none is random."""
    weight = torch.tensor([[0.5, -1.25, 3.0], [-0.0, 1e-8, 65504.0]])
    return {
        "model": {"head.weight": weight, "tied.weight": weight, "head.bias": torch.tensor([1.0, -2.0])},
        "optimizer": {
            "state": {
                "model.head.weight": {"momentum_buffer": torch.arange(6.0).reshape(2, 3) / 8},
                "model.head.bias": {"momentum_buffer": torch.tensor([0.125, -0.25])},
            },
            "param_groups": [
                {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 5e-4, "nesterov": False, "maximize": False}
                | {"foreach": None, "differentiable": False, "fused": None, "params": ["model.head.weight"]},
                {"lr": 0.01, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False}
                | {"foreach": None, "differentiable": False, "fused": None, "params": ["model.head.bias"]},
            ],
        },
        "dtypes": {DTYPE_NAMES[dtype]: torch.tensor([[0, 1], [1, 1]]).to(dtype) for dtype in DTYPES}
        | {"scalar": torch.tensor(7), "empty": torch.empty(0, 2), "column": torch.tensor([[0.0, 2.0], [1.0, 3.0]])},
        "extra": {
            "plain": [None, True, -5, 2**100, 0.1, "grüße", []],
            "floats": [float("inf"), float("-inf"), float("nan"), -0.0],
            "tuple": (1, (2.5, "x")),
            "keys": {0: "a", "0": "b", (1, 2): "c"},
            "dollar": {"$tensor": "not one"},
            "bytes": b"\x00\xffPK",
            "complex": 1 - 2j,
            "sets": [{1, 2, 3}, frozenset({"a"})],
            "array": np.array([[1, 2], [3, 4]], np.uint16),
            "scalar": np.float32(0.1),
            "size": torch.Size([2, 3]),
            "dtype": torch.bfloat16,
        },
    }


def golden_kinds() -> dict[str, Any]:
    """Returns what version 2 has words for and version 1 had none: types without a name, memory orders."""
    picture = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    columns = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]).T
    return {
        "channels_last": picture,
        "columns": columns,
        "columns_again": columns,
        "complex128": torch.tensor([1 - 2j, 0.5j], dtype=torch.complex128),
        "float8_e8m0fnu": torch.tensor([1.0, 2.0, 4.0]).to(torch.float8_e8m0fnu),
    }


def write_golden(folder: Path) -> None:
    """Writes `step-00000003` and `model.safetensors` into `folder`, as if at a fixed time by a fixed version."""
    parts = golden_parts()
    with (
        mock.patch("holdfast.checkpoints.store.time.time", return_value=1_790_000_000.5),
        mock.patch("holdfast.checkpoints.manifest.importlib.metadata.version", return_value="0.1.0"),
    ):
        store = CheckpointStore(folder, background=False)
        store.save(STEP, {**parts, "kinds": golden_kinds()}, {"loss": 0.75}, METADATA)
        store.annotate(STEP, {"accuracy": 0.8125})
    model = {name: tensor for name, tensor in parts["model"].items() if name != "tied.weight"}
    write_single_file(folder / "model.safetensors", model, {"step": STEP, **METADATA})


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("v2"))
