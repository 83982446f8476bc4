"""Models by name: our small ones, torchvision's and timm's zoo, and your own class."""

from holdfast.models.registry import Architecture, build_model, list_models
from holdfast.models.summary import ModelSummary, summarize_model

__all__ = ["Architecture", "ModelSummary", "build_model", "list_models", "summarize_model"]
