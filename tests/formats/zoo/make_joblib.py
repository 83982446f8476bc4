"""What joblib writes: pickles with the bytes of arrays between the opcodes, plain or compressed."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from zoo.nets import trained
from zoo.specimen import Collection, Made, Truth

COLLECTION = Collection("joblib", "torch")
add = COLLECTION.add


def _dumped(kind: str, compress: Any) -> Callable[[Path], Made]:
    def write(folder: Path) -> Made:
        state = trained()[0].state_dict()
        joblib.dump({name: tensor.numpy() for name, tensor in state.items()}, folder / "m.joblib", compress=compress)
        return Truth(folder / "m.joblib", kind, roles={"model": state}, plain={"model": state})

    return write


for name, kind, compress in (
    ("plain", "pickle", 0),
    ("zlib", "pickle in zlib", 3),
    ("gzip", "pickle in gzip", ("gzip", 3)),
    ("bz2", "pickle in bzip2", ("bz2", 3)),
    ("xz", "pickle in xz", ("xz", 3)),
    ("lzma", "pickle in lzma", ("lzma", 3)),
):
    COLLECTION.put(f"arrays-{name}", f"joblib.dump of arrays by name, compress={compress!r}", _dumped(kind, compress))


@add("joblib.dump of a module, arrays and counters")
def module_and_arrays(folder: Path) -> Made:
    net, optimizer = trained()
    scores = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    held = {"model": net, "optimizer": optimizer.state_dict(), "scores": scores, "epoch": 3}
    joblib.dump(held, folder / "m.joblib")
    return Truth(
        folder / "m.joblib", "pickle", roles={"model": net.state_dict()}, plain={"model": net.state_dict()},
        optimizers={"optimizer": optimizer.state_dict()}, facts={"epoch": 3},
    )  # fmt: skip
