"""What people take for a checkpoint and is none that has weights for us: each must be called what it is."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from zoo.specimen import Collection, Made, Refusal

COLLECTION = Collection("pillow")
add = COLLECTION.add

LFS = """version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 102530333
"""
PAGE = """<!DOCTYPE html>
<html><head><title>Sign in</title></head><body>Please sign in to download resnet50.pth.</body></html>
"""
DENIED = "<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
NOISE = bytes((i * 97 + 13) % 256 for i in range(500))
LOG = "\n".join(f"epoch {number} loss {1 / (number + 1):.4f} acc {number}" for number in range(200))


def _bytes(name: str, data: bytes | str, message: str) -> Callable[[Path], Made]:
    def write(folder: Path) -> Made:
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return Refusal(folder / name, message)

    return write


def _picture(kind: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(buffer, kind)
    return buffer.getvalue()


for name, what, data, message in (
    ("model.pth", "a Git LFS pointer", LFS, "it is a Git LFS pointer; .*git lfs pull"),
    ("resnet.pth", "a web page, saved under the file's name", PAGE, "it is a web page; .*Download it again"),
    ("error.bin", "an error of a server, as XML", DENIED, "XML"),
    ("train.log", "a log", LOG, "it is plain text; .*perhaps a log"),
    ("history.csv", "a table of figures", "epoch,loss,accuracy\n1,0.5,0.8\n2,0.4,0.85\n", "it is plain text"),
    ("config.json", "a configuration", json.dumps({"model_type": "vit", "hidden_size": 8}), "it is JSON; .*config"),
    ("empty.pt", "a file of no bytes", b"", "it is an empty file; .*never began"),
    ("zeros.pt", "a file of zeros", bytes(9000), "it is a file of zeros; .*never finished"),
    ("model.tflite", "TensorFlow Lite", b"\x1c\0\0\0TFL3" + bytes(200), "it is a TensorFlow Lite"),
    ("model.gguf", "GGUF", b"GGUF\3\0\0\0" + bytes(200), "it is a GGUF file; .*quantised for inference"),
    ("noise.pt", "noise", NOISE, "it is of no kind we know; .*It begins like nothing we know"),
):  # fmt: skip
    COLLECTION.put(name.replace(".", "-"), what, _bytes(name, data, message))


@add("a PNG")
def png(folder: Path) -> Made:
    return _bytes("weights.png", _picture("PNG"), "it is a picture; .*It is an image")(folder)


@add("a JPEG under another name")
def jpeg(folder: Path) -> Made:
    return _bytes("best.pth", _picture("JPEG"), "it is a picture; .*It is an image")(folder)


@add("a zip archive with other things")
def other_zip(folder: Path) -> Made:
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("code/train.py", "print(1)")
    return Refusal(folder / "code.zip", "it is a zip archive; .*Unpack it")


@add("a folder of code")
def other_folder(folder: Path) -> Made:
    (folder / "run").mkdir()
    (folder / "run" / "train.py").write_text("print(1)")
    return Refusal(folder / "run", "it is a folder; .*Name the file in it")


@add("an empty folder")
def empty_folder(folder: Path) -> Made:
    (folder / "run").mkdir()
    return Refusal(folder / "run", "it is an empty folder; .*Check the path")
