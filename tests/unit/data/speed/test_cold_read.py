from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.data.speed.cold_read import let_go
from holdfast.errors import DataError


def test_the_file_is_as_it_was(tmp_path: Path) -> None:
    """Whatever the disk can do: contents and times stay."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x" * 10_000)
    before = path.stat().st_mtime_ns
    assert let_go(path) in (True, False)
    assert path.read_bytes() == b"x" * 10_000 and path.stat().st_mtime_ns == before


def test_a_system_that_cannot_be_asked_reads_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and no error."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert let_go(path) is False


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    """In the words of every reading."""
    with pytest.raises(DataError, match=r"gone\.jpg"):
        let_go(tmp_path / "gone.jpg")
