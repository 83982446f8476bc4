"""Medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np


def summary(values: Sequence[float], unit: str, scale: float = 1.0, digits: int = 1) -> str:
    """Returns `median (first quartile – third quartile) unit`."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return f"{middle * scale:,.{digits}f} ({low * scale:,.{digits}f} – {high * scale:,.{digits}f}) {unit}".rstrip()


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the percentile, between the two values it lies between; of few values, p99 is about the greatest."""
    return float(np.percentile(values, percent))
