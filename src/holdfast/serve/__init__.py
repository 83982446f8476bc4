"""Using a trained model: from a checkpoint of any of our forms to predictions."""

from holdfast.serve.open_model import ModelFile, open_model
from holdfast.serve.predictor import Prediction, Predictor, Unreadable

__all__ = ["ModelFile", "Prediction", "Predictor", "Unreadable", "open_model"]
