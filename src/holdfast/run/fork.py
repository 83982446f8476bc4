"""`--fork NEW`: a new run that begins with the newest checkpoint of another, under another recipe or on other data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.checkpoints import Checkpoint, CheckpointStore
from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.run.session import Session, group_settings, put_back


def take_over(session: Session, source: Path | str) -> str:
    """Loads the newest valid checkpoint of the run in `source` into a fresh session, at the start of its epoch.

    A step means another thing under another batch size or on other data, so the new run begins at the epoch that the
    checkpoint stood in.

    Returns:
        One line that says from where.

    Raises:
        ConfigError: there is no checkpoint in `source`.
        CheckpointMismatch: its model is another one.
    """
    checkpoint = newest_of(source, session.console.warn)
    model, optimizer = session.state.model, session.state.optimizer
    settings = group_settings(optimizer)
    same_kind = checkpoint.metadata.get("optimizer") == session.bench.config.optimizer
    try:
        if not same_kind:
            raise CheckpointMismatch("another optimizer")
        checkpoint.restore({"model": model, "optimizer": optimizer})
        put_back(optimizer, settings)
        kept = "weights and optimizer"
    except CheckpointMismatch:
        checkpoint.restore({"model": model})
        kept = "weights only, since the optimizer is another one"
    epoch = int(checkpoint.metadata.get("epoch", 0))
    epoch = min(epoch, (session.bench.config.epochs or 1) - 1)
    session.begin_at_epoch(epoch)
    return f"forked from {checkpoint.where} ({kept}); begins at epoch {epoch + 1} of {session.bench.config.epochs}"


def newest_of(source: Path | str, say: Callable[[str], None]) -> Checkpoint:
    """Returns the newest valid checkpoint of a run that is not ours to change. Raises ConfigError when it has none."""
    checkpoint = CheckpointStore(f"{source}/checkpoints", say=say).latest_valid(set_aside=False)
    if checkpoint is None:
        raise ConfigError(
            f"--fork goes on from the run in {source}, and there is no checkpoint. Give its folder with --out."
        )
    return checkpoint
