"""What the tests of foreign files share: trees worth saving, and writers of layouts that torch no longer writes."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def net() -> nn.Module:
    """A small net with parameters, buffers and an optimizer's worth of layers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


@pytest.fixture
def training(net: nn.Module) -> dict[str, Any]:
    """What many training scripts save: counters, arguments, weights, an optimizer that has stepped, a schedule."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "best_acc": np.float64(0.5),
        "args": Namespace(lr=0.01, arch="small"),
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
    }


Write = Callable[[Any, Path], None]


def _zip(value: Any, path: Path, **how: Any) -> None:
    torch.save(value, path, **how)


def _legacy(value: Any, path: Path, **how: Any) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False, **how)


def _packed_again(value: Any, path: Path, method: int) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name.replace("archive/", "x/"), old.read(name))


def _gzip(value: Any, path: Path) -> None:
    import gzip

    buffer = io.BytesIO()
    torch.save(value, buffer)
    path.write_bytes(gzip.compress(buffer.getvalue()))


LAYOUTS: dict[str, Write] = {
    "zip": _zip,
    **{f"zip-{p}": lambda v, f, p=p: _zip(v, f, pickle_protocol=p) for p in (1, 3, 4, 5)},  # type: ignore[misc]
    "legacy": _legacy,
    **{f"legacy-{p}": lambda v, f, p=p: _legacy(v, f, pickle_protocol=p) for p in (1, 3, 4, 5)},  # type: ignore[misc]
    "zip-deflated": lambda v, f: _packed_again(v, f, zipfile.ZIP_DEFLATED),
    "zip-unaligned": lambda v, f: _packed_again(v, f, zipfile.ZIP_STORED),
    "gzip": _gzip,
}


@pytest.fixture(params=LAYOUTS)
def write(request: pytest.FixtureRequest) -> Write:
    """Writes a value in one of the layouts that this torch, or a zip program, writes."""
    return LAYOUTS[request.param]


_STORAGES = {torch.float32: "FloatStorage", torch.int64: "LongStorage", torch.float64: "DoubleStorage"}


class _ByKey(pickle.Pickler):
    """Writes tensors as references by key."""

    keys: dict[int, int]

    def persistent_id(self, value: Any) -> str | None:
        return str(self.keys[id(value)]) if id(value) in self.keys else None


@pytest.fixture
def write_tar() -> Write:
    """Writes tensors by name as torch did before 0.1.10."""
    return _write_tar


def _write_tar(value: dict[str, Tensor], path: Path) -> None:
    """Tensors over the same memory become views of one storage."""
    storages, tensors, keys, known = io.BytesIO(), io.BytesIO(), dict[int, int](), dict[int, int]()
    wholes: list[tuple[int, Tensor]] = []
    for tensor in value.values():
        place = tensor.untyped_storage().data_ptr()
        if place not in known:
            known[place] = 1000 + len(known)
            wholes.append((known[place], tensor))
    pickle.dump(len(wholes), storages, 2)
    for key, tensor in wholes:
        name = _STORAGES[tensor.dtype].encode()
        # The pickle of (key, device, type), the type by name.
        storages.write(b"\x80\x02" + pickle.dumps(key, 2)[2:-1] + b"X\x03\x00\x00\x00cpuctorch\n" + name + b"\n\x87.")
        data = bytes(tensor.untyped_storage())
        storages.write(struct.pack("<q", len(data) // tensor.element_size()) + data)
    pickle.dump([], storages, 2)
    pickle.dump(len(value), tensors, 2)
    for number, tensor in enumerate(value.values()):
        keys[id(tensor)] = number
        pickle.dump((number, known[tensor.untyped_storage().data_ptr()], None), tensors, 2)
        numbers = [*tensor.shape, *tensor.stride(), tensor.storage_offset()]
        tensors.write(struct.pack(f"<i4x{len(numbers)}q", tensor.ndim, *numbers))
    tree = io.BytesIO()
    pickler = _ByKey(tree, 2)
    pickler.keys = keys
    pickler.dump(value)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            ("sys_info", io.BytesIO()),
            ("pickle", tree),
            ("tensors", tensors),
            ("storages", storages),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))
