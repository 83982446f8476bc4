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
from holdfast.checkpoints.filling import copies, fill_from
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
        file = self._file(part)
        return self._tree(part, file, copy=copy)

    def tensors(self, part: str = "model") -> dict[str, Tensor]:
        """Returns the part's tensors by name, tied ones under all their names. Raises as `read` does."""
        return self._tensors(part, self._file(part), copy=False)

    def restore(self, parts: Parts) -> None:
        """Loads each of `parts` from what was saved under its name; parts saved and not asked for are left alone.

        Raises:
            CheckpointCorrupt, CheckpointMismatch: nothing has been changed then.
        """
        files = {part: self._file(part) for part in parts if part in self.manifest.parts}
        # Modules copy what they load. Others may keep it: they get memory of their own, not pages of the file.
        saved = {
            part: self._tree(part, file, copy=not isinstance(parts[part], nn.Module)) for part, file in files.items()
        }
        load_into(parts, saved, self.where, fill_from(file for file in files.values() if file is not None))

    def _file(self, part: str) -> TensorFile | None:
        """Returns the part's file of tensors, proven; None when it has no tensors."""
        name = self.manifest.parts[self._known(part)].file
        if name is None:
            return None
        if name not in self._proven and (problem := self._file_problem(name)):
            raise CheckpointCorrupt(f"{self.where}: {problem}")
        return self._proven.pop(name)

    def _tree(self, part: str, file: TensorFile | None, *, copy: bool) -> Any:
        return unflatten(self.skeletons[part], self._tensors(part, file, copy=copy))

    def _tensors(self, part: str, file: TensorFile | None, *, copy: bool) -> dict[str, Tensor]:
        if file is None:
            return {}
        tensors = copies(file) if copy else {name: file.tensor(name) for name in file.entries}
        return tensors | {alias: tensors[name] for alias, name in self.manifest.parts[part].aliases.items()}

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
