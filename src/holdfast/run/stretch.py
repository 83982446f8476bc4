"""Which stretch of a run to replay, and a copy of what is needed for it: the run itself is only read."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.errors import CheckpointCorrupt, CheckpointError, ConfigError, RunError
from holdfast.run.directory import RunDirectory
from holdfast.run.prepare import INDEX_FILE
from holdfast.words import count

MOST_STEPS = 50  # replayed when nobody says how many
_FEW_STEPS = 20  # when none of the run's own checkpoints waits at the end of them
_COPIED = ("config.yaml", "environment.json", INDEX_FILE)


@dataclass(frozen=True)
class Stretch:
    """The steps that are replayed.

    Attributes:
        start: steps made where both replays begin.
        kill: the second is saved and killed after this step.
        end: steps made at the end.
    """

    start: int
    kill: int
    end: int


def refuse_what_is_no_run(path: Path) -> None:
    """Raises ConfigError when `path` is no run directory, and says what it is."""
    advice = "Give a run directory, such as runs/x."
    if not path.exists():
        name, at, step = path.name.rpartition("@")
        if at and step.isdecimal() and (path.parent / name).is_dir():
            advice = f"Give {path.parent / name} --from {step}."
        raise ConfigError(f"Proving {path}: there is no such folder. {advice}")
    if not path.is_dir():
        raise ConfigError(f"Proving {path}: it is a file; only a run can be replayed. {advice}")
    if RunDirectory(path).exists:
        return
    if (path / "manifest.json").is_file():
        digits = path.name.rpartition("-")[2].lstrip("0")
        raise ConfigError(
            f"Proving {path}: it is a checkpoint; only a run can be replayed. "
            f"Give its run, and the step to begin from: {path.parent.parent} --from {digits or 0}."
        )
    if CheckpointStore(path).steps():
        raise ConfigError(
            f"Proving {path}: it is a folder of checkpoints, without the recipe of a run (config.yaml); only what "
            "`holdfast train` made can be replayed."
            + (f" Is the run {path.parent}?" if (path.parent / "config.yaml").is_file() else "")
        )
    raise ConfigError(f"Proving {path}: it is a folder without config.yaml, so no run began in it. {advice}")


def choose_start(steps: list[int], *, at_end: bool, forked: bool) -> int:
    """Returns the step to replay from; 0 for the first weights.

    Args:
        steps: the run's checkpoints, ascending.
        at_end: whether the newest is the last step of the run.
        forked: whether its first weights are another run's, so that it cannot be replayed from 0.

    Raises:
        ConfigError: there is nothing to replay from.
    """
    # One step before the kill and one after it; and the run's own later checkpoint is evidence.
    followed = [step for step in steps if steps[-1] - step >= 2]
    if followed:
        return followed[-1]
    if not forked and (not steps or steps[-1] <= MOST_STEPS or at_end):
        return 0
    if at_end or not steps:
        raise ConfigError(
            "There is nothing to replay from: no checkpoint with two steps after it, and its first weights are another "
            "run's (a fork). Save more often and keep more (--save-every, --keep of `holdfast train`)."
        )
    return steps[-1]


def choose_stretch(start: int, steps: int | None, total: int, per_epoch: int, own: list[int]) -> Stretch:
    """Returns which steps to replay, and where to kill: in the middle, and not at the end of an epoch if it can be.

    Args:
        start: the step to begin from.
        steps: how many were asked for, 2 or more.
        total: steps of the whole run.
        per_epoch: steps of an epoch.
        own: the run's own checkpoints, ascending.

    Raises:
        ConfigError: the run does not go that far.
    """
    left = total - start
    if left < (steps or 2):
        raise ConfigError(
            f"Replaying {count(steps or 2, 'step')} from step {start}: the run has {count(total, 'step')}, so {left:,} "
            "are left there. Begin earlier with --from, or take fewer --steps (2 at least)."
        )
    if steps is None:
        ahead = next((step - start for step in own if step - start >= 2), _FEW_STEPS)
        steps = min(ahead, MOST_STEPS, left)
    middle = start + steps // 2
    inside = [step for step in (middle, middle + 1, middle - 1) if start < step < start + steps]
    return Stretch(start, next((step for step in inside if step % per_epoch), middle), start + steps)


def copy_run(run: Path, copy: Path, start: int | None, say: Callable[[str], None]) -> int:
    """Copies what a replay needs of a run, with one verified checkpoint; returns the step of it, 0 for none.

    A run that is under way prunes its checkpoints, and may be lengthened: the replays read only the copy.

    Args:
        start: the step asked for; None chooses one.
        say: told of checkpoints that are passed over.

    Raises:
        ConfigError: there is no such checkpoint, or nothing to replay from.
        CheckpointCorrupt: the one asked for is damaged.
        RunError: a file of the run cannot be copied.
    """
    checkpoints = copy / "checkpoints"
    checkpoints.mkdir(parents=True)
    try:
        for name in _COPIED:
            shutil.copyfile(run / name, copy / name)
    except OSError as error:
        raise RunError(
            f"Reading {error.filename}: {error.strerror}; without it no run can be replayed. Put it back."
        ) from error
    store = CheckpointStore(run / "checkpoints")
    refused: set[int] = set()
    while True:
        steps = [step for step in store.steps() if step not in refused]
        chosen = choose_start(steps, **_newest_of(store, steps)) if start is None else start
        if chosen and chosen not in steps:
            listed = ", ".join(map(str, steps)) or "none"
            raise ConfigError(
                f"--from {chosen}: the run has no checkpoint there. It has: {listed}; and 0, its beginning."
            )
        if not chosen:
            _refuse_fork(store, steps)
            return 0
        aside = checkpoints / f"step-{chosen:08d}"
        try:
            shutil.copytree(store.open(chosen).path, aside)
            Checkpoint(aside).verify()
        except (CheckpointCorrupt, OSError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            if start is not None:
                raise CheckpointCorrupt(f"{error} Begin from another step with --from.") from error
            refused.add(chosen)
            if chosen in store.steps():  # if not, the run has pruned it this moment
                say(f"Passed over step {chosen}: {error}")
            continue
        return chosen


def _refuse_fork(store: CheckpointStore, steps: list[int]) -> None:
    if _newest_of(store, steps)["forked"]:
        raise ConfigError(
            f"--from 0: {store.root.parent} is a fork, and its first weights are another run's. "
            f"Begin from one of its checkpoints: {', '.join(map(str, steps))}."
        )


def _newest_of(store: CheckpointStore, steps: list[int]) -> dict[str, bool]:
    """Returns whether the newest checkpoint is the run's last step, and whether the run is known to be a fork."""
    known = {"at_end": False, "forked": False}
    if steps:
        directory = RunDirectory(store.root.parent)
        with contextlib.suppress(CheckpointError):  # it is passed over where it is chosen
            checkpoint = store.open(steps[-1])
            journal = checkpoint.read("journal")
            known["at_end"] = int(checkpoint.metadata.get("epoch", 0)) >= (directory.config().epochs or 0)
            known["forked"] = bool(journal["first_epoch"]) or bool(directory.environment().get("forked_from"))
    return known
