"""Every layout that `torch.save` has, and what people put around it; every type and every kind of view of a tensor."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import functools
import gzip
import io
import pickle
import runpy
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.nets import Tied, copied, small_net, trained
from zoo.specimen import Collection, Made, Refusal, Truth

COLLECTION = Collection("torch")
add = COLLECTION.add
OLD_WRITERS = Path(__file__).parents[2] / "unit/formats/conftest.py"


def _saved(folder: Path, *, kind: str, **how: Any) -> Made:
    net, optimizer = trained()
    tree = {"epoch": 3, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save({**tree, "loss": 0.25}, folder / "c.pt", **how)
    return Truth(
        folder / "c.pt",
        kind,
        roles={"model": net.state_dict()},
        plain={"model": net.state_dict()},
        optimizers={"optimizer_state_dict": optimizer.state_dict()},
        facts={"epoch": 3, "loss": 0.25},
    )


def _with_protocol(protocol: int, old: bool) -> Callable[[Path], Made]:
    kind = "torch legacy" if old else "torch zip"
    how = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not old}
    return functools.partial(_saved, kind=kind, **how)


for number in range(1, 6):  # torch refuses protocol 0
    COLLECTION.put(f"zip-protocol-{number}", f"torch.save, pickle protocol {number}", _with_protocol(number, False))
    COLLECTION.put(
        f"legacy-protocol-{number}",
        f"torch.save of before 1.6, pickle protocol {number}",
        _with_protocol(number, True),
    )


@add("torch.save without checksums")
def zip_without_checksums(folder: Path) -> Made:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        return _saved(folder, kind="torch zip")
    finally:
        torch.serialization.set_crc32_options(before)


@add("torch.save, packed again by a zip program")
def zip_packed_again(folder: Path) -> Made:
    made = _saved(folder, kind="torch zip")
    data = made.path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(made.path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name.replace("c/", "another name/"), old.read(name))
    return made


@add("torch.save on a big-endian machine")
def zip_big_endian(folder: Path) -> Made:
    net = small_net()
    state = {name: tensor for name, tensor in net.state_dict().items() if tensor.dtype == torch.float32}
    torch.save({"state_dict": state}, folder / "c.pt")
    with zipfile.ZipFile(folder / "c.pt") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(folder / "c.pt", "w") as new:
        for name, data in entries.items():
            values = torch.frombuffer(bytearray(data), dtype=torch.uint8) if "/data/" in name else None
            turned = data if values is None else bytes(values.view(-1, 4).flip(1).reshape(-1))
            new.writestr(name, b"big" if name.endswith("byteorder") else turned)
    return Truth(folder / "c.pt", "torch zip", roles={"model": state}, plain={"model": state})


@add("torch.save, compressed with gzip")
def zip_in_gzip(folder: Path) -> Made:
    made = _saved(folder, kind="torch zip in gzip")
    made.path.write_bytes(gzip.compress(made.path.read_bytes()))
    return made


@add("torch.save of before 1.6, compressed with gzip")
def legacy_in_gzip(folder: Path) -> Made:
    made = _saved(folder, kind="torch legacy in gzip", _use_new_zipfile_serialization=False)
    made.path.write_bytes(gzip.compress(made.path.read_bytes()))
    return made


@add("torch.save of before 0.1.10 (a tar archive)")
def tar_layout(folder: Path) -> Made:
    """Written by our own account of the layout: no torch that wrote it can be installed any more."""
    net = small_net()
    state = dict(net.state_dict())
    runpy.run_path(str(OLD_WRITERS))["_write_tar"](state, folder / "c.pt")
    return Truth(folder / "c.pt", "torch tar", roles={"model": state}, plain={"model": state})


def _pickled(folder: Path, protocol: int) -> Made:
    net = small_net()
    (folder / "c.pkl").write_bytes(pickle.dumps({"epoch": 2, "net": net.state_dict()}, protocol))
    return Truth(folder / "c.pkl", "pickle", roles={"model": net.state_dict()}, facts={"epoch": 2})


for number in range(6):
    COLLECTION.put(
        f"pickle-protocol-{number}",
        f"pickle.dump of tensors, protocol {number}",
        functools.partial(_pickled, protocol=number),
    )


def _types() -> dict[str, Tensor]:
    names = (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 complex128 "
        "complex32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
    )
    made = {}
    for name in names.split():
        dtype = getattr(torch, name)
        size = torch.empty(0, dtype=dtype).element_size()
        bits = torch.arange(6 * size, dtype=torch.uint8) + 1
        made[f"t.{name}"] = ((bits % 2).bool()[:6] if name == "bool" else bits.view(dtype)).reshape(2, 3)
    return made


@add("torch.save of every type of number")
def every_type(folder: Path) -> Made:
    truth = _types()
    torch.save(truth, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": truth})


@add("torch.save of before 1.6, of every type of number it has")
def every_type_legacy(folder: Path) -> Made:
    truth = _types()
    torch.save(truth, folder / "c.pt", _use_new_zipfile_serialization=False)
    return Truth(folder / "c.pt", "torch legacy", roles={"model": truth})


@add("torch.save of views: transposed, sliced, expanded, conjugated, empty, scalar")
def views(folder: Path) -> Made:
    base = torch.arange(24.0).reshape(4, 6)
    complex_ = torch.complex(base, base + 1)
    truth = {
        "v.transposed": base.t(), "v.rows": base[1:3], "v.every_second": base[:, ::2], "v.empty": torch.empty(0, 3),
        "v.expanded": base[:1].expand(3, 6), "v.conj": complex_.conj(), "v.imaginary": complex_.clone().conj().imag,
        "v.scalar": torch.tensor(2.5), "v.channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "v.real": torch.view_as_real(complex_.clone())[1], "v.bits": base.clone().view(torch.int32),
    }  # fmt: skip
    torch.save(truth, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": truth})


@add("torch.save of before 1.6, tied weights and views of one storage")
def ties_legacy(folder: Path) -> Made:
    base = torch.arange(12.0)
    truth = {"a.weight": base[:6].view(2, 3), "b.weight": base[6:].view(2, 3), "c.weight": base[:6].view(2, 3)}
    torch.save(truth, folder / "c.pt", _use_new_zipfile_serialization=False)
    return Truth(folder / "c.pt", "torch legacy", roles={"model": truth})


@add("torch.save of tied weights")
def ties(folder: Path) -> Made:
    net = Tied()
    torch.save({"model": net.state_dict(), "step": 7}, folder / "c.pt")
    state = net.state_dict()
    return Truth(folder / "c.pt", "torch zip", roles={"model": state}, plain={"model": state}, facts={"step": 7})


@add("torch.save of parameters, gradients with hooks and all")
def parameters(folder: Path) -> Made:
    net, _ = trained()
    named = OrderedDict(net.named_parameters())
    next(net.parameters()).register_hook(lambda gradient: gradient * 1)
    torch.save({"params": OrderedDict((n, nn.Parameter(p)) for n, p in named.items())}, folder / "c.pt")
    return Truth(folder / "c.pt", "torch zip", roles={"model": copied(named)}, plain={"model": copied(named)})


@add("torch.save cut off")
def half_a_file(folder: Path) -> Made:
    made = _saved(folder, kind="torch zip")
    data = made.path.read_bytes()
    made.path.write_bytes(data[: len(data) // 2])
    return Refusal(made.path, "zip archive with no table of contents at its end .*damaged or was cut")


@add("torch.save of before 1.6, cut off")
def half_a_legacy_file(folder: Path) -> Made:
    made = _saved(folder, kind="torch legacy", _use_new_zipfile_serialization=False)
    data = made.path.read_bytes()
    made.path.write_bytes(data[: len(data) - 20])
    return Refusal(made.path, "cut or is damaged; take another copy")


@add("torch.save of no weights at all")
def no_weights(folder: Path) -> Made:
    torch.save({"epoch": 3, "loss": 0.5}, folder / "c.pt")
    return Refusal(folder / "c.pt", "it is a torch zip without weights")


@add("torch.save, packed with tar and gzip")
def within_a_tar(folder: Path) -> Made:
    made = _saved(folder, kind="torch zip in tar archive in gzip")
    with tarfile.open(folder / "c.tar.gz", "w:gz") as archive:
        archive.add(made.path, "weights/c.pt")
    made.path = folder / "c.tar.gz"
    return made
