"""`inspect_path`: what is in any checkpoint, without reading a value of it.

Imports no torch for the files of others, nor for a safetensors file of ours: a look into two gigabytes should cost what
starting Python does. Our own directories are told by `own_parts.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import ByteFile
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import ITEM_BYTES, LazyTensor, Storage
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.module_tree import is_tensor
from holdfast.formats.opened import OpenedCheckpoint, open_sniffed
from holdfast.formats.safetensors_file import read_safetensors
from holdfast.formats.sniff import sniff
from holdfast.toolbox.outline import json_of
from holdfast.toolbox.report import Part, Report, TensorLine
from holdfast.toolbox.ties import tie_key

_MAX_LEVELS = 8  # of containers within an optimizer's slots
_MAX_SLOTS = 1_000_000  # values of all optimizers of a file
_KINDS_WITH_DEVICES = ("torch", "pickle")  # safetensors and NumPy do not say where their tensors were


def inspect_path(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Report:
    """Reports on what is in a checkpoint of any program: tensors, optimizers, counters, who made it.

    Args:
        path: a file, a folder, or a run of ours (its newest checkpoint; `runs/x@best`, `runs/x@1200` for others).
        limits: what reading may cost.

    Raises:
        CheckpointError: there is nothing there that we can read; the message says what was found and what to do.
        CheckpointCorrupt: what is there is damaged.
    """
    where = os.path.expanduser(os.fspath(path))  # noqa: PTH111  # importing pathlib costs a third of a whole look
    if "@" in where and not os.path.exists(where):  # noqa: PTH110
        from holdfast.toolbox.own_parts import inspect_run

        return inspect_run(where)
    found = sniff(where, limits)
    kind = found.kind
    if kind in ("Holdfast checkpoint", "Holdfast run"):
        from holdfast.toolbox.own_parts import inspect_directory, inspect_run

        return (inspect_run if kind == "Holdfast run" else inspect_directory)(where)
    if kind == "safetensors":
        tensors, metadata = read_safetensors(ByteFile(where))
        if "holdfast" in metadata:
            return _model_file(where, tensors, metadata["holdfast"])
    return report_of(open_sniffed(where, found, limits))


def report_of(opened: OpenedCheckpoint) -> Report:
    """Reports on a checkpoint that has been opened. Reads no values."""
    tensors: list[LazyTensor] = []
    parts = {role: Part("weights", _weight_lines(state, tensors)) for role, state in opened.roles.items()}
    spent, described = [0], [0]
    for name, state in opened.optimizers.items():
        lines = [_line(slot, value, None) for slot, value in _slots(state, "", spent)]
        tensors += [value for _, value in _slots(state, "", [0]) if isinstance(value, LazyTensor)]
        groups = state.get("param_groups", state.get("hypers"))
        label = name if name not in parts else f"{name} (optimizer)"
        parts[label] = Part("optimizer", lines, {"param_groups": json_of(groups, described)})
    facts: dict[str, Any] = {"made_by": opened.made_by} if opened.made_by else {}
    if opened.notes:
        facts["note"] = "; ".join(opened.notes)
    if opened.kind.startswith(_KINDS_WITH_DEVICES) and tensors:
        facts["saved_from"] = sorted({tensor.storage.data.location for tensor in tensors})
    metadata = json_of(opened.metadata, described)
    if opened.schedules:
        metadata = {**metadata, "schedules": json_of(opened.schedules, described)}
    return Report(opened.path, opened.kind, facts, parts, metadata)


def _weight_lines(state: dict[str, Any], tensors: list[LazyTensor]) -> list[TensorLine]:
    first: dict[Any, str] = {}
    lines = []
    for name, value in state.items():
        if isinstance(value, LazyTensor):
            tensors.append(value)
            known = first.setdefault(tie_key(value), name)
            lines.append(_line(name, value, known if known != name else None))
        else:
            lines.append(_line(name, value, None))
    return lines


def _line(name: str, value: Any, alias_of: str | None) -> TensorLine:
    """Returns the line of a tensor, or of what a file has in the place of one."""
    if isinstance(value, LazyTensor):
        return TensorLine(name, value.dtype, value.shape, ITEM_BYTES[value.dtype], alias_of)
    if not isinstance(value, InertObject):
        return TensorLine(name, type(value).__name__, None, None)
    # A quantised tensor is made of (storage, offset, shape, strides, …); a parameter of its tensor.
    args = value.args if type(value.args) is tuple else ()
    if args and isinstance(args[0], LazyTensor):
        return _line(name, args[0], alias_of)
    if len(args) > 2 and isinstance(args[0], Storage) and isinstance(args[2], tuple):
        return TensorLine(name, args[0].dtype, tuple(args[2]), ITEM_BYTES[args[0].dtype])
    return TensorLine(name, value.name[:60], None, None)


def _slots(value: Any, name: str, spent: list[int], level: int = 0) -> Iterator[tuple[str, Any]]:
    """Yields every tensor of an optimizer's state with the path to it."""
    spent[0] += 1
    if spent[0] > _MAX_SLOTS or level > _MAX_LEVELS:
        return
    if is_tensor(value):
        yield name, value
    elif isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            if level or key not in ("param_groups", "hypers"):
                yield from _slots(inner, f"{name}.{key}" if name else str(key), spent, level + 1)


def _model_file(where: str, tensors: dict[str, LazyTensor], metadata: str) -> Report:
    """Reports on a file that `write_single_file` wrote; its digests are for `verify`."""
    try:
        table = json.loads(metadata)
        facts = {k: v for k, v in table.items() if k not in ("tensors", "digest")}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"Inspecting {where}: its Holdfast metadata are damaged ({error}); expected JSON. Take another copy of it."
        ) from error
    facts["format_version"] = facts.pop("version", None)
    return Report(where, "Holdfast model file", facts, {"model": Part("weights", _weight_lines(dict(tensors), []))})
