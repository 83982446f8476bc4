"""The loop, evaluation, and what they need: losses, optimizers, the learning rate as a function of the step."""

from holdfast.training.evaluate import Evaluation, evaluate
from holdfast.training.loop import train_steps
from holdfast.training.losses import build_loss, rescaled, standardised
from holdfast.training.optim import build_optimizer
from holdfast.training.schedule import Schedule, build_schedule
from holdfast.training.state import StepResult, TrainState

__all__ = [
    "Evaluation",
    "Schedule",
    "StepResult",
    "TrainState",
    "build_loss",
    "build_optimizer",
    "build_schedule",
    "evaluate",
    "rescaled",
    "standardised",
    "train_steps",
]
