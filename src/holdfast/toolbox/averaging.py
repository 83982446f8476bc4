"""`average`: one model whose weights are the weighted mean of several, computed in float64.

Several checkpoints of one training, averaged, often predict better than the last one. One tensor of each file is in
memory at a time.

Source: the running mean is that of West, "Updating mean and variance estimates", 1979.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import CheckpointMismatch, ConfigError, first_of
from holdfast.toolbox.carried import step_of
from holdfast.toolbox.conversion import outgoing
from holdfast.toolbox.destination import destination
from holdfast.toolbox.outgoing import Outgoing, OutgoingModel, OutgoingTensor, refuse_empty
from holdfast.toolbox.source import Source, TensorReader, open_any, select_model
from holdfast.toolbox.text import printable, size_text
from holdfast.toolbox.writers import WRITERS
from holdfast.words import count

_RUNNING = ("running_mean", "running_var")
_AGREE = ("classes", "targets", "preprocessing", "architecture")


@dataclass(frozen=True)
class Average:
    """What was averaged.

    Attributes:
        sources: what was opened, in order.
        weights: the share of each; their sum is 1.
        path, kind: what was written.
        num_averaged: floating and complex tensors.
        taken: integer tensors, which are those of the first file.
        taken_differ: those of them that are not the same in all files.
        running: running statistics of batch norm among the averaged; the average of these is not that of the data.
        num_bytes: of the result.
        notes: what else is to be known, in words.
    """

    sources: list[str]
    weights: list[float]
    path: str
    kind: str
    num_averaged: int
    taken: list[str]
    taken_differ: list[str]
    running: list[str]
    num_bytes: int
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dict(self.__dict__)

    def lines(self) -> Iterator[str]:
        """Yields it as text."""
        for source, weight in zip(self.sources, self.weights, strict=True):
            yield f"{weight:8.4f}  {printable(source)}"
        size = f"{count(self.num_averaged, 'tensor')} averaged, {size_text(self.num_bytes)}"
        yield f"→ {printable(self.path)}  ({self.kind}; {size})"
        if self.taken:
            differ = f"; they differ: {', '.join(map(printable, self.taken_differ[:3]))}" if self.taken_differ else ""
            more = " …" if len(self.taken_differ) > 3 else ""
            yield f"  {count(len(self.taken), 'integer tensor')} taken from the first{differ}{more}"
        if self.running:
            yield (
                f"  {count(len(self.running), 'running statistic')} of batch norm averaged, which is approximate: to "
                "estimate them anew, pass training pictures through the model in train mode, without an optimizer"
            )
        yield from (f"  {printable(note)}" for note in self.notes)


def average(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    role: str | None = None,
    to: str | None = None,
    shard_size: str | int | None = None,
    keep_names: bool = False,
    replace: bool = False,
) -> Average:
    """Writes the weighted mean of the weights of several checkpoints; returns what was averaged.

    Floating tensors are averaged in float64 and cast back to the type they have in the first file; integer tensors
    (`num_batches_tracked`) are the first file's. Optimizer states are not averaged, and left out.

    Args:
        paths: two or more files, folders or runs (`runs/x@1200`), of models with the same names and shapes.
        out, to, shard_size, replace: as in `convert`.
        weights: one for each, not negative; they are divided by their sum. All the same by default.
        role: which model of each; needed when none is the obvious one.
        keep_names: compare and keep names with the words of wrappers in them.

    Raises:
        ConfigError: too few files, weights that are none, or something is at `out`.
        CheckpointMismatch: names, shapes, kinds of types or classes differ (all are told), or there is no tensor.
        CheckpointError: one cannot be read, or the disk refused.
    """
    shares = _shares(len(paths), weights)
    place = destination(out, to, shard_size, replace=replace, source=paths[0])
    sources = [select_model(open_any(path), role, "file" if keep_names else "plain") for path in paths]
    _refuse_differences(sources)
    readers = [TensorReader() for _ in sources]
    first = sources[0]
    differ: list[str] = []
    tensors = {
        name: _averaged(name, sources, readers, shares, differ) for name in first.tensors if name not in first.ties
    }
    model = OutgoingModel(tensors, dict(first.ties))
    refuse_empty(first.path, [model])
    content = Outgoing({"model": model})
    if place.kind == "checkpoint" or (place.kind == "safetensors" and first.is_ours):
        names = [PurePath(source.path).name for source in sources]
        facts = {**first.facts, "averaged_from": [[n, share] for n, share in zip(names, shares, strict=True)]}
        step = place.step if place.step is not None else max(step_of(source.opened) for source in sources)
        content = Outgoing({"model": model}, facts=facts, step=step)
    WRITERS[place.kind](place.path, content, *((place.shard_bytes,) if place.kind == "sharded" else ()))
    taken = [name for name, tensor in tensors.items() if not _has_mean(tensor.dtype)]
    return Average(
        sources=[source.path for source in sources],
        weights=shares,
        path=str(place.path),
        kind=place.kind,
        num_averaged=len(tensors) - len(taken),
        taken=taken,
        taken_differ=list(dict.fromkeys(differ)),
        running=[name for name in tensors if name.rpartition(".")[2] in _RUNNING],
        num_bytes=model.num_bytes,
        notes=_notes(sources),
    )


def _shares(number: int, weights: Sequence[float] | None) -> list[float]:
    if number < 2:
        raise ConfigError(f"Averaging {count(number, 'checkpoint')}: expected two or more. To copy one, use convert.")
    if weights is None:
        return [1 / number] * number
    if len(weights) != number:
        found = f"{count(len(weights), 'number')} for {count(number, 'checkpoint')}"
        raise ConfigError(f"--weights: found {found}; expected one for each. Give as many as there are files.")
    if not all(math.isfinite(w) and w >= 0 for w in weights) or not 0 < sum(weights) < math.inf:
        shown = ", ".join(f"{w:g}" for w in weights)
        raise ConfigError(f"--weights {shown}: expected numbers from 0 on, not all of them 0. Correct them.")
    total = sum(weights)
    return [weight / total for weight in weights]


def _averaged(
    name: str, sources: list[Source], readers: list[TensorReader], shares: list[float], differ: list[str]
) -> OutgoingTensor:
    """Returns the mean of one tensor, to be computed when it is written; notes integers that differ."""
    as_first = outgoing(sources[0].tensors[name], readers[0], None)

    def read() -> Tensor:
        values = (reader.read(source.tensors[name]) for source, reader in zip(sources, readers, strict=True))
        if _has_mean(as_first.dtype):
            return mean_of(values, shares).to(as_first.dtype)
        kept = next(values)
        if not all(torch.equal(kept, other) for other in values):
            differ.append(name)
        return kept

    return OutgoingTensor(as_first.dtype, as_first.shape, read)


def mean_of(tensors: Iterator[Tensor], shares: Sequence[float]) -> Tensor:
    """Returns the weighted mean of tensors of one shape, in float64 (complex128 for complex ones).

    Where all values are the same the mean is that value, to the last bit; also where it is infinite.

    Args:
        tensors: taken one after another, each let go before the next.
        shares: one for each, from 0; their sum is 1.
    """
    mean: Tensor | None = None
    total = 0.0
    for tensor, share in zip(tensors, shares, strict=True):
        if not share:
            continue
        total += share
        wide = tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
        if mean is None:
            mean = wide.clone()
        else:
            step = (wide - mean).mul_(share / total)
            mean = torch.where(wide == mean, mean, step.add_(mean))
    assert mean is not None  # the shares' sum is 1
    return mean


def _has_mean(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _refuse_differences(sources: list[Source]) -> None:
    first, problems = sources[0], []
    for other in sources[1:]:
        problems += [f"{name}: not in {other.path}" for name in first.tensors if name not in other.tensors]
        problems += [f"{name}: only in {other.path}" for name in other.tensors if name not in first.tensors]
        for name in (name for name in first.tensors if name in other.tensors):
            a, b = first.tensors[name], other.tensors[name]
            if a.shape != b.shape:
                problems.append(f"{name}: {list(a.shape)}, in {other.path} {list(b.shape)}")
            elif _kind(a.dtype) != _kind(b.dtype):
                problems.append(f"{name}: {a.dtype}, in {other.path} {b.dtype}")
        for fact in _AGREE:
            if fact in first.facts and fact in other.facts and first.facts[fact] != other.facts[fact]:
                problems.append(f"{fact}: {first.facts[fact]!r:.60}, in {other.path} {other.facts[fact]!r:.60}")
    if problems:
        raise CheckpointMismatch(
            f"Averaging {first.path} and {len(sources) - 1} more: found {count(len(problems), 'difference')}; expected "
            f"the same names, shapes and classes in all:\n{first_of(problems)}\nAverage checkpoints of one model; "
            "names can be changed with convert --rename or --like."
        )


def _kind(dtype: str) -> str:
    return next((kind for kind in ("float", "complex") if kind in dtype), dtype)


def _notes(sources: list[Source]) -> list[str]:
    notes = []
    mixed = sorted({t.dtype for source in sources for t in source.tensors.values() if "float" in t.dtype})
    same = all(source.tensors[n].dtype == t.dtype for source in sources for n, t in sources[0].tensors.items())
    if not same:
        notes.append(f"the files' types differ ({', '.join(mixed)}); the result has those of the first")
    if any(source.ties != sources[0].ties for source in sources):
        notes.append("the files differ in which names are tied; the result is tied as the first is")
    if any(source.opened.optimizers for source in sources):
        notes.append("optimizer states are not averaged, and left out")
    return notes
