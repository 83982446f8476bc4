"""MODEL, as a person writes it, to weights and what is needed to use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.checkpoints import BEST_OF_RUN, Checkpoint, CheckpointStore, read_single_file
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.remote import is_url
from holdfast.errors import CheckpointError, ConfigError

BEST_FILE = "best.safetensors"


@dataclass(frozen=True)
class ModelFile:
    """Verified weights by name (CPU), and the metadata saved with them.

    Attributes:
        path: the checkpoint directory or file they came from.
        run: the run directory, when it is known.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    run: Path | None


def open_model(spec: str) -> ModelFile:
    """Opens a run (`runs/x`, `runs/x@best`, `runs/x@last`, `runs/x@1200`), a checkpoint directory or a file.

    A run by itself means its best. A run may be a URL too (`s3://bucket/runs/x@last`).

    Raises:
        ConfigError: there is nothing there, or it is none of these.
        CheckpointError: it is damaged, or carries no description of the model.
    """
    name, _, which = spec.rpartition("@") if "@" in spec and not Path(spec).exists() else (spec, "", "")
    if is_url(name):
        return _from_run(CheckpointStore(f"{name.rstrip('/')}/checkpoints", BEST_OF_RUN), name, which or "best", None)
    path = Path(name).expanduser()
    if not path.exists():
        raise ConfigError(
            f"There is no model at {name}. Give a run directory, a checkpoint directory or a .safetensors file."
        )
    if which and not (path / "checkpoints").is_dir():
        raise ConfigError(f"{spec}: {path} is not a run, so there is no {which!r} to choose. Leave out @{which}.")
    if path.is_file():
        single = read_single_file(path)
        return ModelFile(
            path, single.tensors, single.metadata, path.parent if (path.parent / "config.yaml").is_file() else None
        )
    if (path / FILE_NAME).is_file():
        run = path.parent.parent if (path.parent.parent / "config.yaml").is_file() else None
        return _from_checkpoint(Checkpoint(path), run)
    if not (path / "checkpoints").is_dir():
        raise ConfigError(
            f"{path} is neither a run (it has no checkpoints folder) nor a checkpoint (it has no {FILE_NAME})."
        )
    return _from_run(CheckpointStore(path / "checkpoints", BEST_OF_RUN), str(path), which or "best", path)


def _from_run(store: CheckpointStore, shown: str, which: str, run: Path | None) -> ModelFile:
    steps = store.steps()
    if not steps:
        raise CheckpointError(f"{shown} has no checkpoint yet.")
    if which == "best":
        best = store.best()
        if best is None:
            raise CheckpointError(f"No checkpoint of {shown} has been evaluated yet. Ask for the newest: {shown}@last.")
        step = best
    elif which == "last":
        step = steps[-1]
    elif which.isdecimal() and int(which) in steps:
        step = int(which)
    else:
        raise ConfigError(
            f"{shown} has no checkpoint {which!r}. Ask for best, last, or a step: {', '.join(map(str, steps))}."
        )
    return _from_checkpoint(store.open(step), run)


def _from_checkpoint(checkpoint: Checkpoint, run: Path | None) -> ModelFile:
    metadata = {"step": checkpoint.step, "metrics": checkpoint.metrics, **checkpoint.metadata}
    return ModelFile(checkpoint.path, checkpoint.tensors("model"), metadata, run)
