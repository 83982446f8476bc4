"""A TorchScript archive (`torch.jit.save`): the weights by the names that the module's `state_dict()` would have.

Its `data.pkl` is the tree of modules, attribute by attribute; which of these are parameters and which are buffers only
the text of its classes says, in two lists of names each. These lists are read as text. The program is never run, nor
compiled.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from holdfast.errors import CheckpointError
from holdfast.formats.byte_file import Bytes
from holdfast.formats.inert import InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.torch_zip import find_pickle, read_torch_zip
from holdfast.formats.zip_archive import ZipArchive

_MAX_CODE = 64 << 20  # bytes of all texts of one archive; a large detector has two megabytes
_MAX_STEPS = 1_000_000  # modules and attributes, each as often as it is found
_MAX_LEVELS = 200
_MAX_NAME = 4000  # letters
_CLASS = re.compile(r"^class (\w+)\((\w*)\)")
_LISTS = {"  __parameters__ = [": "parameters", "  __buffers__ = [": "buffers"}
_NAME = re.compile(r'"([^"]*)"')


class Declared(NamedTuple):
    """What the text of one class says of its attributes; the order in the file is the tree's own."""

    parameters: frozenset[str]
    buffers: frozenset[str]


def read_torchscript(file: Bytes, limits: Limits = LIMITS) -> dict[str, Any]:
    """Returns name → tensor of the archive's module, in the order of its `state_dict()`; tensors stay in the file.

    Raises:
        CheckpointCorrupt: it is damaged.
        CheckpointError: its weights were frozen into constants, which have no names, or it asks for more than the
            limits allow.
    """
    archive = ZipArchive(file, limits)
    root = read_torch_zip(file, limits, archive).tree
    found = _state(root, _Classes(archive, limits), file.where)
    if not found and (num_constants := _num_constants(archive)):
        raise CheckpointError(
            f"Reading {file.where}: it is a TorchScript archive whose weights were frozen into {num_constants:,} "
            "constants without names; expected parameters. Open the archive, or the checkpoint, that was frozen."
        )
    return found


class _Classes:
    """What the archive's texts declare, by the full name of the class; each text is read once, when asked for."""

    def __init__(self, archive: ZipArchive, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        pickle = find_pickle(archive) or "data.pkl"
        self.folder = pickle.removesuffix("data.pkl") + "code/"
        self.known: dict[str, dict[str, Declared]] = {}
        self.left = _MAX_CODE

    def find(self, module: str, name: str) -> Declared | None:
        """Returns what a class declares; None for one that is no module or has no text."""
        if module not in self.known:
            self.known[module] = self._read(self.folder + module.replace(".", "/") + ".py")
        return self.known[module].get(name)

    @property
    def any(self) -> bool:
        """Whether there are texts at all: an archive for mobile devices has none."""
        return any(name.startswith(self.folder) and name.endswith(".py") for name in self.archive.entries)

    def _read(self, entry: str) -> dict[str, Declared]:
        if entry not in self.archive.entries:
            return {}
        text = self.archive.read(entry, self.left).decode("utf-8", "replace")
        self.left -= self.archive.entries[entry].num_bytes
        found: dict[str, Declared] = {}
        current, lists = "", dict[str, frozenset[str]]()
        for line in text.split("\n"):
            if start := _CLASS.match(line):
                current, lists = (start[1] if start[2] == "Module" else ""), {}
            head = line[: line.find("[") + 1]
            if current and head in _LISTS:
                lists[_LISTS[head]] = frozenset(_NAME.findall(line))
            if current:
                found[current] = Declared(lists.get("parameters", frozenset()), lists.get("buffers", frozenset()))
        return found


def _state(root: Any, classes: _Classes, where: str) -> dict[str, Any]:
    with_texts = classes.any
    found: dict[str, Any] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, root)]
    steps = 0
    while waiting:
        prefix, level, module = waiting.pop()
        held = module.attributes if isinstance(module, InertObject) else {}
        steps += 1 + len(held)
        if steps > _MAX_STEPS or level >= _MAX_LEVELS:
            raise CheckpointError(
                f"Reading {where}: its modules contain each other more than {_MAX_LEVELS} levels deep or in "
                f"{_MAX_STEPS:,} places; no network does. Is it the right file?"
            )
        declared = classes.find(module.module, module.name) if held else None
        if held and with_texts and declared is None:
            continue  # an object of another kind: torch's own state_dict() leaves its tensors out, too
        tensors = {name: v for name, v in held.items() if type(name) is str and isinstance(v, LazyTensor)}
        for kind in (declared.parameters, declared.buffers) if declared else (tensors.keys(),):
            found |= {prefix + name: tensor for name, tensor in tensors.items() if name in kind}
        for name, child in reversed(held.items()):
            if type(name) is str and isinstance(child, InertObject) and len(prefix) + len(name) < _MAX_NAME:
                waiting.append((f"{prefix}{name}.", level + 1, child))
    return found


def _num_constants(archive: ZipArchive) -> int:
    """Returns the number of tensors that the program's text holds as constants."""
    return sum("/constants/" in f"/{name}" and not name.endswith(".pkl") for name in archive.entries)
