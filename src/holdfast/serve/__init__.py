"""Using a trained model: from a checkpoint of any of our forms to predictions."""

from holdfast.serve.open_model import ModelFile, open_model
from holdfast.serve.predictions import LabelsPrediction, NumbersPrediction, PointsPrediction, Prediction, Unreadable
from holdfast.serve.predictor import Predictor

__all__ = [
    "LabelsPrediction",
    "ModelFile",
    "NumbersPrediction",
    "PointsPrediction",
    "Prediction",
    "Predictor",
    "Unreadable",
    "open_model",
]
