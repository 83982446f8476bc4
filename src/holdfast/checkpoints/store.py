"""A directory of checkpoints: publish, list, restore, prune.

The order of a save is the whole point: write into a hidden sibling; sync each file; manifest last; sync the directory;
rename; sync the parent; only then prune. Whatever stops it in between, the checkpoints that were there are still there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.checkpoints import files
from holdfast.checkpoints.checkpoint import EVALUATION_FILE, STATE_FILE, Checkpoint, format_evaluation, read_evaluation
from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.manifest import FILE_NAME, FileEntry, Manifest, PartEntry
from holdfast.checkpoints.named_state import Parts, state_of
from holdfast.checkpoints.retention import Retention
from holdfast.checkpoints.tensors import write_tensors
from holdfast.errors import CheckpointCorrupt, CheckpointError, UnsupportedState

_STEP = re.compile(r"step-(\d{8,})")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_RESERVED_PARTS = {"state", "manifest", "evaluation"}


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class CheckpointStore:
    """Checkpoints of one training run, in `root/step-00001200/` and so on.

    Three lines in anyone's loop:

        store = CheckpointStore("runs/a")
        start = store.restore_latest(parts)   # parts: name → anything with state_dict; 0 when empty
        store.save(step, parts)               # at the end of a step

    Args:
        root: the directory; made at the first save.
        retention: which checkpoints a save leaves; by default the newest three.
        say: receives one line for everything a person should know; by default it goes to stderr.
    """

    def __init__(self, root: str | Path, retention: Retention | None = None, say: Callable[[str], None] = _say) -> None:
        self.root = Path(root)
        self.retention = retention or Retention()
        self._say = say
        self._known: dict[int, tuple[tuple[int, ...], dict[str, float]]] = {}

    def save(
        self,
        step: int,
        parts: Parts,
        metrics: dict[str, float] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Path:
        """Publishes a checkpoint of `parts` and prunes. When it returns, the checkpoint is on the disk.

        Args:
            step: optimizer updates made; names the checkpoint.
            parts: name → module, optimizer, anything with `state_dict`, or a tree of tensors and JSON values.
            metrics: name → number, for choosing the best.
            metadata: JSON values to carry along.

        Returns:
            The checkpoint's directory.

        Raises:
            UnsupportedState: a value cannot be stored; nothing has been written.
            CheckpointError: the step is published already, or the disk refused. What was there is unharmed.
        """
        for part in parts:
            if not _PART.fullmatch(part) or part in _RESERVED_PARTS:
                raise CheckpointError(f"A part cannot be called {part!r}; use letters, digits, '_', '-' and '.'.")
        if step < 0:
            raise CheckpointError(f"A checkpoint cannot be of step {step}; steps count from 0.")
        target = self._directory(step)
        if target.exists():
            raise CheckpointError(f"{target} is published already, and a published step is never overwritten.")
        flat = {part: flatten(tree, part) for part, tree in state_of(parts).items()}
        numbers = _finite(metrics or {})
        try:
            metadata = json.loads(_json_bytes(metadata or {}))
        except (TypeError, ValueError) as error:
            raise UnsupportedState(f"Saving the metadata of {target}: {error}; expected JSON values.") from error
        aside = self.root / f"{files.HIDDEN_PREFIX}{target.name}.{os.getpid()}"
        try:
            files.make_parents(self.root)
            self._remove_leftovers()
            files.make_directory(aside)
            self._write(aside, step, flat, numbers, metadata)
            files.rename(aside, target)
            files.sync_directory(self.root)
        except OSError as error:
            if aside.exists():
                _remove_quietly(aside)
            raise CheckpointError(
                f"Saving {target}: {error.strerror or error}. The checkpoints before it are unharmed."
            ) from error
        self.prune()
        return target

    def annotate(self, step: int, metrics: dict[str, float]) -> None:
        """Adds metrics that were measured after step `step` was published. Numbers that are not finite are left out.

        Raises:
            CheckpointError: there is no such checkpoint, or the disk refused.
            CheckpointCorrupt: what was measured before is damaged.
        """
        path = self._directory(step) / EVALUATION_FILE
        known = read_evaluation(path)
        try:
            files.replace_durably(path, format_evaluation({**known, **_finite(metrics)}))
        except OSError as error:
            raise CheckpointError(f"Writing {path}: {error.strerror or error}.") from error

    def steps(self) -> list[int]:
        """Returns the steps that are published, ascending. They are not verified by this."""
        if not self.root.is_dir():
            return []
        found = (_STEP.fullmatch(name) for name in os.listdir(self.root))  # noqa: PTH208  # names are all we need
        return sorted(int(match[1]) for match in found if match)

    def open(self, step: int) -> Checkpoint:
        """Opens the checkpoint of one step. Raises CheckpointCorrupt when it is damaged or not there."""
        return Checkpoint(self._directory(step))

    def restore_latest(self, parts: Parts) -> int:
        """Restores the newest valid checkpoint into `parts`; damaged ones are named, set aside and passed over.

        Returns:
            The step it was saved at; 0 when there is no checkpoint at all.

        Raises:
            CheckpointCorrupt: there are checkpoints, and none is valid. We never quietly start over.
            CheckpointMismatch: the newest valid one does not fit `parts`. Nothing has been changed then.
        """
        checkpoint = self.latest_valid()
        if checkpoint is None:
            return 0
        checkpoint.restore(parts)
        return checkpoint.step

    def latest_valid(self, *, set_aside: bool = True) -> Checkpoint | None:
        """Returns the newest checkpoint after verifying every byte of it; None when there is no checkpoint at all.

        Newer ones that are damaged are named and set aside as `damaged-step-…`, out of the way of the run that
        comes by again.

        Args:
            set_aside: False only looks: damaged ones are passed over where they are (a run that is not ours).

        Raises:
            CheckpointCorrupt: there are checkpoints, and none is valid.
        """
        steps = self.steps()
        reasons: list[str] = []
        for step in reversed(steps):
            try:
                checkpoint = self.open(step)
                checkpoint.verify()
            except CheckpointCorrupt as error:
                reasons.append(str(error))
                continue
            damaged = steps[len(steps) - len(reasons) :]
            for step_aside, reason in zip(reversed(damaged), reasons, strict=True):
                self._pass_over(step_aside, reason, checkpoint.step, set_aside=set_aside)
            return checkpoint
        if reasons:
            raise CheckpointCorrupt(
                f"No checkpoint in {self.root} is valid ({len(reasons)} found):\n  " + "\n  ".join(reasons) + "\n"
                "Put a good copy back, or move the folder away to start over."
            )
        return None

    def best(self) -> int | None:
        """Returns the step with the best metric of those on disk, by the retention's metric and direction."""
        return self.retention.best(self._metrics_by_step())

    def prune(self) -> None:
        """Deletes what the retention does not keep. Never the newest (what a run resumes from) or the best."""
        metrics = self._metrics_by_step()
        kept = self.retention.keep(metrics)
        for step in metrics.keys() - kept:
            # Out of sight in one step first: a deletion that is cut short leaves no half checkpoint behind.
            aside = self.root / f"{files.HIDDEN_PREFIX}pruned-{step}.{os.getpid()}"
            try:
                files.rename(self._directory(step), aside)
                files.sync_directory(self.root)
                files.remove_tree(aside)
            except OSError as error:
                self._say(
                    f"Deleting the old checkpoint of step {step}: {error.strerror or error}. Some of it stays for now."
                )
            self._known.pop(step, None)

    def _write(
        self,
        directory: Path,
        step: int,
        flat: dict[str, FlatState],
        metrics: dict[str, float],
        metadata: dict[str, Any],
    ) -> None:
        parts: dict[str, PartEntry] = {}
        entries: dict[str, FileEntry] = {}
        for part, state in flat.items():
            if not state.tensors:
                parts[part] = PartEntry(None)
                continue
            name = f"{part}.safetensors"
            written = write_tensors(directory / name, state.tensors, {"format": "pt"})
            entries[name] = FileEntry(written.num_bytes, written.digest)
            parts[part] = PartEntry(name, written.tensors, state.aliases)
        skeletons = {part: state.skeleton for part, state in flat.items()}
        entries[STATE_FILE] = FileEntry(*files.write_durably(directory / STATE_FILE, [_json_bytes(skeletons)]))
        manifest = Manifest(step, parts, entries, metrics, metadata)
        files.write_durably(directory / FILE_NAME, [manifest.to_bytes()])
        files.sync_directory(directory)

    def set_aside(self, step: int) -> Path:
        """Renames a damaged checkpoint to `damaged-step-…`, out of the way, and returns its new place."""
        source = self._directory(step)
        target = self.root / f"damaged-{source.name}"
        number = 2
        while target.exists():
            target = self.root / f"damaged-{source.name}-{number}"
            number += 1
        try:
            files.rename(source, target)
            files.sync_directory(self.root)
        except OSError as error:
            raise CheckpointError(f"Setting the damaged {source} aside: {error.strerror or error}.") from error
        return target

    def _pass_over(self, step: int, reason: str, used: int, *, set_aside: bool) -> None:
        """Says why a damaged checkpoint is not used, and sets it aside where it is ours to."""
        source = self._directory(step)
        kept = f" Kept as {self.set_aside(step).name} for a look;" if set_aside else ""
        self._say(
            f"Passed over {source.name}: {reason.removeprefix(f'{source}: ').rstrip('.')}.{kept} "
            f"going on from step {used}, and the {step - used} steps between are run again."
        )

    def _metrics_by_step(self) -> dict[int, dict[str, float]]:
        """Returns the metrics of every checkpoint; a damaged one has none. What has not changed is not read again."""
        steps = self.steps()
        for step in steps:
            stamp = tuple(_mtime(self._directory(step) / name) for name in (FILE_NAME, EVALUATION_FILE))
            if self._known.get(step, (None,))[0] == stamp:
                continue
            try:
                self._known[step] = (stamp, self.open(step).metrics)
            except CheckpointError:
                self._known[step] = (stamp, {})
        return {step: self._known[step][1] for step in steps}

    def _directory(self, step: int) -> Path:
        return self.root / f"step-{step:08d}"

    def _remove_leftovers(self) -> None:
        """Deletes what earlier processes left unfinished; a living process's work is left alone."""
        for name in os.listdir(self.root):  # noqa: PTH208  # names are all we need
            owner = name.rpartition(".")[2]
            if name.startswith(files.HIDDEN_PREFIX) and owner.isdecimal() and not _is_alive(int(owner)):
                _remove_quietly(self.root / name)


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # one save at a time: our own leftover is from a save that failed
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_quietly(path: Path) -> None:
    # Hidden and unfinished: the next save tries again, and nobody ever reads it.
    with contextlib.suppress(OSError):
        files.remove_tree(path)


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()
