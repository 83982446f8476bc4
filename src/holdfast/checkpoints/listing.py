"""What is in a store: which steps there are, what is known of each, which are damaged, and which may go.

All of it is read from what is published, never from a pointer that could go stale. What has not changed is not read
again: a run with a thousand checkpoints looks at a thousand time stamps, not at a thousand files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.contents import STATE_FILE
from holdfast.checkpoints.evaluation import EVALUATION_FILE, parse_evaluation
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.retention import Best, Policy, Saved, best_of
from holdfast.checkpoints.storage import Draft, Storage
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.words import count

_STEP = re.compile(r"step-(\d{8,})")


class Listing:
    """The checkpoints in a storage, by step.

    Args:
        storage: where they are.
        say: receives one line for everything a person should know.

    Attributes:
        resumed_from: the step that this process restored, if any; it is never deleted.
    """

    def __init__(self, storage: Storage, say: Callable[[str], None]) -> None:
        self._storage = storage
        self._say = say
        self._known: dict[int, tuple[object, Saved]] = {}
        self._seen: set[int] | None = None
        self._sound: set[int] = set()
        self._opened: dict[int, object] = {}
        self.resumed_from: int | None = None
        self._published: int | None = None  # last, by this process

    def name(self, step: int) -> str:
        """Returns the name of a step's checkpoint."""
        return f"step-{step:08d}"

    def where(self, step: int) -> str:
        """Returns the path or URL of a step's checkpoint."""
        return self._storage.where(self.name(step))

    def steps(self) -> list[int]:
        """Returns the steps that are published, ascending. Raises CheckpointError when the place cannot be read."""
        try:
            names = self._storage.names()
        except OSError as error:
            raise CheckpointError(
                f"Reading the checkpoints in {self._storage.where()}: {error.strerror or error}. See that the disk is "
                "there and that you may read it."
            ) from error
        found = sorted(int(match[1]) for match in map(_STEP.fullmatch, names) if match)
        if self._seen is None:
            self._seen = set(found)
        return found

    def open(self, step: int) -> Checkpoint:
        """Opens the checkpoint of one step. Raises CheckpointCorrupt when it is damaged or not there."""
        try:
            return Checkpoint(self._storage.fetch(self.name(step)), self.where(step))
        except FileNotFoundError as error:
            raise CheckpointCorrupt(f"There is no checkpoint at {self.where(step)}.") from error
        except OSError as error:
            raise CheckpointError(f"Reading {self.where(step)}: {error.strerror or error}.") from error

    def refuse_step(self, step: int) -> None:
        """Raises CheckpointError when `step` may not be saved here: it is published, or somebody else saves here."""
        steps = self.steps()
        assert self._seen is not None
        if step in steps and not self._may_be_ours(step):
            raise CheckpointError(
                f"Saving {self.where(step)}: found something there that we did not write, expected nothing. It is left "
                "alone; move it away, or give the checkpoints another folder."
            )
        if step in steps:
            raise CheckpointError(
                f"{self.where(step)} is published already, and a published step is never overwritten."
            )
        if strangers := set(steps) - self._seen:
            raise CheckpointError(
                f"Saving {self.where(step)}: step {max(strangers)} has appeared in {self._storage.where()}, and this "
                "process did not save it. Two processes save into one folder; give each its own."
            )

    def publish(self, step: int, fill: Callable[[Draft], None]) -> None:
        """Publishes what `fill` writes. Raises OSError."""
        if self._seen is not None:
            self._seen.add(step)
        self._storage.publish(self.name(step), fill)
        self._published = step
        self._sound.add(step)

    def confirm(self, step: int) -> None:
        """Makes sure that a published checkpoint is whole and durable. Raises CheckpointError when it is not."""
        self.open(step).verify()
        try:
            self._storage.confirm()
        except OSError as error:
            raise CheckpointError(f"Saving {self.where(step)}: {error.strerror or error}.") from error

    def saved(self) -> list[Saved]:
        """Returns what is known of every checkpoint, by step; of a damaged one, only its step.

        A directory that holds nothing of ours, or cannot be looked at, is none: it counts for nothing, and stays.
        """
        known: dict[int, tuple[object, Saved]] = {}
        for step in self.steps():
            try:
                stamp = self._storage.stamp(self.name(step), EVALUATION_FILE)
                if stamp is None and not self._is_ours(step):
                    continue
            except OSError:
                continue
            fresh = step in self._known and self._known[step][0] == stamp
            known[step] = self._known[step] if fresh else (stamp, self._read(step))
        self._known = known
        return [saved for _, saved in known.values()]

    def best(self, rule: Best | None) -> int | None:
        """Returns the best step by `rule`; one whose manifest is damaged is none."""
        saved = self.saved()
        while rule is not None and (step := rule.best(saved)) is not None:
            if self._opens(step):
                return step
            saved = [Saved(one.step) if one.step == step else one for one in saved]
        return None

    def prune(self, keep: Policy) -> None:
        """Deletes what `keep` does not keep. Never the newest, the best, or the one that was resumed from.

        Nor the one just published, where an earlier run left later steps: `save` has returned its path. And nothing at
        all while the newest is damaged: the last valid one may be any of the others.
        """
        saved = self.saved()
        if not saved or not self._is_sound(saved[-1].step):
            return
        best = self.best(best_of(keep))
        kept = keep.keep(saved) | {saved[-1].step, best, self.resumed_from, self._published}
        for step in [s.step for s in saved if s.step not in kept]:
            try:
                self._storage.remove(self.name(step))
            except OSError as error:
                self._say(
                    f"Deleting the old checkpoint of step {step}: {error.strerror or error}. Some of it stays for now."
                )
            self._known.pop(step, None)

    def latest_valid(self, *, set_aside: bool) -> Checkpoint | None:
        """See `CheckpointStore.latest_valid`."""
        reasons: dict[int, str] = {}
        for step in reversed(self.steps()):
            if not self._may_be_ours(step):
                self._say(f"Left alone {self.where(step)}: it holds nothing that we write.")
                continue
            try:
                checkpoint = self.open(step)
                checkpoint.verify()
            except CheckpointCorrupt as error:
                reasons[step] = str(error)
                continue
            self._sound.add(step)
            for damaged, reason in reasons.items():
                self._pass_over(damaged, reason, step, set_aside=set_aside)
            return checkpoint
        if reasons:
            raise CheckpointCorrupt(
                f"No checkpoint in {self._storage.where()} is valid ({len(reasons)} found):\n  "
                + "\n  ".join(reasons.values())
                + "\nPut a good copy back, or move the folder away to start over."
            )
        return None

    def set_aside(self, step: int) -> str:
        """Renames a damaged checkpoint to `damaged-step-…`, out of the way, and returns its new place."""
        source = self.name(step)
        taken = set(self._storage.names())
        target, number = f"damaged-{source}", 2
        while target in taken:
            target = f"damaged-{source}-{number}"
            number += 1
        try:
            self._storage.rename(source, target)
        except OSError as error:
            raise CheckpointError(
                f"Setting the damaged {self.where(step)} aside: {error.strerror or error}."
            ) from error
        return self._storage.where(target)

    def _pass_over(self, step: int, reason: str, used: int, *, set_aside: bool) -> None:
        """Says why a damaged checkpoint is not used, and sets it aside where it is ours to."""
        kept = f" Kept as {Path(self.set_aside(step)).name} for a look; going on" if set_aside else " Going on"
        self._say(
            f"Passed over {self.name(step)}: {reason.removeprefix(f'{self.where(step)}: ').rstrip('.')}.{kept} "
            f"from step {used}, and the {count(step - used, 'step between is', 'steps between are')} run again."
        )

    def _is_sound(self, step: int) -> bool:
        """Whether this process has published or verified a checkpoint; verifies it if not."""
        if step not in self._sound:
            try:
                self.open(step).verify()
            except CheckpointError as error:
                self._say(f"Deleting nothing while the newest checkpoint is not sound: {error}")
                return False
            self._sound.add(step)
        return True

    def _opens(self, step: int) -> bool:
        """Whether the manifest of a checkpoint is whole; an unchanged one is not read again."""
        try:
            stamp = self._storage.stamp(self.name(step), FILE_NAME)
            if self._opened.get(step) != stamp or stamp is None:
                self.open(step)
                self._opened[step] = stamp
        except (OSError, CheckpointError):
            return False
        return True

    def _read(self, step: int) -> Saved:
        with contextlib.suppress(OSError, CheckpointError):
            record = parse_evaluation(self._storage.read(self.name(step), EVALUATION_FILE))
            if record.saved_at is not None:
                return Saved(step, record.metrics, record.epoch, record.saved_at)
        # 0.1.0 wrote the file only for what was evaluated: the manifest knows the rest.
        try:
            checkpoint = self.open(step)
            return Saved(step, checkpoint.metrics, checkpoint.metadata.get("epoch"))
        except CheckpointError:
            return Saved(step)

    def _is_ours(self, step: int) -> bool:
        """Whether a directory of our kind of name holds anything of ours; nobody else's is ever touched."""
        name = self.name(step)
        return any(self._storage.stamp(name, file) is not None for file in (FILE_NAME, STATE_FILE, EVALUATION_FILE))

    def _may_be_ours(self, step: int) -> bool:
        """As `_is_ours`, and True where that cannot be found out: what cannot be read is never taken for not there."""
        try:
            return self._is_ours(step)
        except OSError:
            return True
