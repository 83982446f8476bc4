"""A directory of checkpoints: publish, list, restore, prune.

The order of a save is the whole point: write into a hidden sibling; sync each file; manifest last; sync the directory;
rename; sync the parent; only then prune. Whatever stops it in between, the checkpoints that were there are still there.
All of that happens on a thread of the store's own; the loop waits for what `snapshot.py` says, and no longer.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.optim import Optimizer

from holdfast.checkpoints.arguments import check_parts, step_of
from holdfast.checkpoints.background import Background, Job
from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.contents import Contents, plain_json
from holdfast.checkpoints.deferred import defer
from holdfast.checkpoints.evaluation import EVALUATION_FILE, EvaluationRecord, finite, parse_evaluation
from holdfast.checkpoints.flatten import FlatState, flatten
from holdfast.checkpoints.listing import Listing
from holdfast.checkpoints.named_state import Parts, state_of
from holdfast.checkpoints.remote import is_url, open_storage
from holdfast.checkpoints.retention import Last, Policy, best_of
from holdfast.checkpoints.snapshot import Snapshot, SnapshotMemory
from holdfast.checkpoints.steady import optimizers_of, steady_storages
from holdfast.checkpoints.storage import Draft, Storage
from holdfast.errors import CheckpointError

_living: weakref.WeakSet[CheckpointStore] = weakref.WeakSet()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class CheckpointStore:
    """Checkpoints of one training run, in `root/step-00001200/` and so on.

    Three lines in anyone's loop:

        store = CheckpointStore("runs/a")
        start = store.restore_latest(parts)   # parts: name → anything with state_dict; 0 when empty
        store.save(step, parts)               # at the end of a step

    A save goes on in the background. The optimizers among the parts wait for it before they change a weight; call
    `settle` before you change their weights or slots in another way. (Of a change that comes too early torch's version
    counters tell, and that save fails; not so of one through `.data`, or in a replayed CUDA graph.) When a save fails,
    the checkpoints before it are unharmed, and the error is raised at the next step of an optimizer, the next save,
    `wait` or `close`.

    Args:
        root: the directory, made at the first save; or a URL, such as `s3://bucket/run` (any that fsspec opens).
        keep: which checkpoints a save leaves, such as `Last(3) | Best("accuracy")`; by default the newest three.
        background: False saves before `save` returns, and copies nothing. Then a kill costs the steps since the last
            save; in the background also those made while it was written.
        on_failure: receives the error of a save that failed, in place of raising it; the loop goes on.
        say: receives one line for everything a person should know; by default it goes to stderr.
    """

    def __init__(
        self,
        root: str | Path,
        keep: Policy | None = None,
        *,
        background: bool = True,
        on_failure: Callable[[CheckpointError], None] | None = None,
        say: Callable[[str], None] = _say,
    ) -> None:
        self.root: Any = str(root) if is_url(root) else Path(root)  # a Path; of a URL, its text
        self.keep = keep or Last(3)
        self.background = background
        self._storage: Storage = open_storage(root)
        self._key = str(root) if is_url(root) else os.path.realpath(root)
        self._on_failure, self._say = on_failure, say
        self._listing = Listing(self._storage, say)
        self._lane = Background()
        self._memory = SnapshotMemory(), SnapshotMemory()  # of what is copied at once, and of the rest
        self._snapshot: Snapshot | None = None
        self._hooked: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._saving = threading.RLock()
        self._unsaved: set[int] = set()
        self._stored: set[str] = set()  # parts of which a state was found storable
        _living.add(self)
        # What the process that ends without `close` still waits for.
        self._at_exit = weakref.finalize(self, _finish, self._lane, say)

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane.wait()
        if value is None:
            self.close()

    def save(
        self,
        step: int,
        parts: Parts,
        metrics: dict[str, float] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Path | str:
        """Saves `parts` as they are now, and prunes once that is durable. Waits for the save before, if it is not done.

        Args:
            step: optimizer updates made; names the checkpoint.
            parts: name → module, optimizer, anything with `state_dict`, or a tree of tensors and JSON values.
            metrics: name → number, for choosing the best. Those that are not finite are left out.
            metadata: JSON values to carry along; an integer `epoch` counts for `EveryEpochs`.

        Returns:
            The directory (of a remote store, the URL) that the checkpoint has once it is published.

        Raises:
            UnsupportedState: a value cannot be stored; nothing has been written.
            CheckpointError: step, parts or metrics are not what they should be, the step is published already, or the
                disk refused (this save, or the one before it when that was in the background). What was there is
                unharmed.
        """
        step = step_of(step)
        check_parts(parts)
        with self._saving:
            self.wait()
            where = self._listing.where(step)
            if step in self._unsaved and self._arrived(step):
                if metrics:
                    self.annotate(step, metrics)
                return self._place(step)
            self._listing.refuse_step(step)
            trees = state_of(parts)
            contents = Contents(step, finite(metrics or {}), plain_json(metadata or {}, where), time.time())
            if self.background:
                self._hold_steps(optimizers_of(parts))
                try:
                    self._snapshot = snapshot = self._snapshot_of(parts, trees)
                    self._lane.submit(lambda: self._publish(contents, snapshot.states))
                except BaseException:
                    # Ctrl-C, say. A copy that was begun may still be written to: the next snapshot gets other memory.
                    self._memory, self._snapshot = (SnapshotMemory(), SnapshotMemory()), None
                    raise
            else:
                states = {part: flatten(tree, part) for part, tree in trees.items()}
                self._now(lambda: self._publish(contents, lambda: states))
        return self._place(step)

    def annotate(self, step: int, metrics: dict[str, float]) -> None:
        """Adds metrics that were measured after step `step` was saved, and prunes by them.

        Numbers that are not finite are left out. It happens behind the saves that are under way.

        Raises:
            CheckpointError: there is no such checkpoint, or the disk refused (when in the background: as a save's).
            CheckpointCorrupt: what was measured before is damaged.
        """
        number, measured = step_of(step), finite(metrics)
        self._do(lambda: self._annotate(number, measured))

    def then(self, action: Job) -> None:
        """Runs `action` once everything that was handed over before is durable; its CheckpointError is a save's."""
        self._do(action)

    def settle(self) -> None:
        """Returns once weights and optimizer slots may be changed. Optimizers among the parts call it themselves."""
        snapshot = self._snapshot
        if snapshot is not None:
            snapshot.settle()
            self._forget(snapshot)

    def wait(self) -> None:
        """Returns when everything handed over is durable. Raises CheckpointError when some of it failed."""
        snapshot = self._snapshot
        self._lane.wait()
        self._forget(snapshot)
        self._tell_failures()

    def close(self) -> None:
        """Waits as `wait` does, and gives the memory of the snapshots back. A later save takes it again."""
        try:
            self.wait()
        finally:
            self._memory = SnapshotMemory(), SnapshotMemory()  # of what is copied at once, and of the rest

    def steps(self) -> list[int]:
        """Returns the steps that are published, ascending. They are not verified by this."""
        self._wait_here()
        return self._listing.steps()

    def open(self, step: int) -> Checkpoint:
        """Opens the checkpoint of one step. Raises CheckpointCorrupt when it is damaged or not there."""
        self._wait_here()
        return self._listing.open(step)

    def best(self) -> int | None:
        """Returns the step with the best metric of those on disk, by the `Best` in `keep`; None when there is none."""
        self._wait_here()
        return self._listing.best(best_of(self.keep))

    def restore_latest(self, parts: Parts) -> int:
        """Restores the newest valid checkpoint into `parts`; damaged ones are named, set aside and passed over.

        Returns:
            The step it was saved at; 0 when there is no checkpoint at all.

        Raises:
            CheckpointError: `parts` is no dict of names, or `root` cannot be read.
            CheckpointCorrupt: there are checkpoints, and none is valid. We never quietly start over.
            CheckpointMismatch: the newest valid one does not fit `parts`. Nothing has been changed then.
        """
        check_parts(parts)
        checkpoint = self.latest_valid()
        if checkpoint is None:
            if not is_url(self.root) and self.root.exists() and not self.root.is_dir():
                raise CheckpointError(
                    f"Looking for checkpoints: found a file at {self.root}, expected a folder or nothing yet; "
                    "choose another path."
                )
            return 0
        checkpoint.restore(parts)
        self._listing.resumed_from = checkpoint.step
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
        self._wait_here()
        return self._listing.latest_valid(set_aside=set_aside)

    def set_aside(self, step: int) -> str:
        """Renames a damaged checkpoint to `damaged-step-…`, out of the way, and returns its new place."""
        return self._listing.set_aside(step)

    def prune(self) -> None:
        """Deletes what `keep` does not keep. Never the newest, the best, or the one that was resumed from."""
        self._do(lambda: self._listing.prune(self.keep))

    def _snapshot_of(self, parts: Parts, trees: dict[str, Any]) -> Snapshot:
        """Begins a snapshot; what can wait is taken apart later, once a first save has shown that it can be stored."""
        steady = steady_storages(parts)
        if not parts.keys() <= self._stored:
            for part, tree in trees.items():
                flatten(tree, part)
            self._stored |= parts.keys()
        states = {part: defer(parts[part], tree, part, steady) or flatten(tree, part) for part, tree in trees.items()}
        return Snapshot(states, steady, *self._memory)

    def _place(self, step: int) -> Path | str:
        return self._listing.where(step) if is_url(self.root) else self.root / self._listing.name(step)

    def _arrived(self, step: int) -> bool:
        """Whether a save that was reported as failed was published all the same: only the answer was lost."""
        if step not in self._listing.steps():
            return False
        self._listing.confirm(step)
        self._unsaved.discard(step)
        return True

    def _wait_here(self) -> None:
        """Waits for every save into this place: a notebook's cell that is run again makes a second store."""
        if any(store._lane.is_mine() for store in list(_living)):
            return  # two saves that wait for each other would wait for ever
        for store in list(_living):
            if store._key == self._key:
                store._lane.wait()

    def _publish(self, contents: Contents, states: Callable[[], dict[str, FlatState]]) -> None:
        where = self._listing.where(contents.step)

        def fill(draft: Draft) -> None:
            contents.write(draft, states())

        try:
            self._listing.publish(contents.step, fill)
        except (OSError, CheckpointError) as error:
            self._unsaved.add(contents.step)
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"Saving {where}: {error.strerror or error}. The checkpoints before it are unharmed."
            ) from error
        self._unsaved.discard(contents.step)
        try:
            self._listing.prune(self.keep)
        except CheckpointError as error:  # the save is made all the same
            self._say(f"{error} Old checkpoints stay for now.")

    def _annotate(self, step: int, metrics: dict[str, float]) -> None:
        name = self._listing.name(step)
        if step in self._unsaved:
            return  # its save failed, and that was said
        if step not in self._listing.steps():
            raise CheckpointError(f"There is no checkpoint at {self._listing.where(step)} to add metrics to.")
        try:
            known = parse_evaluation(self._storage.read(name, EVALUATION_FILE))
        except FileNotFoundError:
            known = EvaluationRecord()
        except OSError as error:
            raise CheckpointError(f"Reading {self._listing.where(step)}: {error.strerror or error}.") from error
        record = EvaluationRecord({**known.metrics, **metrics}, known.epoch, known.saved_at)
        try:
            self._storage.replace(name, EVALUATION_FILE, record.to_bytes())
        except OSError as error:
            raise CheckpointError(
                f"Writing {EVALUATION_FILE} of {self._listing.where(step)}: {error.strerror or error}."
            ) from error
        self._listing.prune(self.keep)

    def _do(self, job: Job) -> None:
        """Does a job in its turn: behind what was handed over before."""
        if self._lane.is_mine():
            job()
        elif self.background:
            self._lane.submit(job)
        else:
            self._now(job)

    def _now(self, job: Job) -> None:
        try:
            job()
        except CheckpointError as error:
            self._fail(error)

    def _hold_steps(self, optimizers: list[Optimizer]) -> None:
        """Makes each optimizer wait for the snapshot before it changes anything; once for each."""
        store = weakref.ref(self)

        def before_step(*_: object) -> None:
            if (own := store()) is not None:
                own.settle()
                own._tell_failures()

        for optimizer in optimizers:
            if optimizer not in self._hooked:
                optimizer.register_step_pre_hook(before_step)
                self._hooked.add(optimizer)

    def _forget(self, snapshot: Snapshot | None) -> None:
        if self._snapshot is snapshot:  # and not one that another thread has taken meanwhile
            self._snapshot = None

    def _tell_failures(self) -> None:
        while (failure := self._lane.take_failure()) is not None:
            self._fail(_as_checkpoint_error(failure))

    def _fail(self, error: CheckpointError) -> None:
        if self._on_failure is None:
            raise error
        self._on_failure(error)


def _as_checkpoint_error(failure: BaseException) -> CheckpointError:
    if isinstance(failure, CheckpointError):
        return failure
    error = CheckpointError(f"Saving a checkpoint: unexpected {type(failure).__name__}: {failure}.")
    error.__cause__ = failure
    return error


def _finish(lane: Background, say: Callable[[str], None]) -> None:
    """Waits for what is under way when a store is forgotten or the process ends."""
    lane.wait()
    lane.end()
    while (failure := lane.take_failure()) is not None:
        say(f"holdfast: {_as_checkpoint_error(failure)}")
