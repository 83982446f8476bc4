"""Files that others wrote, opened inertly: nothing in them is run, imported or looked up."""

from holdfast.formats.inert import Global, InertObject
from holdfast.formats.lazy_tensor import LazyTensor
from holdfast.formats.limits import LIMITS, Limits
from holdfast.formats.opened import OpenedCheckpoint, open_checkpoint
from holdfast.formats.sniff import Sniffed, sniff

__all__ = [
    "LIMITS",
    "Global",
    "InertObject",
    "LazyTensor",
    "Limits",
    "OpenedCheckpoint",
    "Sniffed",
    "open_checkpoint",
    "sniff",
]
