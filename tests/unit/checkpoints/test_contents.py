from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
import safetensors.torch
import torch

from holdfast.checkpoints.contents import Contents, json_bytes, plain_json
from holdfast.checkpoints.digest import Readable, digest_of
from holdfast.checkpoints.evaluation import EvaluationRecord, parse_evaluation
from holdfast.checkpoints.files import Tally, Written
from holdfast.checkpoints.flatten import flatten
from holdfast.errors import UnsupportedState


class _Memory:
    """A draft in memory."""

    def __init__(self, fails_at: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self._fails_at = fails_at

    def write(self, file: str, chunks: Iterable[Readable]) -> Written:
        """Keeps the bytes."""
        if file == self._fails_at:
            raise OSError(28, "No space left on device")
        assert file not in self.files
        tally = Tally()
        self.files[file] = b"".join(tally.count(chunks))
        return tally.written()


def _contents(**changes: Any) -> Contents:
    return Contents(**{"step": 7, "metrics": {"loss": 0.5}, "metadata": {"epoch": 2}, "saved_at": 12.5, **changes})


def test_the_files_are_those_of_the_format_and_the_manifest_is_written_last() -> None:
    """One file for each part with tensors, then the skeletons, what is known of it, and the manifest."""
    draft = _Memory()
    shared = torch.arange(3.0)
    states = {"model": flatten({"a": shared, "b": shared}, "model"), "counters": flatten({"n": 1}, "counters")}
    _contents().write(draft, states)
    assert list(draft.files) == ["model.safetensors", "state.json", "evaluation.json", "manifest.json"]
    assert safetensors.torch.load(draft.files["model.safetensors"])["a"].tolist() == [0, 1, 2]
    assert json.loads(draft.files["state.json"]) == {
        "model": {"a": {"$tensor": "a"}, "b": {"$tensor": "b"}},
        "counters": {"n": 1},
    }
    assert parse_evaluation(draft.files["evaluation.json"]) == EvaluationRecord({"loss": 0.5}, 2, 12.5)


def test_the_manifest_has_size_and_digest_of_every_file_but_itself_and_the_evaluation() -> None:
    """What may be written again later is left out; everything else is proved."""
    draft = _Memory()
    _contents().write(draft, {"model": flatten({"a": torch.ones(2)}, "model")})
    manifest = json.loads(draft.files["manifest.json"])
    assert manifest["files"] == {
        name: {"num_bytes": len(draft.files[name]), "digest": digest_of(draft.files[name])}
        for name in ("model.safetensors", "state.json")
    }
    assert manifest["parts"]["model"] == {
        "file": "model.safetensors",
        "tensors": {"a": {"dtype": "F32", "shape": [2], "digest": digest_of(b"\0\0\x80?\0\0\x80?")}},
        "aliases": {},
    }
    assert (manifest["step"], manifest["metrics"], manifest["metadata"]) == (7, {"loss": 0.5}, {"epoch": 2})


def test_a_part_without_tensors_has_no_file() -> None:
    """Counters live in the skeletons."""
    draft = _Memory()
    _contents().write(draft, {"counters": flatten({"n": 1}, "counters")})
    assert list(draft.files) == ["state.json", "evaluation.json", "manifest.json"]
    assert json.loads(draft.files["manifest.json"])["parts"]["counters"]["file"] is None


@pytest.mark.parametrize("file", ["model.safetensors", "state.json", "evaluation.json", "manifest.json"])
def test_writing_fails_when_the_draft_refuses_and_no_manifest_is_written(file: str) -> None:
    """Whichever file cannot be written, none comes after it."""
    draft = _Memory(fails_at=file)
    with pytest.raises(OSError, match="No space left"):
        _contents().write(draft, {"model": flatten({"a": torch.ones(2)}, "model")})
    assert "manifest.json" not in draft.files


@pytest.mark.parametrize(("epoch", "known"), [(0, 0), (3, 3), ("3", None), (2.5, None), (None, None)])
def test_only_a_whole_epoch_is_known(epoch: object, known: int | None) -> None:
    """`EveryEpochs` counts whole epochs; whatever else a saver calls so stays in the metadata alone."""
    assert _contents(metadata={"epoch": epoch}).record.epoch == known


def test_plain_json_is_a_copy() -> None:
    """What the saver changes afterwards is not in the checkpoint."""
    given: dict[str, Any] = {"list": [1], "tuple": (1, 2)}
    copy = plain_json(given, "here")
    given["list"].append(2)
    assert copy == {"list": [1], "tuple": [1, 2]}


def _endless() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["itself"] = table
    return table


@pytest.mark.parametrize("value", [{"x": object()}, {"x": float("inf")}, {"x": "\udc80"}, {"x": {1}}, _endless()])
def test_plain_json_fails_when_something_else_is_in_it(value: dict[str, Any]) -> None:
    """The message names the checkpoint and what was expected."""
    with pytest.raises(UnsupportedState, match=r"^Saving the metadata of runs/step-1: .*; expected JSON values\.$"):
        plain_json(value, "runs/step-1")


def test_json_is_one_compact_line_of_utf_8() -> None:
    """No spaces, no escapes, one newline at the end."""
    assert json_bytes({"a": [1, "ä"]}) == '{"a":[1,"ä"]}\n'.encode()
