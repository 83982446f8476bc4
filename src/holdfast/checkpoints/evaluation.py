"""`evaluation.json`: what is known of a checkpoint without opening it: its metrics, its epoch, and when it was saved.

It is written with the checkpoint, and again when something is measured after the checkpoint was published; so it is the
one file that no manifest covers, and carries its own digest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.checkpoints.digest import digest_of
from holdfast.errors import CheckpointCorrupt, CheckpointError

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class EvaluationRecord:
    """What the file says.

    Attributes:
        metrics: name → finite number.
        epoch: as the saver counted, or None.
        saved_at: seconds since 1970 by the clock of the machine that saved; None when unknown.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int | None = None
    saved_at: float | None = None

    def to_bytes(self) -> bytes:
        """Returns the file's contents: one line of JSON with its own digest."""
        table: dict[str, Any] = {"epoch": self.epoch, "metrics": dict(self.metrics), "saved_at": self.saved_at}
        return _with_digest({name: value for name, value in table.items() if value is not None})


def read_evaluation(path: Path) -> EvaluationRecord:
    """Reads an evaluation file; an empty record when there is no such file.

    Raises:
        CheckpointCorrupt: it is damaged.
    """
    try:
        return parse_evaluation(path.read_bytes())
    except FileNotFoundError:
        return EvaluationRecord()
    except OSError as error:
        raise CheckpointCorrupt(f"{path.name} cannot be read ({error.strerror or error})") from error


def parse_evaluation(data: bytes) -> EvaluationRecord:
    """Returns what the file's contents say. Raises CheckpointCorrupt when they are damaged."""
    try:
        table = json.loads(data)
        table.pop("digest")
        if _with_digest(table) != data and _of_the_first_release(table) != data:
            raise ValueError("its bytes do not match its digest")
        return EvaluationRecord(table["metrics"], table.get("epoch"), table.get("saved_at"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointCorrupt(f"{EVALUATION_FILE} is damaged ({error})") from error


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics that are finite numbers: JSON has no word for the others, and none of them is a best.

    Raises:
        CheckpointError: one is no number at all. A tensor or an array of one value is a number.
    """
    try:
        numbers = {name: float(value) for name, value in metrics.items()}
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"The metrics are {metrics!r:.200}; expected a dict of names to numbers.") from error
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _with_digest(table: dict[str, Any]) -> bytes:
    digest = digest_of(json.dumps(table, sort_keys=True).encode())
    return (json.dumps({**table, "digest": digest}, sort_keys=True) + "\n").encode()


def _of_the_first_release(table: dict[str, Any]) -> bytes:
    """Returns the bytes as 0.1.0 wrote them: metrics only, and the digest of these alone."""
    digest = digest_of(json.dumps(table["metrics"], sort_keys=True).encode())
    return (json.dumps({"metrics": table["metrics"], "digest": digest}, sort_keys=True) + "\n").encode()
