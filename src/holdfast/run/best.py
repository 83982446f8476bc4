"""`best.safetensors`: the best checkpoint as one file to hand on, kept as it was at its best.

The best is derived from what is on disk. The file outlives damage to the checkpoint it was made from, and is made anew
from the checkpoint when it is the file that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.checkpoints import CheckpointStore, SingleFile, read_single_file, write_single_file
from holdfast.errors import CheckpointCorrupt, CheckpointError, RunError

BEST_FILE = "best.safetensors"


def keep_best(store: CheckpointStore, path: Path, say: Callable[[str], None], *, verify: bool = False) -> None:
    """Makes the file at `path` the best checkpoint of `store`, unless it is already.

    Args:
        say: told of a damaged best.
        verify: read every byte of the file before trusting it, not its header only.

    Raises:
        CheckpointError: the disk refused.
    """
    step = store.best()
    if step is None:
        return
    try:
        if read_single_file(path, header_only=not verify).metadata.get("step") == step:
            return
    except CheckpointError:
        pass  # not there yet, or damaged: it is derived, and written anew
    try:
        checkpoint = store.open(step)
        tensors = checkpoint.tensors("model")
    except CheckpointCorrupt as error:
        say(f"The best checkpoint is damaged ({error}); the next best takes its place.")
        store.set_aside(step)
        keep_best(store, path, say, verify=verify)
        return
    metadata = {"step": step, "metrics": checkpoint.metrics, **checkpoint.metadata}
    write_single_file(path, tensors, metadata)


def open_best(store: CheckpointStore, path: Path, say: Callable[[str], None]) -> SingleFile:
    """Returns the best, every byte verified. Raises RunError when no evaluated checkpoint is left."""
    keep_best(store, path, say, verify=True)
    if not path.exists():
        raise RunError(f"There is no evaluated checkpoint in {store.root} to choose the best from.")
    return read_single_file(path)
