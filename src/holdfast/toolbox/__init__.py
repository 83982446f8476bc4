"""Tools for checkpoints of any program: look inside, compare, convert, average. Nothing in a file is ever run.

Names are imported when they are first used: to look inside a file takes no torch, and a look should be quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.toolbox.averaging import Average, average
    from holdfast.toolbox.comparison import diff
    from holdfast.toolbox.conversion import convert
    from holdfast.toolbox.converted import Conversion
    from holdfast.toolbox.difference import Difference
    from holdfast.toolbox.inspection import inspect_path
    from holdfast.toolbox.report import Report
    from holdfast.toolbox.verification import verify

_HOMES = {
    "Average": "averaging",
    "Conversion": "converted",
    "Difference": "difference",
    "Report": "report",
    "average": "averaging",
    "convert": "conversion",
    "diff": "comparison",
    "inspect_path": "inspection",
    "verify": "verification",
}

__all__ = ["Average", "Conversion", "Difference", "Report", "average", "convert", "diff", "inspect_path", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'holdfast.toolbox' has no attribute {name!r}")
    return getattr(importlib.import_module(f"holdfast.toolbox.{_HOMES[name]}"), name)
