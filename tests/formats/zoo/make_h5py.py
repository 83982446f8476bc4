"""Keras' files, old and new, as h5py writes them: refused, with a word on what to do."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np

from zoo.specimen import Collection, Made, Refusal

COLLECTION = Collection("h5py")
add = COLLECTION.add


def _h5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["dense/kernel"] = np.ones((2, 3), np.float32)
    return buffer.getvalue()


@add("HDF5 (Keras .h5)")
def keras_h5(folder: Path) -> Made:
    (folder / "model.h5").write_bytes(_h5())
    return Refusal(folder / "model.h5", "it is an HDF5 or Keras file; .*numpy.savez and open the .npz")


@add("a Keras 3 archive")
def keras_archive(folder: Path) -> Made:
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", _h5())
    return Refusal(folder / "model.keras", "it is a Keras archive; .*numpy.savez and open the .npz")
