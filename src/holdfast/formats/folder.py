"""Folders as programs leave them behind: weights beside optimizers, schedules, random states and what is known of them.

transformers, accelerate and Lightning write each part into a file of its own, under names that are always the same.
`contents` tells by the names alone what there is; `read_folder` puts the parts together as one tree.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.slices import read_slices

_MAX_JSON = 64 << 20  # bytes; the history of a long training has a few
_MAX_PARTS = 256  # files beside the weights
_SLICE = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")
_SHARD = re.compile(r".*-\d{3,}-of-\d{3,}\.(safetensors|bin)")
_STATE = re.compile(
    r"(optimizer|scheduler|sampler)(_\d+)?\.(bin|pt)|scaler(_\d+)?\.pt|random_states_\d+\.pkl|"
    r"rng_state(_\d+)?\.pth|custom_checkpoint_\d+\.pkl|training_args\.bin|trainer_state\.json"
)
_ABOUT = ("config.json",)  # read with the others, no reason to read a folder as a whole
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_SINGLE = (".safetensors", ".bin", ".ckpt", ".pth", ".pt")
_NUMBERED = re.compile(r"(?:pytorch_)?model(_\d+)?\.(safetensors|bin)")
_NUMBERED_FOLDER = re.compile(r"(pytorch_model_fsdp|optimizer)_\d+")

Open = Callable[[str], Any]


class Contents(NamedTuple):
    """What a folder holds that we read.

    Attributes:
        weights: role → file, a folder of its own, or index: "model", "model_1".
        slices: files of slices that only together are weights.
        states: files with what is not weights.
        folders: folders of torch.distributed.checkpoint within it.
    """

    weights: dict[str, str]
    slices: list[str]
    states: list[str]
    folders: list[str]

    @property
    def only(self) -> str | None:
        """The one file, when there is nothing else to read with it."""
        alone = not (self.slices or self.folders or set(self.states) - set(_ABOUT))
        return next(iter(self.weights.values())) if len(self.weights) == 1 and alone else None

    @property
    def has_weights(self) -> bool:
        """Whether there are weights that can be told from everything else."""
        return bool(self.weights or self.slices or any(not name.startswith("optimizer") for name in self.folders))


def contents(path: str, names: list[str]) -> Contents:
    """Returns what a folder holds, by the names of its entries."""
    states = [name for name in names if _STATE.fullmatch(name) or name in _ABOUT]
    left = [name for name in names if name not in states and not name.startswith(".")]
    folders = [n for n in left if _NUMBERED_FOLDER.fullmatch(n) and os.path.isfile(f"{path}/{n}/.metadata")]  # noqa: PTH113
    slices = [name for name in left if _SLICE.fullmatch(name)]
    return Contents(_weights([name for name in left if name not in slices]), slices, states, folders)


def _weights(names: list[str]) -> dict[str, str]:
    for suffix in _INDEXES:
        found = [name for name in names if name.endswith(suffix)]
        usual = [name for name in found if name in (f"model{suffix}", f"pytorch_model{suffix}")]
        if len(found) == 1 or len(usual) == 1:
            return {"model": (usual or found)[0]}
    whole = [name for name in names if not _SHARD.fullmatch(name)]
    for suffix in _SINGLE:
        found = [name for name in whole if name.endswith(suffix)]
        numbered = {f"model{hit[1] or ''}": n for n in found if (hit := _NUMBERED.fullmatch(n))}
        if "model" in numbered:
            return numbered
        if len(found) == 1:
            return {"model": found[0]}
        if found:
            return {}  # several, and none that is obvious
    return {}


def read_folder(path: str, held: Contents, open_file: Open) -> dict[str, Any]:
    """Returns the parts of a folder as one tree: {"model": …, "optimizer": …, "scheduler": …, "trainer_state": …}.

    Args:
        held: what `contents` found in it.
        open_file: path → the tree of a file, or of a folder within this one.

    Raises:
        CheckpointError: a file is damaged or is something else than its name says; the message names it.
    """
    if len(held.states) + len(held.folders) > _MAX_PARTS:
        raise CheckpointError(
            f"Reading {path}: it holds {len(held.states) + len(held.folders):,} states; expected {_MAX_PARTS} at most. "
            "Name the file with the weights instead of the folder."
        )
    tree: dict[str, Any] = {}
    if held.slices:
        tree["model"] = read_slices(path, held.slices)
    for role, name in held.weights.items():
        tree.setdefault(role, open_file(f"{path}/{name}"))
    for name in held.folders:
        tree["model" if name.startswith("pytorch_model") else name] = open_file(f"{path}/{name}")
    for name in held.states:
        part, _, kind = name.rpartition(".")
        tree[part] = _json(f"{path}/{name}") if kind == "json" else open_file(f"{path}/{name}")
    return tree


def about(path: str) -> dict[str, Any]:
    """Returns what a folder says of the one file of weights in it: {"config": …}, of its `config.json`; or nothing.

    Raises:
        CheckpointError: it is no JSON, or far too large.
    """
    there = [name for name in _ABOUT if os.path.isfile(f"{path}/{name}")]  # noqa: PTH113
    return {name.removesuffix(".json"): _json(f"{path}/{name}") for name in there}


def _json(path: str) -> Any:
    file = ByteFile(path)
    if file.num_bytes > _MAX_JSON:
        raise CheckpointError(f"Reading {path}: {file.num_bytes:,} bytes of JSON. Is it the right file?")
    try:
        return json.loads(file.read(0, file.num_bytes))
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"Reading {path}: it is no JSON ({error}). Take another copy of it.") from error


def written_by(held: Contents) -> str | None:
    """Returns the program that leaves such files, where their names say it."""
    if any(name.startswith(("trainer_state", "training_args")) for name in held.states):
        return "transformers"
    if any(name.startswith(("random_states_", "custom_checkpoint_")) for name in held.states):
        return "accelerate"
    return None
