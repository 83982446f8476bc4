"""What is wrong with a collection of pictures, and what is in it: before training, and by `holdfast check`."""

from holdfast.data.check.finding import Finding, Item
from holdfast.data.check.report import Report, check_data
from holdfast.data.check.short import CheckedFile, check_file, check_files, short_findings

__all__ = [
    "CheckedFile",
    "Finding",
    "Item",
    "Report",
    "check_data",
    "check_file",
    "check_files",
    "short_findings",
]
