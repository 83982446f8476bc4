"""The hallway: joins the rooms into a run that the same command takes up again."""

from holdfast.run.train import Outcome, train

__all__ = ["Outcome", "train"]
