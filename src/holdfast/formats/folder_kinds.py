"""Folders that are no checkpoint themselves: where in them it is, or what they are and what to name instead.

Told by names alone, which are always the same: Hugging Face's cache of a repository, DeepSpeed's `latest`, the logs of
Lightning.
"""

from __future__ import annotations

import os

from holdfast.formats.folder import contents, is_state

_LOOKED_AT = 200  # entries of a folder
_SHOWN = 5
_FOREIGN = (".h5", ".msgpack", ".onnx", ".gguf", ".tflite", ".keras")  # weights of other programs
_ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".pkl", ".npz", ".npy", ".joblib", ".tar", ".gz")


def inner_checkpoint(path: str, names: list[str]) -> str | None:
    """Returns where in a folder the one checkpoint is that it leads to; None when it leads to none, or several.

    Args:
        names: of its entries.
    """
    if "snapshots" in names and ("refs" in names or "blobs" in names):
        return _snapshot(path)
    if "latest" in names and (tag := _line(f"{path}/latest")) in names:
        return None if contents(path, names).has_weights else tag
    if "last_checkpoint" in names:  # detectron2 and mmengine keep the name of the newest in it, or its old path
        last = _line(f"{path}/last_checkpoint").rpartition("/")[2]
        return last if last in names and last.endswith(_ENDINGS) else None
    if "MLmodel" in names and os.path.isfile(f"{path}/data/model.pth"):  # noqa: PTH113  # MLflow's PyTorch flavor
        return "data"
    if "checkpoints" in names and os.path.isdir(f"{path}/checkpoints"):  # noqa: PTH112  # see sniff
        held = os.listdir(f"{path}/checkpoints")  # noqa: PTH208
        return "checkpoints" if any(name.endswith(".ckpt") for name in held) else None
    return None


def what_else(names: list[str]) -> str:
    """Returns what a folder of another framework is; "folder" for all others."""
    if "saved_model.pb" in names or ("checkpoint" in names and any(name.endswith(".index") for name in names)):
        return "TensorFlow folder"
    if {"_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"} & set(names):
        return "JAX (Orbax) folder"
    return "folder"


def advice_for(path: str, names: list[str]) -> str | None:
    """Returns which of its entries to name instead of a folder; None when none of them looks like a checkpoint."""
    if pieces := [name for name in names if name.endswith("model_states.pt")]:
        return _deepspeed(pieces)
    files = [name for name in names if name.endswith(_ENDINGS) and not is_state(name)]
    if files:
        return f"It holds {_list(files)}, and none is the obvious one. Name the file."
    folders = [name for name in names[:_LOOKED_AT] if not name.startswith(".") and _holds_weights(f"{path}/{name}")]
    if folders:
        word = "a folder" if len(folders) == 1 else "folders"
        return f"It holds {word} with weights: {_list(folders)}. Name one of these."
    if foreign := [name for name in names if name.endswith(_FOREIGN)]:
        return (
            f"All the weights in it are of other programs ({_list(foreign)}). Fetch PyTorch's (model.safetensors, "
            "pytorch_model.bin) into it, or name one of these to hear what can be done with it."
        )
    return None


def _deepspeed(pieces: list[str]) -> str:
    why = "in pieces that several processes wrote"
    if any(name.startswith("zero_pp_rank") for name in pieces):
        why = "in pieces of parameters (ZeRO stage 3)"
    return (
        f"It is a checkpoint of DeepSpeed with its weights {why} ({_list(pieces)}). Put them together with its "
        "zero_to_fp32.py, and open what that writes."
    )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _holds_weights(path: str) -> bool:
    if not os.path.isdir(path):  # noqa: PTH112
        return False
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208
    except OSError:
        return False
    return ".metadata" in names or contents(path, names).has_weights or any(n.endswith(_ENDINGS) for n in names)


def _snapshot(path: str) -> str | None:
    """Returns the folder of the commit that `main` is, or of the only one there is."""
    try:
        there = sorted(os.listdir(f"{path}/snapshots"))  # noqa: PTH208
    except OSError:
        return None
    main = _line(f"{path}/refs/main")
    if main in there:
        return f"snapshots/{main}"
    return f"snapshots/{there[0]}" if len(there) == 1 else None


def _line(path: str) -> str:
    """Returns the one line of a small file of text; nothing when it is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(200).decode("utf-8", "replace").strip()
    except OSError:
        return ""
