from __future__ import annotations

import gzip
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from holdfast import CheckpointStore, open_checkpoint
from holdfast.errors import CheckpointError
from holdfast.formats import sniff
from holdfast.formats.sniff import Sniffed, a

ONE = {"a.b": torch.ones(2)}


def _torch(path: Path, **how: Any) -> None:
    torch.save(ONE, path, **how)


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


def _onnx(path: Path) -> None:
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x032.1:\x10\n\x0e" + bytes(range(16)))


def _arrays(path: Path, save: Callable[..., None], array: Any) -> None:
    with path.open("wb") as file:
        save(file, array)


READABLE: dict[str, Callable[[Path], object]] = {
    "torch zip": _torch,
    "torch legacy": lambda p: _torch(p, _use_new_zipfile_serialization=False),
    "pickle": lambda p: p.write_bytes(pickle.dumps({"a": 1}, 4)),
    "safetensors": lambda p: safetensors.torch.save_file(ONE, p),
    "npy": lambda p: _arrays(p, np.save, np.ones(2)),
    "npz": lambda p: _arrays(p, np.savez, np.ones(2)),
    "safetensors index": lambda p: p.write_text(json.dumps({"weight_map": {}})),
    "gzip": lambda p: p.write_bytes(gzip.compress(b"x")),
    "TorchScript": lambda p: torch.jit.save(torch.jit.script(nn.Linear(2, 2)), p),
    "torch.export program": lambda p: _zip(p, "a/archive_format", "a/models/model.json"),
}
UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty file": (lambda p: p.write_bytes(b""), "It has 0 bytes"),
    "file of zeros": (lambda p: p.write_bytes(bytes(9000)), "never finished"),
    "Git LFS pointer": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
        "Run `git lfs pull`",
    ),
    "web page": (lambda p: p.write_text("\n<!DOCTYPE html><html>Sign in</html>"), "A server answered with a page"),
    "XML": (lambda p: p.write_text("<?xml version='1.0'?><Error/>"), "no such file"),
    "text": (lambda p: p.write_text("epoch 1 loss 0.3\nepoch 2 loss 0.2 ü\n"), "perhaps a log"),
    "JSON": (lambda p: p.write_text('{"hidden_size": 4}'), "It is a configuration"),
    "ONNX": (_onnx, "Open the PyTorch checkpoint that it was exported from"),
    "HDF5 or Keras": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100)), "numpy.savez"),
    "Keras archive": (lambda p: _zip(p, "config.json", "model.weights.h5"), "numpy.savez"),
    "TensorFlow": (lambda p: p.write_bytes(b"\0" * 3 + b"x" * 90 + bytes.fromhex("57fb808b247547db")),
        "another framework"),
    "TensorFlow Lite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(9)), "converted from"),
    "Torch7 (Lua)": (lambda p: p.write_bytes(b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\r\0\0\0nn.Sequential"), "by name"),
    "MXNet": (lambda p: p.write_bytes(b"\x12\1" + bytes(14) + b"\2" + bytes(7)), "numpy.savez"),
    "ExecuTorch program": (lambda p: p.write_bytes(b"\x1c\0\0\0ET12" + bytes(9)), "it was made from"),
    "mobile TorchScript": (lambda p: p.write_bytes(b"\x1c\0\0\0PTMF" + bytes(9)), "it was made from"),
    "GGUF": (lambda p: p.write_bytes(b"GGUF\3\0\0\0" + bytes(9)), "converted from"),
    "picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9)), "It is an image"),
    "PDF": (lambda p: p.write_bytes(b"%PDF-1.7\n\xff"), "It is a document"),
    "compressed file": (lambda p: p.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(9)), "Decompress it"),
    "MessagePack (Flax)": (lambda p: p.write_bytes(b"\x81\xa6params\x81\xa6kernel"), "another framework"),
    "TensorBoard log": (lambda p: p.write_bytes(b"\x18" + bytes(20) + b"\x1a\x0dbrain.Event:2"), "the curves"),
    "Core ML model": (lambda p: p.write_bytes(b"\x08\x06\x12\x1a\x0a\x09\x0a\x05image" + bytes(20)), "converted from"),
    "TensorRT engine": (lambda p: p.write_bytes(b"ptrt\0\0\0\0" + bytes(9)), "one kind of GPU"),
    "Caffe model": (lambda p: p.write_bytes(b"\x0a\x03vgg\xa2\x06\x10" + bytes(9)), "another framework"),
    "Darknet model": (lambda p: p.write_bytes(bytes(4) + b"\2\0\0\0\5\0\0\0" + b"x" * 90), "no names"),
    "MATLAB file": (lambda p: p.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(99)), "another program"),
    "database": (lambda p: p.write_bytes(b"SQLite format 3\0" + bytes(99)), "holds tables"),
    "program": (lambda p: p.write_bytes(b"\x7fELF" + bytes(99)), "is to be run"),
    "encrypted text": (lambda p: p.write_text("-----BEGIN PGP MESSAGE-----\n"), "Decrypt it"),
    "TorchScript before 1.4": (lambda p: _zip(p, "a/version", "a/model.json", "a/tensors/0"), "torch.jit.load"),
    "unknown": (lambda p: p.write_bytes(b"\xfe\xdc\xba\x98" * 9), "begins like nothing we know"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", READABLE)
def test_what_can_be_read_is_known_by_its_content(kind: str, tmp_path: Path) -> None:
    """The name of a file says nothing: all of these are called the same."""
    READABLE[kind](tmp_path / "model.bin")
    assert sniff(tmp_path / "model.bin")[:2] == (kind, None)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_named_with_the_way_out(kind: str, tmp_path: Path) -> None:
    """Opening it is an error that names the file, what it is, and what to do."""
    write, advice = UNREADABLE[kind]
    path = tmp_path / "model.pth"
    write(path)
    assert sniff(path).kind == kind
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path)
    assert str(refused.value).startswith(f"Opening {path}: it is {a(kind)}; expected a checkpoint. ")
    assert advice in str(refused.value)


