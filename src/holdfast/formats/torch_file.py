"""What every layout of torch's own files comes down to: a tree, and a few facts about the file."""

from __future__ import annotations

from typing import Any, NamedTuple


class TorchFile(NamedTuple):
    """A file of torch, read inertly.

    Attributes:
        layout: "torch zip", "torch legacy", "torch tar", "TorchScript".
        tree: what was saved: plain values, inert records, lazy tensors.
        facts: what the file says of itself: byte order, version of the format.
    """

    layout: str
    tree: Any
    facts: dict[str, Any]
