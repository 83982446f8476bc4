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

_MAX_JSON = 64 << 20  # bytes; the history of a long training has a few
_MAX_PARTS = 256  # files beside the weights
_MAX_SHARDS = 1000
# Compiled at first use: compiling them all takes a tenth of a whole look into a file.
_SLICE = r"shard-\d+-model-\d+-of-\d+\.safetensors"
_SHARD = r"(.*)-(\d{3,})-of-(\d{3,})\.(safetensors|bin)"
_STATE = (
    r"(\w+[._])?(optimizer|scheduler|sampler)(_\d+)?\.(bin|pth?)|pytorch_variables\.pth|scaler(_\d+)?\.pt|random_states_\d+\.pkl|"
    r"rng_state(_\d+)?\.pth|custom_checkpoint_\d+\.pkl|training_args\.bin|trainer_state\.json"
)
_ABOUT = ("config.json",)  # read with the others, no reason to read a folder as a whole
_INDEXES = (".safetensors.index.json", ".bin.index.json")
_SINGLE = (".safetensors", ".bin", ".ckpt", ".pth", ".pt")
_NUMBERED = r"(?:pytorch_)?model(_\d+)?\.(safetensors|bin)"
_VARIANT = r"\.(fp16|bf16|fp32|non_ema|ema)(?=\.(safetensors|bin)$)"  # diffusers keeps several side by side
_PIPELINE = "model_index.json"  # diffusers' table of the models of a pipeline, each in a folder of its own
_DEEPSPEED = "mp_rank_00_model_states.pt"  # all weights, but for ZeRO stage 3 and model parallel training
_NUMBERED_FOLDER = r"(pytorch_model_fsdp|optimizer)_\d+"

Open = Callable[[str], Any]


class Contents(NamedTuple):
    """What a folder holds that we read.

    Attributes:
        weights: role → file, a folder of its own, or index: "model", "model_1".
        slices: files of slices that only together are weights.
        states: files with what is not weights.
        folders: folders of torch.distributed.checkpoint within it.
        pieces: shards that have lost their index; only together they are weights.
    """

    weights: dict[str, str]
    slices: list[str]
    states: list[str]
    folders: list[str]
    pieces: tuple[str, ...] = ()

    @property
    def only(self) -> str | None:
        """The one file, when there is nothing else to read with it."""
        alone = not (self.slices or self.folders or self.pieces or set(self.states) - set(_ABOUT))
        first = next(iter(self.weights.values()), "")
        return first if len(self.weights) == 1 and alone and "/" not in first else None

    @property
    def has_weights(self) -> bool:
        """Whether there are weights that can be told from everything else."""
        return bool(
            self.weights or self.slices or self.pieces or any(not name.startswith("optimizer") for name in self.folders)
        )


def contents(path: str, names: list[str]) -> Contents:
    """Returns what a folder holds, by the names of its entries."""
    states = [name for name in names if re.fullmatch(_STATE, name) or name in _ABOUT]
    left = [name for name in names if name not in states and not name.startswith(".")]
    folders = [n for n in left if re.fullmatch(_NUMBERED_FOLDER, n) and os.path.isfile(f"{path}/{n}/.metadata")]  # noqa: PTH113
    slices = [name for name in left if re.fullmatch(_SLICE, name)]
    weights = _weights([name for name in left if name not in slices])
    if _PIPELINE in names:
        weights = _pipeline(path, left) or weights
    pieces = () if weights or slices else tuple(name for name in left if re.fullmatch(_SHARD, name))
    return Contents(weights, slices, states, folders, pieces)


def is_state(name: str) -> bool:
    """Returns whether a file of this name holds what is not weights: an optimizer's state, a random state …."""
    return bool(re.fullmatch(_STATE, name))


