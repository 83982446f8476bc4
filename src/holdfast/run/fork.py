"""`--fork NEW`: a new run that begins with the newest checkpoint of another, under another recipe or on other data."""

from __future__ import annotations

from pathlib import Path

from holdfast.checkpoints import CheckpointStore
from holdfast.errors import CheckpointMismatch, ConfigError
from holdfast.run.session import Session


def take_over(session: Session, source: Path) -> str:
    """Loads the newest valid checkpoint of the run in `source` into a fresh session, at the start of its epoch.

    A step means another thing under another batch size or on other data, so the new run begins at the epoch that the
    checkpoint stood in.

    Returns:
        One line that says from where.

    Raises:
        ConfigError: there is no checkpoint in `source`.
        CheckpointMismatch: its model is another one.
    """
    checkpoint = CheckpointStore(source / "checkpoints").latest_valid()
    if checkpoint is None:
        raise ConfigError(
            f"--fork goes on from the run in {source}, and there is no checkpoint. Give its folder with --out."
        )
    try:
        checkpoint.restore({"model": session.state.model, "optimizer": session.state.optimizer})
        kept = "weights and optimizer"
    except CheckpointMismatch:
        checkpoint.restore({"model": session.state.model})
        kept = "weights only, since the optimizer is another one"
    epoch = int(checkpoint.metadata.get("epoch", 0))
    epoch = min(epoch, (session.bench.config.epochs or 1) - 1)
    session.begin_at_epoch(epoch)
    return f"forked from {checkpoint.path} ({kept}); begins at epoch {epoch + 1} of {session.bench.config.epochs}"
