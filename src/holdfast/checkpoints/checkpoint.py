"""One published checkpoint, opened for reading. Every byte that is used is checked against its digest first."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from holdfast.checkpoints.contents import STATE_FILE
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.evaluation import EVALUATION_FILE, read_evaluation
from holdfast.checkpoints.flatten import unflatten
from holdfast.checkpoints.manifest import Manifest, read_manifest
from holdfast.checkpoints.named_state import Parts, load_into
from holdfast.checkpoints.tensor_proof import damaged_tensors, is_proven
from holdfast.checkpoints.tensors import TensorFile
from holdfast.errors import CheckpointCorrupt, CheckpointMismatch


class Checkpoint:
    """A checkpoint directory.

    Args:
        path: the directory, `step-00001200`.
        where: what messages call it, when that is not the path: the URL that it was fetched from.

    Raises:
        CheckpointCorrupt: its manifest is missing or damaged.
        CheckpointError: it was written by a newer Holdfast.
    """

    def __init__(self, path: str | Path, where: str | None = None) -> None:
        self.path = Path(path)
        self.where = where or str(self.path)
        self.manifest: Manifest = read_manifest(self.path, self.where)
        self._proven: dict[str, TensorFile] = {}  # verified and not read yet: reading need not hash it again

    def __repr__(self) -> str:
        return f"Checkpoint({self.where!r}, step={self.step})"

    @property
    def step(self) -> int:
        """Optimizer updates made when it was saved."""
        return self.manifest.step

    @property
    def metadata(self) -> dict[str, Any]:
        """What the saver added: epoch, classes, preprocessing, architecture …."""
        return self.manifest.metadata

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics saved with it, and those measured since. Raises CheckpointCorrupt if these are damaged."""
        return {**self.manifest.metrics, **read_evaluation(self.path / EVALUATION_FILE).metrics}

    def verify(self) -> None:
        """Reads every file and compares every digest.

        Raises:
            CheckpointCorrupt: naming every file that is missing, cut or changed, and the tensors it hit.
        """
        problems = [problem for name in self.manifest.files if (problem := self._file_problem(name))]
        try:
            read_evaluation(self.path / EVALUATION_FILE)
        except CheckpointCorrupt as error:
            problems.append(str(error))
        if problems:
            raise CheckpointCorrupt(f"{self.where}: " + "; ".join(problems))

    def read(self, part: str, *, copy: bool = False) -> Any:
        """Returns the state of one part as it was handed out, tensors on the CPU, mapped from the file unless `copy`.

        Raises:
            CheckpointMismatch: there is no such part.
            CheckpointCorrupt: the bytes are not those that were saved.
        """
        tensors = self.tensors(part)
        if copy:
            aliases = self.manifest.parts[part].aliases
            tensors = {name: tensor.clone() for name, tensor in tensors.items() if name not in aliases}
            tensors |= {alias: tensors[name] for alias, name in aliases.items()}
        return unflatten(self.skeletons[self._known(part)], tensors)

    def tensors(self, part: str = "model") -> dict[str, Tensor]:
        """Returns the part's tensors by name, tied ones under all their names. Raises as `read` does."""
        entry = self.manifest.parts[self._known(part)]
        if entry.file is None:
            return {}
        if entry.file not in self._proven and (problem := self._file_problem(entry.file)):
            raise CheckpointCorrupt(f"{self.where}: {problem}")
        file = self._proven.pop(entry.file)
        tensors = {name: file.tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        return tensors | {alias: tensors[name] for alias, name in entry.aliases.items()}

    def restore(self, parts: Parts) -> None:
        """Loads each of `parts` from what was saved under its name; parts saved and not asked for are left alone.

        Raises:
            CheckpointCorrupt, CheckpointMismatch: nothing has been changed then.
        """
        # Modules copy what they load. Others may keep it: they get memory of their own, not pages of the file.
        saved = {
            part: self.read(part, copy=not isinstance(value, nn.Module))
            for part, value in parts.items()
            if part in self.manifest.parts
        }
        load_into(parts, saved, self.where)

    def _known(self, part: str) -> str:
        if part not in self.manifest.parts:
            raise CheckpointMismatch(f"{self.where} has no part {part!r}; it holds {', '.join(self.manifest.parts)}.")
        return part

    @cached_property
    def skeletons(self) -> dict[str, Any]:
        """Returns the JSON skeleton of every part (`flatten.py`). Raises CheckpointCorrupt if they are damaged."""
        if problem := self._file_problem(STATE_FILE):
            raise CheckpointCorrupt(f"{self.where}: {problem}")
        skeletons: dict[str, Any] = json.loads((self.path / STATE_FILE).read_bytes())
        return skeletons

    def _file_problem(self, name: str) -> str | None:
        """Returns what is wrong with one file of the manifest, or None."""
        path, expected = self.path / name, self.manifest.files.get(name)
        if expected is None:
            return f"{name} is not in the manifest"
        try:
            size = path.stat().st_size
            if size != expected.num_bytes:
                return f"{name} is {size:,} bytes, the manifest says {expected.num_bytes:,}"
            if name.endswith(".safetensors"):
                return self._tensor_file_problem(name)
            return None if digest_of(path.read_bytes()) == expected.digest else f"{name} does not match its digest"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror or error})"

    def _tensor_file_problem(self, name: str) -> str | None:
        try:
            file = TensorFile(self.path / name)
        except CheckpointCorrupt as error:
            return str(error)
        entries = next((part.tensors for part in self.manifest.parts.values() if part.file == name), {})
        if is_proven(file, entries, self.manifest.files[name].digest):
            self._proven[name] = file
            return None
        hit = damaged_tensors(file, entries)
        damaged = (", ".join(hit[:3]) or "its header") + (" …" if len(hit) > 3 else "")
        return f"{name} does not match its digest (damaged: {damaged})"
