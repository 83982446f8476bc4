"""`diff`: two checkpoints, tensor by tensor, and what stands beside their weights.

Two tensors are in memory at a time, however large the files are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import torch

from holdfast.errors import CheckpointError, ConfigError
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.opened import OpenedCheckpoint
from holdfast.toolbox.difference import Difference, PlainDifference, TensorDifference
from holdfast.toolbox.outline import json_of
from holdfast.toolbox.source import Names, Source, TensorReader, open_any, select_model
from holdfast.toolbox.tensor_difference import compare_values

_BOOKKEEPING = {"format", "written_by", "converted_from", "averaged_from"}  # how a file came about, not what it holds
_MISSING = "(nothing)"
_MAX_LEAVES = 2_000_000  # of one tree: a file can hold one list in more places than there is time for
_Tensor = LazyTensor | torch.Tensor


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    role: str | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    weights_only: bool = False,
    match: bool = False,
    names: Names = "plain",
) -> Difference:
    """Returns how two checkpoints differ: every tensor, the states of their optimizers, and the facts beside them.

    Args:
        a, b: files, folders or runs (`runs/x@best`), of any program each.
        role: compare only this model of both; "ema=model" compares the one of `a` with the other of `b`. By default
            every model that either has, and when both have one only, these two.
        rtol, atol: floating values may differ by atol + rtol · |b|. By default they may not differ in a single bit,
            and integers never may. NaN equals NaN.
        weights_only: leave optimizers, schedules and facts aside.
        match: find partners by name and shape where names differ (`fitting.resolve_names`).
        names: compare by "plain" names, without the words of wrappers, or by those in the "file".

    Raises:
        CheckpointError: one of them cannot be read.
        CheckpointMismatch: there is no such role.
        ConfigError: a tolerance is negative.
    """
    if not (0 <= rtol < math.inf and 0 <= atol < math.inf):
        raise ConfigError(f"Comparing with rtol {rtol:g} and atol {atol:g}: expected numbers from 0. Change them.")
    first, second = open_any(a), open_any(b)
    comparison = _Comparison(rtol, atol)
    pairs, only = _pairs_of_models(first, second, role)
    if not pairs and weights_only:
        first.role(), second.role()  # whichever has no weights says what it is
        raise CheckpointError(
            f"Comparing {first.path} with {second.path}: found no model that both have "
            f"({', '.join(first.roles)}; {', '.join(second.roles)}); expected one. Name a pair: --role R=S."
        )
    for label, in_a, in_b in pairs:
        comparison.models(label, select_model(first, in_a, names), select_model(second, in_b, names), match)
    weights_equal = bool(pairs) and not only and comparison.equal
    comparison.values += [PlainDifference(f"model {name}", x, y) for name, x, y in only]
    if not weights_only:
        for name in dict.fromkeys([*first.optimizers, *second.optimizers]):
            comparison.trees(f"optimizer {name}", first.optimizers.get(name), second.optimizers.get(name))
        comparison.plain("schedule", json_of(first.schedules), json_of(second.schedules))
        comparison.plain("", _facts(first), _facts(second))
    num_values = comparison.num_values + len(only)
    return Difference(
        first.path, second.path, rtol, atol, comparison.tensors, comparison.values, num_values, weights_equal
    )


def _pairs_of_models(
    a: OpenedCheckpoint, b: OpenedCheckpoint, role: str | None
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Returns (label, role in a, role in b) for each pair to compare; and models that only one of the two has."""
    if role is not None:
        in_a, equals, in_b = role.partition("=")
        in_b = in_b if equals else in_a
        a.role(in_a), b.role(in_b)  # an unknown one is answered with those there are
        return [(in_a if in_a == in_b else f"{in_a} | {in_b}", in_a, in_b)], []
    if len(a.roles) == len(b.roles) == 1:
        in_a, in_b = next(iter(a.roles)), next(iter(b.roles))
        return [(in_a if in_a == in_b else f"{in_a} | {in_b}", in_a, in_b)], []
    only = [(name, f"{len(a.roles[name])} tensors", _MISSING) for name in a.roles if name not in b.roles]
    only += [(name, _MISSING, f"{len(b.roles[name])} tensors") for name in b.roles if name not in a.roles]
    return [(name, name, name) for name in a.roles if name in b.roles], only