def test_kinds_have_their_articles() -> None:
    """Messages are sentences."""
    assert [a(kind) for kind in ("web page", "empty file", "ONNX", "JSON", "unknown", "text")] == [
        "a web page",
        "an empty file",
        "an ONNX file",
        "JSON",
        "of no kind we know",
        "plain text",
    ]


def test_the_same_within_gzip_is_named_too(tmp_path: Path) -> None:
    """A page that a server compressed is still a page."""
    (tmp_path / "m.pth").write_bytes(gzip.compress(b"<html></html>"))
    with pytest.raises(CheckpointError, match=r"it is a web page in gzip; expected a checkpoint"):
        open_checkpoint(tmp_path / "m.pth")


def test_folders_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    """Runs, checkpoints, distributed checkpoints, folders of weights and others."""
    CheckpointStore(tmp_path / "run/checkpoints", background=False).save(1, {"model": nn.Linear(1, 1)})
    assert sniff(tmp_path / "run").kind == "Holdfast run"
    for name, file in (("dcp", ".metadata"), ("hub", "model.safetensors"), ("other", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("x")
    (tmp_path / "empty").mkdir()
    assert sniff(tmp_path / "dcp").kind == "DCP directory"
    assert sniff(tmp_path / "hub") == Sniffed("folder of weights", file="model.safetensors")
    with pytest.raises(CheckpointError, match=r"Reading .*dcp/.metadata: "):
        open_checkpoint(tmp_path / "dcp")
    for name in ("other", "empty"):
        with pytest.raises(CheckpointError, match=f"Opening .*{name}: it is a"):
            open_checkpoint(tmp_path / name)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(CheckpointError, match=r"Opening .*gone.pt: No such file or directory. Check the path."):
        open_checkpoint(tmp_path / "gone.pt")


def test_beginnings_of_files_are_never_a_surprise(tmp_path: Path) -> None:
    """Every file cut to its first bytes, and noise of every length, is told apart or refused, and nothing else."""
    dice, path = random.Random(0), tmp_path / "start.bin"
    starts = [dice.randbytes(n) for n in range(64)]
    for write in (*(w for kind, w in READABLE.items() if kind != "TorchScript"), *(w for w, _ in UNREADABLE.values())):
        write(path)
        whole = path.read_bytes()
        starts += [whole[:n] for n in (1, 2, 3, 5, 9, 17, 40, 100, 600)]
    opened = 0
    for start in starts:
        path.write_bytes(start)
        try:
            opened += open_checkpoint(path).kind is not None
        except CheckpointError:
            continue
    assert opened < 20  # a few are whole: a log is cut to a shorter log, an array of one entry …


def test_a_folder_of_checkpoints_is_answered_with_what_to_name(tmp_path: Path) -> None:
    """What a run has in its `checkpoints` is known for it, and the first steps are named; `run` itself opens."""
    with CheckpointStore(tmp_path / "run/checkpoints", background=False) as store:
        for step in (1, 2):
            store.save(step, {"model": nn.Linear(1, 1)})
    assert sniff(tmp_path / "run/checkpoints") == Sniffed(
        "folder of Holdfast checkpoints", "Name the run, or one of step-00000001, step-00000002."
    )
    with pytest.raises(
        CheckpointError, match=r"it is a folder of Holdfast checkpoints; .* one of step-00000001, step-"
    ):
        open_checkpoint(tmp_path / "run/checkpoints")
    (tmp_path / "other" / "step-00000001").mkdir(parents=True)
    assert sniff(tmp_path / "other").kind == "folder"
    assert open_checkpoint(tmp_path / "run").kind.startswith("Holdfast")


def test_a_frozen_graph_of_tensorflow_is_known_by_its_first_node(tmp_path: Path) -> None:
    """A message that begins with a node's name and operation; one that only begins so is of no kind we know."""
    graph = b"\n\x1c\n\x05input\x12\x0bPlaceholder" + bytes(40)
    (tmp_path / "frozen.pb").write_bytes(graph)
    assert sniff(tmp_path / "frozen.pb").kind == "TensorFlow"
    (tmp_path / "frozen.pb").write_bytes(graph.replace(b"Placeholder", b"\1\2\3laceholder"))
    assert sniff(tmp_path / "frozen.pb").kind == "unknown"


def test_values_of_tensorflow_are_known_by_the_index_beside_them(tmp_path: Path) -> None:
    """The file of values is bytes like any others; its name and its index tell."""
    values = tmp_path / "model.ckpt-10.data-00000-of-00001"
    values.write_bytes(bytes(range(1, 9)) * 20)
    assert sniff(values).kind == "unknown"
    (tmp_path / "model.ckpt-10.index").write_bytes(b"x")
    assert sniff(values).kind == "TensorFlow"


def test_a_save_that_stopped_with_an_error_is_called_that(tmp_path: Path) -> None:
    """torch leaves an archive with its version and no pickle."""
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        torch.save({"model": ONE, "log": lambda: None}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"c.pt: it is a torch zip without a pickle.* Save it again"):
        open_checkpoint(tmp_path / "c.pt")
