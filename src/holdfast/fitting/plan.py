"""What will become of each tensor of a model, decided before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from holdfast.fitting.live import LiveTensors, cast_note
from holdfast.fitting.report import LoadReport, TensorReport
from holdfast.fitting.reshape import reshaped, rows_by_class, stem_of
from holdfast.fitting.resolve import Matching
from holdfast.fitting.source import Weights
from holdfast.formats import LazyTensor


class Plan:
    """The fate of every tensor of a model.

    Args:
        live: the model's tensors.
        weights: what there is to load.
        matching: which is which.
        classes: of the model, in the order of its outputs; None when unknown.
    """

    def __init__(self, live: LiveTensors, weights: Weights, matching: Matching, classes: list[str] | None) -> None:
        self.live, self.weights, self.matching = live, weights, matching
        self.classes = classes
        self._ready: dict[str, Tensor] = {}  # made to fit already
        self._stem = stem_of(live.model, live.tensors)
        self._heads = self._rows_of_classes()
        self.notes = list(weights.notes)
        self.tensors = tuple(self._fates())

    def report(self) -> LoadReport:
        """Returns what will be loaded, and what not."""
        used = {self.matching.pairs[name] for name in self.live.tied if name in self.matching.pairs}
        used |= {t.source for t in self.tensors if t.outcome != "fresh" and t.source}
        sizes = {n: self.live.tensors[n].numel() for n in self.live.parameters if n not in self.live.tied}
        file_names = self.weights.file_names
        return LoadReport(
            self.weights.where,
            self.weights.role,
            self.tensors,
            tuple(file_names[name] for name in self.weights.tensors if name not in used),
            sum(sizes.values()),
            tuple(self.notes),
        )

    def exact_pairs(self) -> dict[str, str]:
        """Returns plain name → name in the file of what is taken unchanged in shape and meaning."""
        return {t.name: t.source for t in self.tensors if t.outcome == "matched" and t.source is not None}

    def values(self) -> dict[str, Tensor]:
        """Reads everything that is to be loaded. Raises CheckpointCorrupt."""
        taken = [t for t in self.tensors if t.outcome != "fresh"]
        return {t.name: self._ready.get(t.name, self._value(t.name)) for t in taken}

    def _value(self, name: str) -> Tensor:
        return self.weights.read(self.matching.pairs[name])

    def _fates(self) -> Iterator[TensorReport]:
        for name, target in self.live.tensors.items():
            if name in self.live.tied:
                continue
            names = [name, *(other for other, first in self.live.tied.items() if first == name)]
            paired = next((other for other in names if other in self.matching.pairs), None)
            if paired is not None and paired != name:
                self.matching.pairs[name] = self.matching.pairs[paired]
                self.matching.rule_of[name] = self.matching.rule_of[paired] or "tied"
            yield self._fate(name, target)

    def _fate(self, name: str, target: Tensor) -> TensorReport:
        is_parameter, shape = name in self.live.parameters, tuple(target.shape)
        source = self.matching.pairs.get(name)
        if source is None:
            return TensorReport(name, "fresh", shape, 0, note="not in the file", is_parameter=is_parameter)
        value = self.weights.tensors[source]
        rule = self.matching.rule_of.get(name, "")
        if self.weights.file_names[source] != source:
            rule = f"--rename or --prefix{', ' if rule else ''}{rule}"
        source_name = source
        dtype = getattr(torch, value.dtype, None) if isinstance(value, LazyTensor) else value.dtype
        if dtype is None or (dtype.is_complex and not target.dtype.is_complex):
            note = f"{value.dtype} in the file, {target.dtype} in the model"
            return TensorReport(name, "fresh", shape, 0, source_name, rule, note, is_parameter=is_parameter)
        cast = cast_note(dtype, target.dtype)
        if name in self._heads:
            return self._head(name, target, source_name, rule, cast)
        if tuple(value.shape) == shape:
            return TensorReport(name, "matched", shape, target.numel(), source_name, rule, "", cast, is_parameter)
        made = reshaped(name, self._value(name), target, self.live.model, self._stem)
        if isinstance(made, str):
            return TensorReport(name, "fresh", shape, 0, source_name, rule, made, is_parameter=is_parameter)
        self._ready[name] = made.tensor
        return TensorReport(name, "reshaped", shape, target.numel(), source_name, rule, made.how, cast, is_parameter)

    def _rows_of_classes(self) -> set[str]:
        """Returns the names of the head's tensors, when the classes of both sides are known and are not the same."""
        theirs, ours = self.weights.classes, self.classes
        if theirs is None or ours is None or theirs == ours:
            return set()
        rows = [
            name
            for name, source in self.matching.pairs.items()
            if (shape := self.live.shapes[name])
            and shape[0] == len(ours)
            and (other := self.weights.shapes[source])
            and (len(other), other[0], other[1:]) == (len(shape), len(theirs), shape[1:])
            and name in self.live.parameters
        ]
        if not rows:
            return set()
        # With as many classes on both sides, other layers may have as many outputs: the head is what comes last.
        above = rows[-1].rpartition(".")[0]
        return {name for name in rows if len(theirs) != len(ours) or name.rpartition(".")[0] == above}

    def _head(self, name: str, target: Tensor, source: str, rule: str, cast: str) -> TensorReport:
        theirs, ours = self.weights.classes or [], self.classes or []
        made, count = rows_by_class(self._value(name), _whole(target), theirs, ours)
        note = f"rows of {count} of {len(ours)} classes, by name"
        values = count * (target.numel() // len(ours))
        if not count:
            note = f"none of the {len(ours)} classes is among the file's {len(theirs)}"
            return TensorReport(name, "fresh", tuple(target.shape), 0, source, rule, note)
        self._ready[name] = made
        return TensorReport(name, "reshaped", tuple(target.shape), values, source, rule, note, cast)


def _whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor of which each process holds a share."""
    whole = getattr(tensor, "full_tensor", None)
    return whole() if whole is not None else tensor