def _facts(opened: OpenedCheckpoint) -> dict[str, Any]:
    facts: dict[str, Any] = json_of({k: v for k, v in opened.metadata.items() if k not in _BOOKKEEPING})
    return facts


class _Comparison:
    """What has been compared so far."""

    def __init__(self, rtol: float, atol: float) -> None:
        self.tolerance = rtol, atol
        self.tensors: dict[str, list[TensorDifference]] = {}
        self.values: list[PlainDifference] = []
        self.num_values = 0
        self._readers = TensorReader(), TensorReader()

    @property
    def equal(self) -> bool:
        """Whether every tensor compared so far is the same in both."""
        return all(t.status == "same" for group in self.tensors.values() for t in group)

    def models(self, label: str, a: Source, b: Source, match: bool) -> None:
        """Compares two models by the names of their tensors."""
        pairs = {name: name for name in b.tensors if name in a.tensors}
        if match:
            from holdfast.fitting import resolve_names

            pairs = resolve_names(a.shapes, b.shapes).pairs
        partner = {in_a: in_b for in_b, in_a in pairs.items()}
        found = []
        for name, tensor in a.tensors.items():
            other = partner.get(name)
            found.append(self._pair(name, tensor, None if other is None else b.tensors[other], other))
        found += [self._pair(name, None, tensor, name) for name, tensor in b.tensors.items() if name not in pairs]
        self.tensors[label] = found

    def trees(self, label: str, a: Any, b: Any) -> None:
        """Compares two states of optimizers: their tensors by path, and their settings."""
        if a is None or b is None:
            self.num_values += 1
            self.values.append(PlainDifference(label, *(_MISSING if tree is None else "there" for tree in (a, b))))
            return
        in_a, in_b = ({path: v for path, v in _leaves(tree, "") if isinstance(v, _Tensor)} for tree in (a, b))
        if in_a or in_b:
            self.tensors[label] = [self._pair(path, in_a.get(path), in_b.get(path), path) for path in {**in_a, **in_b}]
        plain_a, plain_b = ({p: json_of(v) for p, v in _leaves(t, "") if not isinstance(v, _Tensor)} for t in (a, b))
        self.plain(label, plain_a, plain_b)

    def plain(self, label: str, a: dict[str, Any], b: dict[str, Any]) -> None:
        """Compares JSON values by their paths."""
        in_a, in_b = dict(_leaves(a, label)), dict(_leaves(b, label))
        for path in {**in_a, **in_b}:
            x, y = in_a.get(path, _MISSING), in_b.get(path, _MISSING)
            self.num_values += 1
            if x != y or type(x) is not type(y):
                self.values.append(PlainDifference(path, x, y))

    def _pair(self, name: str, a: _Tensor | None, b: _Tensor | None, name_in_b: str | None) -> TensorDifference:
        dtypes = tuple(None if t is None else str(t.dtype).removeprefix("torch.") for t in (a, b))
        shapes = tuple(None if t is None else tuple(t.shape) for t in (a, b))
        other = name_in_b if name_in_b != name else None
        if a is None or b is None:
            return TensorDifference(name, "extra" if a is None else "missing", dtypes, shapes)  # type: ignore[arg-type]
        if shapes[0] != shapes[1]:
            return TensorDifference(name, "shape", dtypes, shapes, other)  # type: ignore[arg-type]
        x, y = (
            reader.read(t) if isinstance(t, LazyTensor) else t for reader, t in zip(self._readers, (a, b), strict=True)
        )
        found = compare_values(x, y, *self.tolerance)
        exact = not any(self.tolerance)
        status = "dtype" if dtypes[0] != dtypes[1] else "same"
        if status == "same" and (found.num_different or (exact and not found.same_bits)):
            status = "different"
        return TensorDifference(name, status, dtypes, shapes, other, found)  # type: ignore[arg-type]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields every value within containers with its path; a container without values is nothing."""
    waiting, spent = [(path, value)], 0
    while waiting:
        here, found = waiting.pop()
        spent += 1
        if spent + len(waiting) > _MAX_LEAVES:
            yield here, f"(more than {_MAX_LEAVES:,} values)"
            return
        if isinstance(found, (dict, list, tuple)):
            items = found.items() if isinstance(found, dict) else enumerate(found)
            waiting += [(f"{here}.{key}" if here else str(key), item) for key, item in reversed(list(items))]
        else:
            yield here, found
