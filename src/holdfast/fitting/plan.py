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

# What the layer of a classifier is called whose outputs are the classes.
_HEADS = {
    "fc", "fc2", "fc3", "head", "head_dist", "heads", "classifier", "classifier_dist", "logits", "last_linear", "score",
    "cls", "cls_head", "class_head", "out", "output", "linear", "predictions",
}  # fmt: skip


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
        self.notes = list(weights.notes)
        if matching.branches:
            first, *others = matching.branches
            self.notes.append(
                f"it fits {first} and {', '.join(others)} equally well, and {first} alone has it; the others begin "
                "fresh. Load each by itself: load_into(model.branch, …)"
            )
        self._heads = self._rows_of_classes()
        self._same_as_tied: set[str] = set()
        self.tensors = tuple(self._fates())

    def report(self) -> LoadReport:
        """Returns what will be loaded, and what not."""
        used = {self.matching.pairs[t.name] for t in self.tensors if t.outcome != "fresh"} | self._same_as_tied
        sizes = {n: self.live.tensors[n].numel() for n in self.live.parameters if n not in self.live.tied}
        file_names = self.weights.file_names
        return LoadReport(
            self.weights.where,
            self.weights.role,
            self.tensors,
            (*(file_names[name] for name in self.weights.tensors if name not in used), *self.weights.extra_state),
            sum(sizes.values()),
            tuple(self.notes),
        )

    def exact_pairs(self) -> dict[str, str]:
        """Returns plain name → the file's own name of what is taken unchanged in shape and meaning."""
        return {t.name: t.source for t in self.tensors if t.outcome == "matched" and t.source is not None}

    def values(self) -> dict[str, Tensor | LazyTensor]:
        """Returns what is to be loaded by the model's names; what is taken as it is stays in the file."""
        taken = [t for t in self.tensors if t.outcome != "fresh"]
        return {t.name: self._ready.get(t.name, self.weights.tensors[self.matching.pairs[t.name]]) for t in taken}

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
            self._compare_tied([self.matching.pairs[other] for other in names if other in self.matching.pairs])
            yield self._fate(name, target)

    def _compare_tied(self, sources: list[str]) -> None:
        """Notes which of the file's tensors for one tensor of the model are the same as the one that is taken."""
        for other in dict.fromkeys(sources[1:]):
            if other == sources[0] or _is_equal(self.weights, sources[0], other):
                self._same_as_tied.add(other)
            else:
                self.notes.append(
                    f"{sources[0]} and {other} differ, and are one tensor in the model: {sources[0]} is taken"
                )

    def _fate(self, name: str, target: Tensor) -> TensorReport:
        is_parameter, shape = name in self.live.parameters, tuple(target.shape)
        source = self.matching.pairs.get(name)
        if source is None:
            return TensorReport(name, "fresh", shape, 0, note="not in the file", is_parameter=is_parameter)
        value = self.weights.tensors[source]
        rule = self.matching.rule_of.get(name, "")
        if self.weights.file_names[source] != source:
            rule = f"--rename or --prefix{', ' if rule else ''}{rule}"
        source_name = self.weights.file_names[source]
        dtype = getattr(torch, value.dtype, None) if isinstance(value, LazyTensor) else value.dtype
        if (why := _not_convertible(dtype, target.dtype)) is not None:
            note = f"{value.dtype} in the file, {target.dtype} in the model{why}"
            return TensorReport(name, "fresh", shape, 0, source_name, rule, note, is_parameter=is_parameter)
        assert dtype is not None
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
        layers = {name.rpartition(".")[0] for name in rows if len(self.live.shapes[name]) > 1}
        feeding = {layer for layer in layers if self._feeds_another(layer, len(ours))}
        heads = {layer for layer in layers - feeding if layer in self._stated_heads() or _HEADS & set(layer.split("."))}
        if not heads and len(layers) == 1 and len(theirs) != len(ours):
            heads = layers
        if not heads and len(theirs) == len(ours) and layers and set(theirs) & set(ours):
            self.notes.append(
                "its classes stand in another order, and the layer whose outputs they are is not known "
                f"({', '.join(sorted(layers))}); nothing was put in order"
            )
        return {name for name in rows if name.rpartition(".")[0] in heads}

    def _feeds_another(self, layer: str, outputs: int) -> bool:
        """Returns whether a later fully connected layer takes as many inputs as this one has outputs."""
        names = list(self.live.shapes)
        behind = names[max(n for n, name in enumerate(names) if name.rpartition(".")[0] == layer) + 1 :]
        return any(len(shape := self.live.shapes[name]) == 2 and shape[1] == outputs for name in behind)

    def _stated_heads(self) -> set[str]:
        """Returns the names of the classifiers as timm's models state them."""
        stated = (getattr(self.live.model, "pretrained_cfg", None) or {}).get("classifier", ())
        return {stated} if isinstance(stated, str) else set(stated or ())

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


def _not_convertible(source: torch.dtype | None, target: torch.dtype) -> str | None:
    """Returns why values of one type do not become those of another, None when they do."""
    if source == target:
        return None
    if source is None or (source.is_complex and not target.is_complex):
        return ""
    from_float, to_float = (t.is_floating_point or t.is_complex for t in (source, target))
    if to_float and (not from_float or "float8" in str(source)):
        return ": quantised values, which need their scale"
    return ": its fractions would be lost" if from_float and not to_float else None


def _is_equal(weights: Weights, one: str, other: str) -> bool:
    first, second = weights.tensors[one], weights.tensors[other]
    if first is second or tuple(first.shape) != tuple(second.shape):
        return first is second
    same = torch.equal(weights.read(one), weights.read(other))
    for tensor in (first, second):
        if isinstance(tensor, LazyTensor):
            tensor.storage.data.forget()
    return same


def _whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor of which each process holds a share."""
    whole = getattr(tensor, "full_tensor", None)
    return whole() if whole is not None else tensor
