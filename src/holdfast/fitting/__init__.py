"""Weights and optimizer states of any file, fitted into a live model, with a report of what became of each tensor."""

from holdfast.fitting.load import load_into
from holdfast.fitting.optimizer import OptimizerReport
from holdfast.fitting.report import LoadReport, TensorReport
from holdfast.fitting.resolve import Matching, resolve_names

__all__ = ["LoadReport", "Matching", "OptimizerReport", "TensorReport", "load_into", "resolve_names"]
