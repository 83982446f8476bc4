"""The kinds of files that weights are written as, one function a kind. Each tensor is read when its turn comes.

`.pth` is the one pickle that Holdfast ever makes, for tools that read nothing else, and only when it is asked for.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.checkpoints import files, write_single_file
from holdfast.checkpoints.contents import Contents, plain_json
from holdfast.checkpoints.digest import Readable
from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.stored_tensor import store_tensor
from holdfast.checkpoints.tensors import DTYPE_NAMES, tensor_bytes, write_tensors
from holdfast.errors import UnsupportedState, first_of
from holdfast.toolbox.outgoing import Outgoing, OutgoingModel, OutgoingTensor
from holdfast.toolbox.publishing import publish_file, publish_folder

_INDEX = "model.safetensors.index.json"
_NUMPY = {
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64,
    torch.uint32, torch.uint16, torch.uint8, torch.bool, torch.complex64, torch.complex128,
}  # fmt: skip


def write_safetensors(target: Path, content: Outgoing) -> None:
    """Writes a safetensors file; of one of ours, a model file with what it knows beside the weights.

    Tied tensors are written once and noted in the header, as `safetensors.torch.save_model` does; a model file of ours
    has them under each name.

    Raises:
        UnsupportedState: tensors of types that safetensors has no name for, all of them by name.
        CheckpointError: the disk refused.
    """
    model = content.model
    _refuse_unnamed(target, model)
    if content.facts:
        tensors = {name: tensor.read() for name, tensor in model.all_names().items()}
        facts = {**content.facts, "step": content.step, "metrics": dict(content.metrics)}
        write_single_file(target, tensors, plain_json(facts, str(target)))
        return
    header = {**content.header, "format": "pt"}
    publish_file(target, lambda aside: _write_shard(aside, *_with_notes(model, header)))


def write_sharded(target: Path, content: Outgoing, shard_bytes: int) -> int:
    """Writes a folder of safetensors files of at most `shard_bytes` each, and their index; returns how many.

    One that fits into a single file is written as `model.safetensors` without an index. A tensor that is larger than a
    shard gets one of its own.

    Source: the layout of Hugging Face's transformers, `model-00001-of-00003.safetensors`.

    Raises: as `write_safetensors`.
    """
    model = content.model
    _refuse_unnamed(target, model)
    shards = _shards(model.tensors, shard_bytes)
    count = len(shards)
    names = (
        ["model.safetensors"]
        if count == 1
        else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    )

    def fill(folder: Path) -> None:
        for name, shard in zip(names, shards, strict=True):
            ties = {alias: kept for alias, kept in model.ties.items() if kept in shard}
            _write_shard(folder / name, *_with_notes(OutgoingModel(shard, ties), {"format": "pt"}))
        if count > 1:
            weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
            noted = {alias: kept for alias, kept in model.ties.items() if alias != "total_size"}
            index = {
                "metadata": {"total_size": model.num_bytes, **noted},
                "weight_map": dict(sorted(weight_map.items())),
            }
            files.write_durably(folder / _INDEX, [(json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode()])

    publish_folder(target, fill)
    return count


def write_pth(target: Path, content: Outgoing) -> None:
    """Writes a plain state dict as `torch.save` does; tied tensors stay tied. Other tools may need it: it is a pickle.

    Raises:
        CheckpointError: the disk refused.
    """
    model = content.model
    tensors = {name: _of_its_own(tensor.read()) for name, tensor in model.tensors.items()}
    tensors |= {alias: tensors[kept] for alias, kept in model.ties.items()}

    def write(aside: Path) -> None:
        with aside.open("xb") as file:
            try:
                torch.save(tensors, file)
            except RuntimeError as error:  # where the disk refused, torch then misses its place in the archive
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
            file.flush()
            files.sync_file(file.fileno())

    publish_file(target, write)


def write_npz(target: Path, content: Outgoing) -> None:
    """Writes NumPy's archive of arrays, uncompressed; tied tensors under each name.

    Source: NumPy's "NPY format".

    Raises:
        UnsupportedState: tensors of types that NumPy does not have, all of them by name.
        CheckpointError: the disk refused.
    """
    tensors = content.model.all_names()
    if unknown := [f"{name}: {_word(t.dtype)}" for name, t in tensors.items() if t.dtype not in _NUMPY]:
        raise UnsupportedState(
            f"Writing {target}: {len(unknown)} tensors are of types that NumPy does not have:\n{first_of(unknown)}\n"
            "Cast them (--dtype float32), or choose another kind."
        )

    def write(aside: Path) -> None:
        with aside.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, tensor in tensors.items():
                    # A fixed date: the same tensors make the same file.
                    entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                    with archive.open(entry, "w", force_zip64=True) as place:
                        values = tensor.read().detach().resolve_conj().resolve_neg().contiguous().numpy()
                        np.lib.format.write_array(place, values, allow_pickle=False)
            file.flush()
            files.sync_file(file.fileno())

    publish_file(target, write)


def write_checkpoint(target: Path, content: Outgoing) -> None:
    """Writes a checkpoint directory of ours: models, optimizers, facts, with the digests of all of it.

    Raises:
        UnsupportedState: a value of an optimizer cannot be stored, or the facts are not JSON.
        CheckpointError: the disk refused.
    """
    metadata = plain_json(dict(content.facts), str(target))
    states = {part: _flat(model) for part, model in content.models.items()}
    states |= {part: flatten(state, part) for part, state in content.optimizers.items()}
    written = Contents(content.step, dict(content.metrics), metadata, time.time())
    sources = {f"{part}.safetensors": model for part, model in content.models.items()}
    publish_folder(target, lambda folder: written.write(_Draft(folder, sources), states))


class _Draft:
    """The files of a checkpoint in a folder; the tensors of models are read as they are written."""

    def __init__(self, folder: Path, models: Mapping[str, OutgoingModel]) -> None:
        self._folder = folder
        self._models = models

    def write(self, file: str, chunks: Iterable[Readable]) -> files.Written:
        """Writes one file, durably; in the place of ghosts, the tensors they stand for."""
        if file in self._models:
            chunks = _real(chunks, self._models[file].tensors)
        return files.write_durably(self._folder / file, chunks)


def _flat(model: OutgoingModel) -> FlatState:
    """Returns the skeleton of a model and ghosts of its tensors, as `flatten` would."""
    stored = {name: store_tensor(tensor.ghost()) for name, tensor in model.tensors.items()}
    facts = {name: tensor.facts for name, tensor in stored.items()}
    facts |= {alias: facts[kept] for alias, kept in model.ties.items()}
    skeleton = {name: {"$tensor": {"name": name, **known} if known else name} for name, known in facts.items()}
    return FlatState(skeleton, {name: tensor.values for name, tensor in stored.items()}, dict(model.ties))


def _write_shard(path: Path, tensors: Mapping[str, OutgoingTensor], header: Mapping[str, str]) -> None:
    ghosts = {name: tensor.ghost() for name, tensor in tensors.items()}

    def write(chunks: Iterable[Readable]) -> files.Written:
        return files.write_durably(path, _real(chunks, tensors))

    write_tensors(write, ghosts, header)


def _real(chunks: Iterable[Readable], tensors: Mapping[str, OutgoingTensor]) -> Iterator[Readable]:
    """Yields a file's header, which was made from ghosts, and then the bytes of the tensors themselves."""
    yield next(iter(chunks))
    for tensor in tensors.values():
        yield tensor_bytes(store_tensor(tensor.read().contiguous()).values)


