"""Checkpoints that are published whole or not at all, verified on load, and never a pickle."""

from holdfast.checkpoints.checkpoint import Checkpoint
from holdfast.checkpoints.random_state import RandomState
from holdfast.checkpoints.retention import (
    BEST_CLASSIFIER,
    BEST_OF_RUN,
    AnyOf,
    At,
    Best,
    EveryEpochs,
    EveryMinutes,
    EverySteps,
    Last,
    Policy,
    Saved,
)
from holdfast.checkpoints.single_file import SingleFile, read_single_file, write_single_file
from holdfast.checkpoints.store import CheckpointStore

__all__ = [
    "BEST_CLASSIFIER",
    "BEST_OF_RUN",
    "AnyOf",
    "At",
    "Best",
    "Checkpoint",
    "CheckpointStore",
    "EveryEpochs",
    "EveryMinutes",
    "EverySteps",
    "Last",
    "Policy",
    "RandomState",
    "Saved",
    "SingleFile",
    "read_single_file",
    "write_single_file",
]
