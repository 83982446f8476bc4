"""`convert`: a checkpoint of any program as safetensors, a checkpoint of ours, shards, `.pth` or `.npz`.

Conversions without a cast change no bit of any value. Tensors are read as they are written, one at a time, wherever the
kind allows it (`.pth` and model files of ours are made in memory).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_changes
from typing import Any

import torch

from holdfast.errors import CheckpointError, first_of
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.opened import OpenedCheckpoint
from holdfast.formats.sniff import a
from holdfast.toolbox.carried import carried_facts, carried_optimizer, header_of, part_name, step_of
from holdfast.toolbox.casting import CastLoss, dtype_of, is_cast, is_exact, measure_loss, overflow_text
from holdfast.toolbox.converted import Conversion
from holdfast.toolbox.destination import Destination, destination
from holdfast.toolbox.naming import NewNames, new_names
from holdfast.toolbox.outgoing import Outgoing, OutgoingModel, OutgoingTensor, refuse_empty
from holdfast.toolbox.source import Names, Source, TensorReader, open_any, select_model
from holdfast.toolbox.writers import WRITERS
from holdfast.words import count

EMA = "ema"


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: str | None = None,
    role: str | None = None,
    like: str | os.PathLike[str] | None = None,
    partial: bool = False,
    rename: Sequence[str] = (),
    keep_names: bool = False,
    dtype: str | None = None,
    allow_overflow: bool = False,
    strip_optimizer: bool = False,
    shard_size: str | int | None = None,
    replace: bool = False,
) -> Conversion:
    """Writes a checkpoint of any program as another kind of file; returns what became of it.

    Args:
        path: a file, a folder or a run (`runs/x@best`).
        out: where to; its suffix says the kind (see `destination.py`).
        to: "safetensors", "sharded", "checkpoint", "pth" or "npz", whatever the suffix.
        role: which of several models; needed when none is the obvious one. A checkpoint directory holds all of them
            unless one is chosen.
        like: a checkpoint whose names the result shall have, paired by name and shape (`fitting.resolve_names`).
        partial: with `like`: write what has a partner of the same shape, in place of refusing; the rest of both sides
            is in `left_out`.
        rename: rules `regex=>replacement`, applied one after another.
        keep_names: keep the words of wrappers (`module.`) in the names.
        dtype: "float16", "bfloat16", "float32" or "float64" for all floating tensors; others stay as they are.
        allow_overflow: write values that are too large for `dtype` as infinite, in place of refusing.
        strip_optimizer: leave optimizer states out of a checkpoint directory; the other kinds never hold them.
        shard_size: of a folder of shards: "2GB".
        replace: replace what is at `out`.

    Raises:
        ConfigError: an option is none, or something is at `out`.
        CheckpointMismatch: no model is the obvious one, names clash, the pairing leaves something over, or there is no
            tensor to write.
        CheckpointError: the source cannot be read, values are too large for `dtype`, or the disk refused.
        UnsupportedState: the kind cannot hold some of it.
    """
    wanted = dtype_of(dtype) if dtype else None
    place = destination(out, to, shard_size, replace=replace, source=path)
    opened = open_any(path)
    names: Names = "file" if keep_names else "plain"
    whole = place.kind == "checkpoint" and role is None and like is None and opened.roles
    sources = [select_model(opened, name, names) for name in (opened.roles if whole else [role])]
    chosen: dict[str, _Chosen] = {}
    for source in sources:
        part = part_name(source.role, chosen) if len(sources) > 1 else "model"
        chosen[part] = _chosen(source, new_names(source, like, partial, rename), wanted)
    refuse_empty(opened.path, [one.model for one in chosen.values()])
    if not allow_overflow:
        _refuse_overflow(opened.path, [loss for one in chosen.values() for loss in one.losses], dtype)
    content, left_out = _content(opened, chosen, place, strip_optimizer)
    WRITERS[place.kind](place.path, content, *((place.shard_bytes,) if place.kind == "sharded" else ()))
    return _converted(opened, chosen, place, content, left_out, dtype)


def _refuse_overflow(path: str, losses: list[CastLoss], dtype: str | None) -> None:
    if too_large := overflow_text(losses):
        raise CheckpointError(
            f"Casting {path} to {dtype}: {count(len(too_large), 'tensor')} with values too large for it; expected "
            f"values that fit:\n{first_of(too_large)}\nCast to bfloat16 or float32, or write them as infinite "
            "(--allow-overflow)."
        )


@dataclass(frozen=True)
class _Chosen:
    """One model on its way: name in the source → new name, the tensors to write, and what a cast loses."""

    source: Source
    names: dict[str, str]
    left_over: list[str]
    model: OutgoingModel
    losses: list[CastLoss]
    num_exact: int


def _chosen(source: Source, named: NewNames, to: torch.dtype | None) -> _Chosen:
    names = named.pairs
    return _Chosen(source, names, named.left_out, _model(source, names, to), *_losses(source, names, to))


def _converted(
    opened: OpenedCheckpoint,
    chosen: Mapping[str, _Chosen],
    place: Destination,
    content: Outgoing,
    left_out: list[str],
    dtype: str | None,
) -> Conversion:
    renamed: dict[str, str] = {}
    ties: dict[str, str] = {}
    for part, one in chosen.items():
        front = "" if part == "model" else f"{part}."
        old_names = {new: one.source.file_names[name] for name, new in one.names.items()}
        renamed |= {f"{front}{new}": f"{front}{old}" for new, old in old_names.items() if new != old}
        ties |= {f"{front}{alias}": f"{front}{kept}" for alias, kept in one.model.ties.items()}
    repeated = place.kind == "npz" or (place.kind == "safetensors" and content.facts)
    return Conversion(
        source=opened.path,
        source_kind=opened.kind,
        path=str(place.path),
        kind=place.kind,
        models={part: one.source.role for part, one in chosen.items()},
        num_tensors=sum(len(one.model.tensors) for one in chosen.values()),
        num_bytes=sum(one.model.num_bytes for one in chosen.values()),
        renamed=renamed,
        ties=ties,
        tied_as="tied" if place.kind in ("checkpoint", "pth") else "repeated" if repeated else "noted",
        losses=[loss for one in chosen.values() for loss in one.losses],
        num_exact=sum(one.num_exact for one in chosen.values()),
        dtype=dtype,
        optimizers=list(content.optimizers),
        left_out=left_out,
        notes=list(opened.notes),
    )


def _model(source: Source, names: Mapping[str, str], to: torch.dtype | None) -> OutgoingModel:
    reader = TensorReader()
    first: dict[str, str] = {}  # name in the source of a tensor → the first name it is written under
    tensors: dict[str, OutgoingTensor] = {}
    ties: dict[str, str] = {}
    for name, new in names.items():
        kept = source.ties.get(name, name)
        if kept in first:
            ties[new] = first[kept]
            continue
        first[kept] = new
        tensors[new] = outgoing(source.tensors[name], reader, to)
    return OutgoingModel(tensors, ties)


def outgoing(tensor: LazyTensor, reader: TensorReader, to: torch.dtype | None) -> OutgoingTensor:
    """Returns a tensor of a file as one to be written, floating ones cast.

    Raises:
        CheckpointError: this torch has no such type.
    """
    dtype = getattr(torch, tensor.dtype, None)
    if not isinstance(dtype, torch.dtype):
        tensor.to_torch()  # says so
        raise AssertionError(tensor)
    cast = to if to is not None and is_cast(dtype, to) else None

    def read() -> torch.Tensor:
        values = reader.read(tensor)
        return values if cast is None else values.to(cast)

    return OutgoingTensor(cast or dtype, tensor.shape, read)


def _losses(source: Source, names: Mapping[str, str], to: torch.dtype | None) -> tuple[list[CastLoss], int]:
    """Returns what a cast loses, of the tensors where it may lose something; and the number of the others."""
    if to is None:
        return [], 0
    reader, losses, exact = TensorReader(), [], 0
    for name in names:
        tensor = source.tensors[name]
        dtype = getattr(torch, tensor.dtype, None)
        if name in source.ties or not isinstance(dtype, torch.dtype) or not is_cast(dtype, to):
            continue
        if is_exact(dtype, to):
            exact += 1
        else:
            losses.append(measure_loss(name, reader.read(tensor), to))
    return losses, exact


def _content(
    opened: OpenedCheckpoint, chosen: Mapping[str, _Chosen], place: Destination, strip_optimizer: bool
) -> tuple[Outgoing, list[str]]:
    """Returns what to write, and what is left out, in words."""
    sources = [one.source for one in chosen.values()]
    first, models = sources[0], {part: one.model for part, one in chosen.items()}
    left_out = [what for one in chosen.values() for what in one.left_over]
    left_out += [f"{name}: no tensor of the model" for source in sources for name in source.left_out]
    roles = {source.role for source in sources}
    left_out += [f"model {name} (--role {name})" for name in opened.roles if name not in roles]
    if place.kind == "checkpoint" or (place.kind == "safetensors" and first.is_ours):
        step = place.step if place.step is not None else step_of(opened)
        metrics = opened.metadata.get("metrics", {}) if first.is_ours else {}
        content = Outgoing(models, facts=carried_facts(opened, first.facts), step=step, metrics=metrics)
    else:
        content = Outgoing(models, header=header_of(opened))
        left_out += [f"{', '.join(first.facts)}: {a(place.kind)} has no place for them"] if first.facts else []
    # The state of an optimizer belongs to the weights it has trained, not to their average.
    averaged = len(chosen) == 1 and first.role == EMA and len(opened.roles) > 1
    if place.kind == "checkpoint" and not strip_optimizer and not averaged:
        names = {
            f"{c.source.role}.{old}": f"{part}.{new}" for part, c in chosen.items() for old, new in c.names.items()
        }
        optimizers: dict[str, Any] = {}
        for name in opened.optimizers:
            optimizers[part_name(name, {**models, **optimizers})] = carried_optimizer(opened, name, names)
        content = with_changes(content, optimizers=optimizers)
    else:
        left_out += [f"optimizer state {name}" for name in opened.optimizers]
    left_out += [f"schedule {name}" for name in opened.schedules]
    return content, left_out + [f"part {name}" for name in opened.metadata.get("parts", {}) if first.is_ours]