def _with_notes(model: OutgoingModel, header: Mapping[str, str]) -> tuple[Mapping[str, OutgoingTensor], dict[str, str]]:
    """Returns the tensors to write and a header that says which names were left out for which."""
    noted = {alias: kept for alias, kept in model.ties.items() if alias not in (*header, "format")}
    again = {alias: model.tensors[kept] for alias, kept in model.ties.items() if alias not in noted}
    return {**model.tensors, **again}, {**noted, **header}


def _shards(tensors: Mapping[str, OutgoingTensor], shard_bytes: int) -> list[dict[str, OutgoingTensor]]:
    shards: list[dict[str, OutgoingTensor]] = [{}]
    room = shard_bytes
    for name, tensor in tensors.items():
        if tensor.num_bytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.num_bytes
    return shards


def _of_its_own(tensor: Tensor) -> Tensor:
    """Returns a tensor that is all of its memory: torch.save writes the whole memory behind a view."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    whole = plain.untyped_storage().nbytes() == plain.numel() * plain.element_size()
    return plain if whole else plain.clone()


def _refuse_unnamed(target: Path, model: OutgoingModel) -> None:
    names = model.all_names()
    unknown = [f"{name}: {_word(t.dtype)}" for name, t in names.items() if t.dtype not in DTYPE_NAMES]
    unknown += [f"{name}: a name that the format keeps to itself" for name in names if name == "__metadata__"]
    if unknown:
        raise UnsupportedState(
            f"Writing {target}: {len(unknown)} tensors are none that safetensors can hold:\n{first_of(unknown)}\n"
            "Cast them (--dtype), rename them (--rename), or write a checkpoint or a .pth."
        )


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


WRITERS: dict[str, Any] = {
    "safetensors": write_safetensors,
    "sharded": write_sharded,
    "pth": write_pth,
    "npz": write_npz,
    "checkpoint": write_checkpoint,
}
