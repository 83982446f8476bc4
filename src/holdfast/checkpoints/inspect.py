"""Look inside: names, types, shapes and counts of a checkpoint, without loading it into a model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.retention import BEST_CLASSIFIER
from holdfast.checkpoints.store import CheckpointStore
from holdfast.checkpoints.tensors import DTYPES, TensorFile
from holdfast.errors import CheckpointError, CheckpointMismatch


@dataclass(frozen=True)
class TensorLine:
    """One tensor: name, dtype as safetensors names it, shape, number of values, bytes; `alias_of` for a tied one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    alias_of: str | None = None

    @property
    def num_values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes on disk; a tied tensor has none of its own."""
        return 0 if self.alias_of else self.num_values * DTYPES[self.dtype].itemsize

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        tied = {"alias_of": self.alias_of} if self.alias_of else {}
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "num_values": self.num_values,
            "num_bytes": self.num_bytes,
            **tied,
        }


@dataclass(frozen=True)
class Report:
    """What is in a checkpoint: tensors and JSON values (optimizer groups, counters) by part; facts about itself."""

    path: str
    kind: str
    facts: dict[str, Any]
    parts: dict[str, list[TensorLine]]
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self, part: str | None = None) -> dict[str, Any]:
        """Returns the report as JSON values, of one part on request. Raises CheckpointMismatch for an unknown part."""
        parts = {
            name: {
                "num_tensors": len(lines),
                "num_values": sum(t.num_values for t in lines if not t.alias_of),
                "num_bytes": sum(t.num_bytes for t in lines),
                "tensors": [t.to_json() for t in lines],
                **({"values": self.values[name]} if name in self.values else {}),
            }
            for name, lines in self._chosen(part).items()
        }
        return {"path": self.path, "kind": self.kind, **self.facts, "parts": parts}

    def lines(self, part: str | None = None) -> Iterator[str]:
        """Yields the report as text. Raises CheckpointMismatch for an unknown part."""
        yield f"{self.path}  ({self.kind})"
        for name, value in self.facts.items():
            yield f"  {name}: {_short(value)}"
        for name, tensors in self._chosen(part).items():
            values = sum(t.num_values for t in tensors if not t.alias_of)
            yield f"\n{name}: {len(tensors)} tensors, {values:,} values, {_size(sum(t.num_bytes for t in tensors))}"
            width = max((len(t.name) for t in tensors), default=0)
            for t in tensors:
                tied = f"  = {t.alias_of}" if t.alias_of else ""
                yield f"  {t.name:<{width}}  {t.dtype:<5} {list(t.shape)!s:<20} {t.num_values:>12,}{tied}"
            yield from self._value_lines(name)

    def _value_lines(self, part: str) -> Iterator[str]:
        value = self.values.get(part)
        if isinstance(value, dict) and "param_groups" in value:
            for number, group in enumerate(value["param_groups"]):
                settings = ", ".join(f"{k} {_short(v)}" for k, v in group.items() if k != "params" and v is not None)
                yield f"  group {number}: {len(group['params'])} parameters; {settings}"
        elif isinstance(value, dict) and value:
            yield from (f"  {k}: {_short(v)}" for k, v in value.items() if not _is_tensor(v))

    def _chosen(self, part: str | None) -> dict[str, list[TensorLine]]:
        if part is None:
            return self.parts
        if part not in self.parts:
            raise CheckpointMismatch(f"{self.path} has no part {part!r}; it holds {', '.join(self.parts)}.")
        return {part: self.parts[part]}


def inspect_path(spec: str) -> Report:
    """Reports on a run (its newest checkpoint; `runs/x@best`, `runs/x@1200` for others), a checkpoint or a file.

    Raises:
        CheckpointError: there is nothing there that we can read; the message says what was found.
    """
    name, _, which = spec.rpartition("@") if "@" in spec and not Path(spec).exists() else (spec, "", "")
    path = Path(name).expanduser()
    if path.is_file():
        return _inspect_file(path)
    if (path / FILE_NAME).is_file():
        return _inspect_checkpoint(Checkpoint(path))
    if (path / "checkpoints").is_dir():
        return _inspect_checkpoint(_of_run(path, which or "last"))
    found = "an empty place" if not path.exists() else "a folder that is neither a run nor a checkpoint"
    raise CheckpointError(
        f"Inspecting {spec}: found {found}; expected a run directory, a checkpoint directory or a .safetensors file."
    )


def _of_run(run: Path, which: str) -> Checkpoint:
    store = CheckpointStore(run / "checkpoints", BEST_CLASSIFIER)
    steps = store.steps()
    if not steps:
        raise CheckpointError(f"Inspecting {run}: it has no checkpoint yet.")
    step = (
        store.best() if which == "best" else steps[-1] if which == "last" else int(which) if which.isdecimal() else -1
    )
    if step not in steps:
        raise CheckpointError(
            f"Inspecting {run}: there is no checkpoint {which!r}. Ask for best, last, or a step: "
            f"{', '.join(map(str, steps))}."
        )
    return store.open(step if step is not None else steps[-1])


def _inspect_checkpoint(checkpoint: Checkpoint) -> Report:
    manifest = checkpoint.manifest
    facts = {
        "step": manifest.step,
        "format_version": manifest.version,
        "metrics": checkpoint.metrics,
        **manifest.metadata,
    }
    parts: dict[str, list[TensorLine]] = {}
    for name, part in manifest.parts.items():
        lines = {n: TensorLine(n, t.dtype, t.shape) for n, t in part.tensors.items()}
        for alias, target in part.aliases.items():
            lines[alias] = TensorLine(alias, lines[target].dtype, lines[target].shape, target)
        parts[name] = list(lines.values())
    values = {name: value for name, value in checkpoint.skeletons.items() if not _all_tensors(value)}
    return Report(str(checkpoint.path), "Holdfast checkpoint", facts, parts, values)


def _inspect_file(path: Path) -> Report:
    file = TensorFile(path)
    lines = [TensorLine(name, e["dtype"], tuple(e["shape"])) for name, e in file.entries.items()]
    facts: dict[str, Any] = {key: value for key, value in file.metadata.items() if key != "holdfast"}
    kind = "safetensors file"
    if "holdfast" in file.metadata:
        kind = "Holdfast model file"
        try:
            table = json.loads(file.metadata["holdfast"])
            facts |= {k: v for k, v in table.items() if k not in ("tensors", "digest")}
        except (ValueError, AttributeError) as error:
            raise CheckpointError(f"Inspecting {path}: its Holdfast metadata are damaged ({error}).") from error
    return Report(str(path), kind, facts, {"model": lines})


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"$tensor"}


def _all_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_tensor(v) for v in value.values())


def _short(value: Any, limit: int = 100) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("$"):
        return _short(next(iter(value.values())), limit)  # a tuple, bytes …, as the skeleton writes them
    if isinstance(value, dict):
        text = ", ".join(f"{k} {_short(v, 40)}" for k, v in value.items() if v not in ({}, [], None))
    elif isinstance(value, list):
        text = ", ".join(_short(v, 40) for v in value)
    else:
        text = str(value)
    return text if len(text) <= limit else f"{text[:limit]} …"


def _size(num_bytes: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.1f} {unit}" if unit != "bytes" else f"{num_bytes} {unit}"
        num_bytes /= 1000  # type: ignore[assignment]
    return f"{num_bytes:,.2f} GB"
