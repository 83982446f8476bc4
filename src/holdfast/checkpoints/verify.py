"""Prove every byte of what a path names: a run, a folder of checkpoints, one checkpoint, or one file.

`finding.py` proves one thing; here is what a path stands for, and what its answer is as a whole. Nothing is written or
moved, so a read-only folder and a run that trains at this moment are fine. A run without a checkpoint has nothing that
could be proven, and its answer is no.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from holdfast.checkpoints.files import HIDDEN_PREFIX
from holdfast.checkpoints.finding import STEP_NAME, Finding, verify_checkpoint, verify_file
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.retention import BEST_OF_RUN
from holdfast.checkpoints.store import CheckpointStore
from holdfast.errors import CheckpointError, ConfigError

_CHECKPOINTS, _RUN_FILE, _BEST_FILE = "checkpoints", "config.yaml", "best.safetensors"  # of a run
_DAMAGED = re.compile(r"damaged-step-\d{8,}(-\d+)?")
_LOCK = f"{HIDDEN_PREFIX}lock"  # of a run that trains or did: no leftover
_EXPECTED = "Give a run, a folder of checkpoints, a checkpoint directory or a .safetensors file."


@dataclass(frozen=True)
class SetAside:
    """Something of ours that is neither a checkpoint nor a failure: found damaged before, or left by a killed save."""

    path: Path
    what: Literal["damaged, set aside before", "unfinished, or being written", "pruned, not yet deleted"]


@dataclass(frozen=True)
class Verification:
    """The answer for one path.

    Attributes:
        path: as it was asked for.
        checkpoints: what was found of each, by step.
        files: what was found of each single file.
        set_aside: what else of ours lies there; none of it was read.
        problem: why nothing is proven though nothing is damaged; None otherwise.
    """

    path: str
    checkpoints: list[Finding]
    files: list[Finding]
    set_aside: list[SetAside]
    problem: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there was something to prove, and all of it is proven."""
        return self.problem is None and all(finding.ok for finding in (*self.checkpoints, *self.files))

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "path": self.path,
            "ok": self.ok,
            "problem": self.problem,
            "checkpoints": [finding.to_json() for finding in self.checkpoints],
            "files": [finding.to_json() for finding in self.files],
            "set_aside": [{"path": str(aside.path), "what": aside.what} for aside in self.set_aside],
        }


def verify_path(spec: str, told: Callable[[Finding], None] = lambda _: None) -> Verification:
    """Reads every byte of what `spec` names and compares every digest. Writes nothing.

    Args:
        spec: a run (all its checkpoints and best.safetensors), a folder of checkpoints, one of either
            (`runs/x@last`, `runs/x@best`, `runs/x@1200`), a checkpoint directory, or a safetensors file.
        told: receives each finding as soon as it is there.

    Raises:
        ConfigError: there is nothing there, nothing of ours, or no such step.
        CheckpointError: the folder cannot be listed, or no checkpoint has been evaluated and the best was asked for.
    """

    def tell(finding: Finding) -> Finding:
        told(finding)
        return finding

    name, _, which = spec.rpartition("@") if "@" in spec and not Path(spec).exists() else (spec, "", "")
    path = Path(name).expanduser()
    if "://" in spec:
        raise ConfigError(
            f"Verifying {spec}: it is a URL; expected a path of this machine. Copy it here first. "
            "What is restored from a URL is proven then."
        )
    if not path.exists():
        raise ConfigError(f"Verifying {spec}: there is nothing at {path}. {_EXPECTED}")
    if which:
        return Verification(spec, [tell(verify_checkpoint(_chosen(spec, path, which)))], [], [])
    if path.is_file():
        return Verification(spec, [], [tell(verify_file(path))], [])
    if (path / FILE_NAME).is_file() or STEP_NAME.fullmatch(path.name) or _DAMAGED.fullmatch(path.name):
        return Verification(spec, [tell(verify_checkpoint(path))], [], [])
    root = _root(path)
    names = _names(root)
    aside = _set_aside(root, names) + (_set_aside(path, _names(path)) if root != path else [])
    if not ((path / _RUN_FILE).is_file() or aside or any(map(STEP_NAME.fullmatch, names))):
        raise ConfigError(f"Verifying {spec}: found a folder with nothing of Holdfast's in it. {_EXPECTED}")
    checkpoints = [tell(finding) for finding in _findings(root, names)]
    files = [tell(verify_file(path / _BEST_FILE))] if (path / _BEST_FILE).is_file() else []
    problem = None if checkpoints else "no checkpoint, so nothing is proven"
    return Verification(spec, checkpoints, files, aside, problem)


def _root(path: Path) -> Path:
    """Returns the folder of checkpoints of a run; any other folder may be one itself."""
    return path / _CHECKPOINTS if (path / _CHECKPOINTS).is_dir() else path


def _findings(root: Path, names: list[str]) -> Iterator[Finding]:
    for _, name in sorted((int(match[1]), match[0]) for match in map(STEP_NAME.fullmatch, names) if match):
        finding = verify_checkpoint(root / name)
        # A run that trains meanwhile may have pruned it under our hands: then it is gone, and not damaged.
        if finding.ok or os.path.lexists(root / name):
            yield finding


def _chosen(spec: str, path: Path, which: str) -> Path:
    """Returns the directory of the checkpoint that is the best, the last, or of a step."""
    store = CheckpointStore(_root(path), BEST_OF_RUN)
    steps = store.steps()
    if not steps:
        raise ConfigError(f"Verifying {spec}: {path} holds no checkpoints to choose {which!r} from. {_EXPECTED}")
    step = store.best() if which == "best" else steps[-1] if which == "last" else None
    if which == "best" and step is None:
        raise CheckpointError(
            f"Verifying {spec}: no checkpoint has been evaluated yet, so none is the best. Ask for "
            f"the newest: {path}@last."
        )
    if step is None and which.isdecimal() and int(which) in steps:
        step = int(which)
    if step is None:
        raise ConfigError(
            f"Verifying {spec}: there is no checkpoint {which!r}. Ask for best, last, or a step: "
            f"{', '.join(map(str, steps))}."
        )
    return Path(store.root) / f"step-{step:08d}"


def _set_aside(folder: Path, names: list[str]) -> list[SetAside]:
    found = []
    for name in sorted(names):
        if _DAMAGED.fullmatch(name):
            found.append(SetAside(folder / name, "damaged, set aside before"))
        elif name.startswith(f"{HIDDEN_PREFIX}pruned-"):
            found.append(SetAside(folder / name, "pruned, not yet deleted"))
        elif name.startswith(HIDDEN_PREFIX) and name != _LOCK:
            found.append(SetAside(folder / name, "unfinished, or being written"))
    return found


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # names are all we need
    except OSError as error:
        raise CheckpointError(
            f"Verifying {folder}: it cannot be listed ({error.strerror or error}). Its owner can tell you why."
        ) from error
