"""Medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def summary(values: Sequence[float], unit: str, scale: float = 1.0) -> str:
    """Returns `median (first quartile – third quartile) unit`."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle * scale:,.1f} ({low * scale:,.1f} – {high * scale:,.1f}) {unit}"
