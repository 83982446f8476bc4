from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.checkpoints import files
from holdfast.errors import CheckpointError, ConfigError
from holdfast.toolbox.publishing import publish_file, publish_folder, refuse_taken


def _fill(text: str, *names: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for name in names:
            (folder / name).write_text(text)

    return fill


def _tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """What was there is there until the new one is whole, and nothing else is left behind."""
    target = tmp_path / "a.npz"
    target.write_text("old")

    def write(aside: Path) -> None:
        assert target.read_text() == "old"
        assert aside.parent == tmp_path and aside.name.startswith(".holdfast-")
        aside.write_text("new")

    publish_file(target, write)
    assert _tree(tmp_path) == {"a.npz": "new"}


@pytest.mark.parametrize("call", ["rename", "sync_directory"])
def test_a_file_is_the_old_or_the_new_one_when_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whichever call fails, there is one whole file, and no other."""
    target = tmp_path / "a.npz"
    target.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, call, refuse)
    with pytest.raises(CheckpointError, match=r"Writing .*a\.npz: No space left on device; expected room"):
        publish_file(target, lambda aside: aside.write_text("new"))
    assert _tree(tmp_path) == {"a.npz": "old" if call == "rename" else "new"}


def test_a_folder_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    """The new folder has only its own files, and the old one is gone."""
    target = tmp_path / "out"
    publish_folder(target, _fill("1", "manifest.json", "a.safetensors"))
    assert _tree(tmp_path) == {"out/a.safetensors": "1", "out/manifest.json": "1"}
    publish_folder(target, _fill("2", "manifest.json"))
    assert _tree(tmp_path) == {"out/manifest.json": "2"}


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_folder_is_the_old_or_the_new_one_at_every_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The n-th call of the file system fails, for every n: the old folder is there, or the new one, never a mixture."""
    target = tmp_path / "out"
    publish_folder(target, _fill("old", "manifest.json", "a.safetensors"))
    calls = [0]

    def counted(name: str) -> None:
        real = getattr(files, name)

        def call(*arguments: object) -> object:
            calls[0] += 1
            if calls[0] == failing:
                raise OSError(errno.EIO, "Input/output error")
            return real(*arguments)

        monkeypatch.setattr(files, name, call)

    for name in ("remove_tree", "make_directory", "rename", "sync_directory"):
        counted(name)
    with contextlib.suppress(CheckpointError):  # the last deletions are not worth an error
        publish_folder(target, _fill("new", "manifest.json"))
    assert calls[0] >= failing
    found = _tree(target)
    assert found in ({"manifest.json": "old", "a.safetensors": "old"}, {"manifest.json": "new"})


def test_a_folder_is_unharmed_when_filling_it_fails(tmp_path: Path) -> None:
    """An error of whoever fills it goes through, and nothing is left."""

    def fill(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        publish_folder(tmp_path / "out", fill)
    assert list(tmp_path.iterdir()) == []


def test_only_what_we_write_is_replaced(tmp_path: Path) -> None:
    """A folder with anything else in it, and a file in the place of a folder, stay whatever is asked."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "file").touch()
    for name, replace in itertools.product(("mine", "run"), (True, False)):
        with pytest.raises(ConfigError, match=r"other things in it.*such as in/x\.$"):
            refuse_taken(tmp_path / name, "checkpoint", replace, "in/x")
    with pytest.raises(ConfigError, match="found a file there, which a checkpoint does not replace"):
        refuse_taken(tmp_path / "file", "checkpoint", True, "in/x")
    with pytest.raises(ConfigError, match=r"other things in it.*such as in/x\.$"):
        refuse_taken(tmp_path / "mine", "npz", False, "in/x")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "model.safetensors").touch()
    refuse_taken(tmp_path / "shards", "sharded", True, "in/x")
    with pytest.raises(ConfigError, match="found a folder there, which an npz does not replace"):
        refuse_taken(tmp_path / "shards", "npz", True, "in/x")
