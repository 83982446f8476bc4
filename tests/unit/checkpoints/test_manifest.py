from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.manifest import FILE_NAME, VERSION, FileEntry, Manifest, PartEntry, read_manifest
from holdfast.checkpoints.tensors import TensorEntry
from holdfast.errors import CheckpointCorrupt, CheckpointError

MANIFEST = Manifest(
    step=7,
    parts={
        "model": PartEntry("model.safetensors", {"w": TensorEntry("F32", (2, 3), "xxh3-128:00")}, {"v": "w"}),
        "counters": PartEntry(None),
    },
    files={"model.safetensors": FileEntry(90, "xxh3-128:01"), "state.json": FileEntry(5, "xxh3-128:02")},
    metrics={"accuracy": 0.5},
    metadata={"classes": ["Ölf", "b"], "epoch": 2},
)


def _write_signed(directory: Path, **changes: Any) -> None:
    """Writes the manifest with some entries changed and its digest made right again."""
    table = {**json.loads(MANIFEST.to_bytes()), **changes}
    del table["digest"]
    text = (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
    table["digest"] = digest_of(text)
    (directory / FILE_NAME).write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Steps, parts, aliases, files, metrics and metadata come back equal."""
    (tmp_path / FILE_NAME).write_bytes(MANIFEST.to_bytes())
    assert read_manifest(tmp_path) == MANIFEST


def test_a_manifest_names_its_format_and_version() -> None:
    """The file says what it is: format `holdfast-checkpoint`, version 2, and its own digest at the end."""
    table = json.loads(MANIFEST.to_bytes())
    assert (table["format"], table["version"]) == ("holdfast-checkpoint", 2)
    assert list(table)[-1] == "digest"


def test_reading_fails_when_there_is_no_manifest(tmp_path: Path) -> None:
    """A directory without one is not a finished checkpoint."""
    with pytest.raises(CheckpointCorrupt, match=rf"{tmp_path.name} has no manifest\.json: it is not a finished"):
        read_manifest(tmp_path)


def test_reading_fails_when_the_manifest_is_a_directory(tmp_path: Path) -> None:
    """What cannot be read is reported with the system's reason."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(CheckpointCorrupt, match=r"manifest\.json: cannot be read \(Is a directory\)"):
        read_manifest(tmp_path)


def test_every_single_flipped_bit_is_found(tmp_path: Path) -> None:
    """Whichever bit of the file is flipped, reading it fails; no bit is without meaning."""
    data = MANIFEST.to_bytes()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        (tmp_path / FILE_NAME).write_bytes(flipped)
        with pytest.raises(CheckpointCorrupt, match=r"damaged|do not match its own digest"):
            read_manifest(tmp_path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    """A manifest without its end is refused, wherever it was cut."""
    data = MANIFEST.to_bytes()
    for length in range(len(data)):
        (tmp_path / FILE_NAME).write_bytes(data[:length])
        with pytest.raises(CheckpointCorrupt, match=r"damaged|do not match its own digest"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"5",
        b"{}",
        b"\x80\x04\x95\x00",
        b'{"digest": "x"}',
        b'{"digest": "x", "format": "\\udc80", "version": 1}',
        b"[" * 200_000,
    ],
    ids=["empty", "list", "number", "no keys", "pickle", "no format", "half a surrogate pair", "deep"],
)
def test_reading_fails_when_it_is_something_else(tmp_path: Path, data: bytes) -> None:
    """Whatever else stands in the file is damage, in words."""
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"manifest\.json: "):
        read_manifest(tmp_path)


def test_reading_fails_when_the_layout_was_changed(tmp_path: Path) -> None:
    """The same JSON with other white space is not the file that was written."""
    (tmp_path / FILE_NAME).write_text(json.dumps(json.loads(MANIFEST.to_bytes())))
    with pytest.raises(CheckpointCorrupt, match="do not match its own digest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("changes", [{"version": VERSION + 1}, {"format": "something-else"}])
@pytest.mark.parametrize(("writer", "named"), [("holdfast 9.1", "holdfast 9.1"), ("", "a newer Holdfast")])
def test_reading_a_newer_format_says_which_version_to_install(
    tmp_path: Path, changes: dict[str, Any], writer: str, named: str
) -> None:
    """A sound manifest of a later version is not called damaged; what wrote it is named as the remedy."""
    _write_signed(tmp_path, **changes, written_by=writer)
    message = rf"written by {named}; .* up to version {VERSION}\. Install {named}( or newer)? to open it"
    with pytest.raises(CheckpointError, match=message) as caught:
        read_manifest(tmp_path)
    assert not isinstance(caught.value, CheckpointCorrupt)


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": 5},
        {"parts": {"model": {}}},
        {"parts": {"model": {"file": None, "tensors": {}, "aliases": {"v": "gone"}}}},
        {"files": {"state.json": {"num_bytes": 5}}},
        {"files": {"../../secret": {"num_bytes": 5, "digest": "x"}}},
        {"files": {"/etc/passwd": {"num_bytes": 5, "digest": "x"}}},
        {"version": "one"},
    ],
    ids=json.dumps,
)
def test_reading_fails_when_a_signed_manifest_makes_no_sense(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A manifest with a right digest and wrong contents, made by hand, is refused; files elsewhere are never named."""
    _write_signed(tmp_path, **changes)
    with pytest.raises(CheckpointCorrupt, match=r"manifest\.json: "):
        read_manifest(tmp_path)