def shards_of(name: str) -> list[str]:
    """Returns the names of all shards of the set that a file is called to belong to; none for any other name."""
    hit = re.fullmatch(_SHARD, name)
    total = int(hit[3][:9]) if hit else 0
    if hit is None or not 1 < total <= _MAX_SHARDS:
        return []
    return [f"{hit[1]}-{number:0{len(hit[2])}d}-of-{hit[3]}.{hit[4]}" for number in range(1, total + 1)]


def _pipeline(path: str, names: list[str]) -> dict[str, str]:
    """Returns role → file within its folder, for the models of a pipeline of diffusers."""
    table = _json(f"{path}/{_PIPELINE}")
    models = table if isinstance(table, dict) else {}
    found: dict[str, str] = {}
    for role in (name for name in names if name in models and os.path.isdir(f"{path}/{name}")):  # noqa: PTH112
        inner = _weights(sorted(os.listdir(f"{path}/{role}")))  # noqa: PTH208
        if "model" in inner:
            found[role] = f"{role}/{inner['model']}"
    return found


def _weights(names: list[str]) -> dict[str, str]:
    if _DEEPSPEED in names and not any(
        re.fullmatch(r"(mp_rank_0*[1-9]\d*|layer_.*)_?model_states\.pt", n) for n in names
    ):
        return {"model": _DEEPSPEED}
    for suffix in _INDEXES:
        found = [name for name in names if name.endswith(suffix)]
        usual = [name for name in found if name in (f"model{suffix}", f"pytorch_model{suffix}")]
        if len(found) == 1 or len(usual) == 1:
            return {"model": (usual or found)[0]}
    whole = [name for name in names if not re.fullmatch(_SHARD, name)]
    whole = [name for name in whole if not (re.search(_VARIANT, name) and re.sub(_VARIANT, "", name) in names)]
    for suffix in _SINGLE:
        found = [name for name in whole if name.endswith(suffix)]
        numbered = {f"model{hit[1] or ''}": n for n in found if (hit := re.fullmatch(_NUMBERED, n))}
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
        from holdfast.formats.slices import read_slices

        tree["model"] = read_slices(path, held.slices)
    if held.pieces:
        tree["model"] = _joined(path, held.pieces, open_file)
    for role, name in held.weights.items():
        tree.setdefault(role, open_file(f"{path}/{name}"))
    for name in held.folders:
        tree["model" if name.startswith("pytorch_model") else name] = open_file(f"{path}/{name}")
    for name in held.states:
        part, _, kind = name.rpartition(".")
        tree[part] = _json(f"{path}/{name}") if kind == "json" else open_file(f"{path}/{name}")
    return tree


def _joined(path: str, pieces: tuple[str, ...], open_file: Open) -> dict[str, Any]:
    """Returns the tensors of all shards of a set that has no index."""
    expected = shards_of(pieces[0]) or list(pieces)
    if missing := [name for name in expected if name not in pieces]:
        raise CheckpointCorrupt(
            f"Reading {path}: it holds {len(pieces)} of {len(expected)} shards and no index; missing: "
            f"{', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}. Fetch them into the same folder."
        )
    if strange := [name for name in pieces if name not in expected]:
        raise CheckpointError(
            f"Reading {path}: {strange[0]} is of another set of shards than {expected[0]}, and there is no index; "
            "expected one set. Move the others elsewhere."
        )
    made: dict[str, Any] = {}
    for name in pieces:
        tensors = open_file(f"{path}/{name}")
        if not isinstance(tensors, dict) or made.keys() & tensors.keys():
            raise CheckpointError(
                f"Reading {path}: {name} holds no names to tensors, or some that other shards hold too, and there is "
                "no index to say which. Fetch the index (*.index.json) into the same folder."
            )
        made |= tensors
    return made


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
    if any("/" in name for name in held.weights.values()):
        return "diffusers"
    if any(name.startswith(("trainer_state", "training_args")) for name in held.states):
        return "transformers"
    if any(name.startswith(("random_states_", "custom_checkpoint_")) for name in held.states):
        return "accelerate"
    return None
