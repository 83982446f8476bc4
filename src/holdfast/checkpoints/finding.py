"""Prove one checkpoint or one file: read every byte of it from the disk and compare every digest. Writes nothing.

*Proven* means: read now, and equal to the digest that was taken when it was saved. What carries no digest (somebody
else's safetensors file) may well be sound, and is not proven; what cannot be proven is not ok, for whoever asks wants
to rely on the answer.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.single_file import is_single_file, read_single_file
from holdfast.checkpoints.tensors import TensorFile
from holdfast.errors import CheckpointCorrupt, CheckpointError, ConfigError

STEP_NAME = re.compile(r"step-(\d{8,})")
_STATE_FILE = "state.json"
_EVALUATION_FILE = "evaluation.json"  # no manifest covers it: it is written anew when something is measured
_PIECE_BYTES = 8 << 20

Verdict = Literal["ok", "damaged", "newer format", "not provable"]


@dataclass(frozen=True)
class Finding:
    """What was found of one checkpoint or one file.

    Attributes:
        path: its place.
        verdict: "ok" when every byte is proven; "newer format" when a newer Holdfast wrote it; "not provable" when it
            is well formed and carries no digests.
        problem: what is wrong, naming file and tensor; None when nothing is.
        step: optimizer updates made; None for a file, or when nothing says.
        num_tensors: how many it holds, tied ones once; None when that cannot be read.
        num_files: of a checkpoint, the manifest, all that it names, and the evaluation; None when that cannot be read.
        num_bytes: of these files, as they lie there; None when that cannot be read.
    """

    path: Path
    verdict: Verdict
    problem: str | None = None
    step: int | None = None
    num_tensors: int | None = None
    num_files: int | None = None
    num_bytes: int | None = None

    @property
    def ok(self) -> bool:
        """Whether every byte is proven."""
        return self.verdict == "ok"

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "path": str(self.path),
            "step": self.step,
            "ok": self.ok,
            "verdict": self.verdict,
            "num_tensors": self.num_tensors,
            "num_files": self.num_files,
            "num_bytes": self.num_bytes,
            "problem": self.problem,
        }

    def line(self) -> str:
        """Returns it as one line of text."""
        name = self.path.name or str(self.path)  # `.` has no name
        if not self.ok:
            return f"{name}  {self.verdict.upper()}  {' '.join((self.problem or '').split())}"
        files = f"{_count(self.num_files, 'file')}, " if self.step is not None else ""
        return f"{name}  ok  {_count(self.num_tensors, 'tensor')}, {files}{_size(self.num_bytes or 0)}"


def verify_checkpoint(path: Path) -> Finding:
    """Proves a checkpoint directory: every file, every tensor, and that its name is that of the step inside."""
    named = STEP_NAME.fullmatch(path.name)
    try:
        checkpoint = Checkpoint(path)
    except CheckpointError as error:
        verdict: Verdict = "damaged" if isinstance(error, CheckpointCorrupt) else "newer format"
        return Finding(path, verdict, _without_place(error, path), int(named[1]) if named else None)
    manifest = checkpoint.manifest
    files = [path / FILE_NAME, *(path / name for name in manifest.files)]
    files += [path / _EVALUATION_FILE] if (path / _EVALUATION_FILE).exists() else []
    problems = [problem for file in files if (problem := _reading_problem(file))]
    if not problems:
        try:
            checkpoint.verify()
            problems = list(_contradictions(checkpoint))
        except CheckpointCorrupt as error:
            problems = [_without_place(error, path)]
    right_name = f"step-{manifest.step:08d}"
    if not problems and named and path.name != right_name:
        problems = [f"it holds step {manifest.step} and was renamed; its name is {right_name}"]
    num_tensors = sum(len(part.tensors) for part in manifest.parts.values())
    return Finding(
        path,
        "damaged" if problems else "ok",
        "; ".join(problems) or None,
        manifest.step,
        num_tensors,
        len(files),
        _num_bytes(files),
    )


def verify_file(path: Path) -> Finding:
    """Proves a safetensors file by the digests in its header, or by the manifest of the checkpoint it lies in.

    Raises:
        ConfigError: it is no safetensors file, by its name as by its contents.
    """
    if problem := _reading_problem(path):
        return Finding(path, "damaged", problem)
    try:
        file = TensorFile(path)
    except CheckpointCorrupt as error:
        if path.suffix != ".safetensors":
            raise ConfigError(
                f"Verifying {path}: it is not a safetensors file, and files of other kinds carry no digests. "
                "Give a run, a checkpoint directory or a .safetensors file."
            ) from error
        return Finding(path, "damaged", _without_place(error, path))
    verdict, problem = _verdict_on(path)
    return Finding(path, verdict, problem, None, len(file.keys()), 1, file.num_bytes)


def _verdict_on(path: Path) -> tuple[Verdict, str | None]:
    """Returns the verdict on a well-formed safetensors file, and what is wrong with it."""
    try:
        if is_single_file(path):
            read_single_file(path)
            return "ok", None
        if (path.parent / FILE_NAME).is_file():
            checkpoint = Checkpoint(path.parent)
            part = next((name for name, part in checkpoint.manifest.parts.items() if part.file == path.name), None)
            if part is not None:
                checkpoint.tensors(part)
                return "ok", None
    except CheckpointCorrupt as error:
        return "damaged", _without_place(error, path, path.parent)
    except CheckpointError as error:
        return "newer format", _without_place(error, path, path.parent)
    return "not provable", (
        "its header and sizes are sound, but it carries no digests (Holdfast did not write it): "
        "a value that was changed would not show"
    )


def _contradictions(checkpoint: Checkpoint) -> Iterator[str]:
    """Yields where files that are as they were written are not what the manifest says of their contents."""
    files = checkpoint.manifest.files
    if _STATE_FILE not in files:
        yield f"{FILE_NAME} has no digest of {_STATE_FILE}"
    for part in checkpoint.manifest.parts.values():
        if part.file is None:
            continue
        if part.file not in files:
            yield f"{FILE_NAME} has no digest of {part.file}"
            continue
        file = TensorFile(checkpoint.path / part.file)
        for name in sorted({*file.entries, *part.tensors}):
            found, entry = file.entries.get(name), part.tensors.get(name)
            if found is None or entry is None:
                yield f"{name} is in only one of {part.file} and {FILE_NAME}"
            elif (found["dtype"], tuple(found["shape"])) != (entry.dtype, entry.shape):
                is_now = f"{found['dtype']} {list(found['shape'])}"
                yield f"{name} is {is_now} in {part.file}, and {entry.dtype} {list(entry.shape)} in {FILE_NAME}"


def _reading_problem(path: Path) -> str | None:
    """Returns why a file cannot be read to its end, or None. One that is missing is left to others to tell.

    Digests are taken of mapped memory, where a bad sector ends the process (SIGBUS); here it is an error with a name.
    """
    buffer = bytearray(_PIECE_BYTES)
    try:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror or error})"
    return None


def _num_bytes(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(OSError):  # missing, which is told already
            total += file.stat().st_size
    return total


def _without_place(error: CheckpointError, *places: Path) -> str:
    """Returns the message without the path, which stands before it already."""
    text = str(error)
    for place in places:
        text = text.replace(f"{place}: ", "").replace(f"{place}/", "").removeprefix(f"{place} ")
    return text


def _count(number: int | None, noun: str) -> str:
    return f"{number or 0:,} {noun}{'' if number == 1 else 's'}"


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.1f} {unit}" if unit != "bytes" else f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.2f} GB"
