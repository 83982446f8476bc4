"""Train image models in PyTorch from a folder of pictures, and never lose a step.

Names are imported when they are first used, so that `import holdfast` costs nothing and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.checkpoints import (
        At,
        Best,
        Checkpoint,
        CheckpointStore,
        EveryEpochs,
        EveryMinutes,
        EverySteps,
        Last,
        RandomState,
    )
    from holdfast.config import Config
    from holdfast.data import ArrayPictures, Batch, ImageFolder, Loader
    from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch, HoldfastError
    from holdfast.fitting import LoadReport, load_into
    from holdfast.formats import OpenedCheckpoint, open_checkpoint
    from holdfast.models import build_model
    from holdfast.run.train import train
    from holdfast.serve import Predictor
    from holdfast.stateful import Stateful
    from holdfast.training import StepResult, TrainState, evaluate, train_steps

_HOMES = {
    "RandomState": "checkpoints",
    "Last": "checkpoints",
    "EverySteps": "checkpoints",
    "EveryMinutes": "checkpoints",
    "EveryEpochs": "checkpoints",
    "Best": "checkpoints",
    "At": "checkpoints",
    "ArrayPictures": "data",
    "Batch": "data",
    "Checkpoint": "checkpoints",
    "CheckpointCorrupt": "errors",
    "CheckpointError": "errors",
    "CheckpointMismatch": "errors",
    "CheckpointStore": "checkpoints",
    "Config": "config",
    "HoldfastError": "errors",
    "ImageFolder": "data",
    "LoadReport": "fitting",
    "Loader": "data",
    "OpenedCheckpoint": "formats",
    "Predictor": "serve",
    "Stateful": "stateful",
    "StepResult": "training",
    "TrainState": "training",
    "build_model": "models",
    "evaluate": "training",
    "load_into": "fitting",
    "open_checkpoint": "formats",
    "train": "run",
    "train_steps": "training",
}

__all__ = [
    "ArrayPictures",
    "At",
    "Batch",
    "Best",
    "Checkpoint",
    "CheckpointCorrupt",
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointStore",
    "Config",
    "EveryEpochs",
    "EveryMinutes",
    "EverySteps",
    "HoldfastError",
    "ImageFolder",
    "Last",
    "LoadReport",
    "Loader",
    "OpenedCheckpoint",
    "Predictor",
    "RandomState",
    "Stateful",
    "StepResult",
    "TrainState",
    "build_model",
    "evaluate",
    "load_into",
    "open_checkpoint",
    "train",
    "train_steps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    return getattr(importlib.import_module(f"holdfast.{_HOMES[name]}"), name)
