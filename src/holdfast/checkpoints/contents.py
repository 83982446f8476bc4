"""What goes into one checkpoint, and the files it becomes: tensors, skeletons, evaluation, and the manifest last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from holdfast.checkpoints.evaluation import EVALUATION_FILE, EvaluationRecord
from holdfast.checkpoints.flatten import FlatState
from holdfast.checkpoints.manifest import FILE_NAME, FileEntry, Manifest, PartEntry
from holdfast.checkpoints.storage import Draft
from holdfast.checkpoints.tensors import PLAIN, write_tensors
from holdfast.errors import UnsupportedState

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Contents:
    """One checkpoint before it has files.

    Attributes:
        step: optimizer updates made.
        metrics: name → finite number.
        metadata: JSON values of the saver's.
        saved_at: seconds since 1970.
    """

    step: int
    metrics: Mapping[str, float]
    metadata: Mapping[str, Any]
    saved_at: float

    @property
    def record(self) -> EvaluationRecord:
        """What will be known of it without opening it."""
        epoch = self.metadata.get("epoch")
        return EvaluationRecord(self.metrics, epoch if isinstance(epoch, int) else None, self.saved_at)

    def write(self, draft: Draft, states: Mapping[str, FlatState]) -> None:
        """Writes the files of a checkpoint that holds `states`. Raises OSError."""
        parts: dict[str, PartEntry] = {}
        entries: dict[str, FileEntry] = {}
        for part, state in states.items():
            if not state.tensors:
                parts[part] = PartEntry(None)
                continue
            name = f"{part}.safetensors"
            written = write_tensors(partial(draft.write, name), state.tensors, PLAIN)
            entries[name] = FileEntry(written.num_bytes, written.digest)
            parts[part] = PartEntry(name, written.tensors, state.aliases)
        skeletons = draft.write(STATE_FILE, [json_bytes({part: state.skeleton for part, state in states.items()})])
        entries[STATE_FILE] = FileEntry(skeletons.num_bytes, skeletons.digest)
        draft.write(EVALUATION_FILE, [self.record.to_bytes()])
        manifest = Manifest(self.step, parts, entries, dict(self.metrics), dict(self.metadata))
        draft.write(FILE_NAME, [manifest.to_bytes()])


def plain_json(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a copy that holds nothing but JSON. Raises UnsupportedState when something else is in it."""
    try:
        copy: dict[str, Any] = json.loads(json_bytes(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedState(f"Saving the metadata of {where}: {error}; expected JSON values.") from error
    return copy


def json_bytes(value: Any) -> bytes:
    """Returns one compact line of JSON."""
    return (json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()
