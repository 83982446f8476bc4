from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.data.cache.folder import disk_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache of three pictures."""
    keys = [bytes([number]) * 16 for number in range(3)]
    store = disk_store(tmp_path / "kept", keys, 300, None)
    for key in keys:
        store.add(key, torch.zeros(3, 10, 10, dtype=torch.uint8))
    return tmp_path / "kept"


def test_it_is_listed(folder: Path, holdfast: Callable[..., Any]) -> None:
    """A line a file on stdout, where it lies on stderr."""
    said = holdfast("cache", "--cache-dir", folder)
    assert said.code == 0 and "3 pictures" in said.out and str(folder) in said.err


def test_clearing_frees_it(folder: Path, holdfast: Callable[..., Any]) -> None:
    """Afterwards there is nothing, and that is no error."""
    said = holdfast("cache", "--clear", "--cache-dir", folder)
    assert said.code == 0 and "freed" in said.err and "holds nothing" in said.err
    assert holdfast("cache", "--cache-dir", folder).out == "" and not list(folder.glob("*.pictures"))


def test_json_says_the_same(folder: Path, holdfast: Callable[..., Any]) -> None:
    """Files with their pictures and bytes, and what was deleted."""
    listed = json.loads(holdfast("cache", "--json", "--cache-dir", folder).out)
    assert listed["folder"] == str(folder) and listed["deleted_bytes"] == 0
    assert [(row["num_pictures"], row["in_use"]) for row in listed["files"]] == [(3, False)]
    cleared = json.loads(holdfast("cache", "--json", "--clear", "--cache-dir", folder).out)
    assert cleared["deleted_bytes"] == listed["files"][0]["num_bytes"] and cleared["files"] == []


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path, holdfast: Callable[..., Any]) -> None:
    """Nothing is made by looking."""
    assert "holds nothing" in holdfast("cache", "--clear", "--cache-dir", tmp_path / "none").err
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_cleared_is_one_line(
    folder: Path, holdfast: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason and what to do."""

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x.pictures")

    monkeypatch.setattr(Path, "unlink", fail)
    said = holdfast("cache", "--clear", "--cache-dir", folder)
    assert said.code == 1 and "x.pictures: Permission denied. Make it writable" in said.err
