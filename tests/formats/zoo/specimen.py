"""What a specimen is: what a program left on the disk, and the truth about it, told by the program's live objects.

The truth is written by safetensors and JSON alone, so that no reader of ours has a hand in it: every tensor as the
bytes of its values, in rows, with its type and shape beside them, and the rest as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor


@dataclass
class Truth:
    """What a specimen holds.

    Attributes:
        path: what to open.
        kind: what Holdfast is to call it.
        made_by: the program that is to be named, None when nothing in the file tells.
        roles: role → the file's name → tensor.
        plain: role → the plain model's own state dict, where the program knows it.
        optimizers: name → the optimizer's own state dict; None where only its presence is known.
        facts: path in the metadata, dots between → value.
        schedules: names of the schedules.
        records: names in the role "model" that are no dense tensors, and stay records.
        ties: whether tensors that share memory are to share it again; formats without a word for it store them twice.
    """

    path: Path
    kind: str
    made_by: str | None = None
    roles: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    plain: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    optimizers: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    schedules: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    ties: bool = True


@dataclass
class Refusal:
    """Something without weights that we read: what to open, and a pattern of what is to be said."""

    path: Path
    message: str


Made = Truth | Refusal


@dataclass(frozen=True)
class Specimen:
    """One entry of the zoo.

    Attributes:
        name: of the specimen and of its folder.
        program: the package that writes it, as it is called when it is installed.
        what: the call that wrote it, for the table of formats.
        write: writes it into an empty folder and returns the truth.
    """

    name: str
    program: str
    what: str
    write: Callable[[Path], Made]


class Collection:
    """The specimens of one program.

    Args:
        program: the package whose version the table names.
        also: other packages that have to be installed.
    """

    def __init__(self, program: str, *also: str) -> None:
        self.program, self.needs = program, (program, *also)
        self.specimens: dict[str, Specimen] = {}

    def add(self, what: str) -> Callable[[Callable[[Path], Made]], Callable[[Path], Made]]:
        """Puts a function into the collection under its own name."""

        def keep(write: Callable[[Path], Made]) -> Callable[[Path], Made]:
            self.put(write.__name__, what, write)
            return write

        return keep

    def put(self, name: str, what: str, write: Callable[[Path], Made]) -> None:
        """Puts a function into the collection under another name."""
        name = f"{self.program}-{name.replace('_', '-')}"
        assert name not in self.specimens, name
        self.specimens[name] = Specimen(name, self.program, what, write)

    def missing(self) -> list[str]:
        """Returns the packages that are not installed here."""
        return [name for name in self.needs if installed(name) is None]


def installed(package: str) -> str | None:
    """Returns the version of an installed package; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class _Tensors:
    """The tensors of one truth, as their bytes."""

    def __init__(self) -> None:
        self.stored: dict[str, Tensor] = {}
        self.ties: dict[tuple[int, ...], int] = {}
        self.alive: list[Tensor] = []  # a storage that is freed would give its address to another

    def describe(self, tensor: Tensor) -> dict[str, Any]:
        """Returns a tensor's type, shape, key of its bytes and number of its memory."""
        tensor = whole(tensor)
        key = f"{len(self.stored)}"
        rows = tensor.resolve_conj().resolve_neg().contiguous().clone().reshape(-1)
        self.stored[key] = rows.view(torch.uint8)
        self.alive.append(tensor)
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), *tensor.shape)
        tie = self.ties.setdefault(place, len(self.ties)) if tensor.numel() else -1
        return {"$tensor": key, "dtype": str(tensor.dtype), "shape": list(tensor.shape), "memory": tie}

    def encode(self, value: Any) -> Any:
        """Returns a value as JSON. Tuples are lists there, and dicts are pairs."""
        if isinstance(value, Tensor):
            return self.describe(value)
        if isinstance(value, Mapping):
            return {"$dict": [[self.encode(k), self.encode(v)] for k, v in value.items()]}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self.encode(v) for v in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"$float": str(value)}
        assert value is None or type(value) in (str, int, float, bool), (type(value), value)
        return value


def whole(tensor: Tensor) -> Tensor:
    """Returns a tensor without its gradient; one that lies over several processes, put together."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def write_truth(made: Made, specimen: Specimen, folder: Path) -> None:
    """Writes `truth.json` and `truth.safetensors` into a folder."""
    facts: dict[str, Any] = {
        "path": str(made.path.relative_to(folder)),
        "program": specimen.program,
        "version": installed(specimen.program),
    }
    tensors = _Tensors()
    if isinstance(made, Refusal):
        facts["refusal"] = made.message
    else:
        facts |= {"kind": made.kind, "made_by": made.made_by, "ties": made.ties}
        facts |= {"schedules": list(made.schedules), "records": list(made.records)}
        for name in ("roles", "plain", "optimizers", "facts"):
            facts[name] = tensors.encode(getattr(made, name))
    safetensors.torch.save_file(tensors.stored, folder / "truth.safetensors")
    (folder / "truth.json").write_text(json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8")
