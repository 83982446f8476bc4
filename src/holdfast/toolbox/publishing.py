"""A file or a folder that appears whole or not at all, at a place of the user's choosing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from holdfast.checkpoints import files
from holdfast.errors import CheckpointError, ConfigError
from holdfast.formats.sniff import a


def refuse_taken(target: Path, kind: str, replace: bool, within: str) -> None:
    """Does nothing when something may be written at a place.

    Args:
        kind: of what is written: "checkpoint" and "sharded" are folders, all others files.
        replace: whether what is there may be replaced.
        within: a name to propose where a folder of other things is there.

    Raises:
        ConfigError: something is there and may not be replaced, or the folder for it is missing.
    """
    if not target.parent.is_dir():
        raise ConfigError(f"Writing {target}: there is no folder {target.parent}; expected one. Make it first.")
    if not target.exists() and not target.is_symlink():
        return
    # First what no option changes: whoever is told of --force should find that it helps.
    if target.is_dir() and not _is_replaceable(target):
        raise ConfigError(
            f"Writing {target}: found a folder with other things in it, which is not replaced; expected a name that is "
            f"free. Choose one in it, such as {within}."
        )
    if target.is_dir() != (kind in ("checkpoint", "sharded")):
        found = "a folder" if target.is_dir() else "a file"
        raise ConfigError(
            f"Writing {target}: found {found} there, which {a(kind)} does not replace; expected a name that is free. "
            "Choose another name."
        )
    if not replace:
        raise ConfigError(f"Writing {target}: it is there already. Choose another name, or replace it with --force.")


def publish_file(target: Path, write: Callable[[Path], object]) -> None:
    """Puts a file in place in one step: readers see what was there before, or the new one.

    Args:
        write: makes the file at the path it is given; that may not exist yet.

    Raises:
        CheckpointError: the disk refused; what was there is unharmed.
    """
    aside = target.with_name(f"{files.HIDDEN_PREFIX}{target.name}.{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)
        write(aside)
        files.rename(aside, target)
        files.sync_directory(target.parent)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def publish_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Puts a folder in place whole; one that is there is put aside first, and deleted last.

    Args:
        fill: writes files, durably, into the folder it is given.

    Raises:
        CheckpointError: the disk refused; what was there is unharmed.
    """
    aside = target.with_name(f"{files.HIDDEN_PREFIX}{target.name}.{os.getpid()}")
    former = target.with_name(f"{files.HIDDEN_PREFIX}replaced-{target.name}.{os.getpid()}")
    try:
        files.remove_tree(aside)
        files.make_directory(aside)
        fill(aside)
        files.sync_directory(aside)
        _exchange(aside, target, former)
        files.sync_directory(target.parent)
    except OSError as error:
        raise _refusal(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            files.remove_tree(aside)
    with contextlib.suppress(OSError):  # the new one is in place; what is left of the old one is out of sight
        files.remove_tree(former)


def _exchange(aside: Path, target: Path, former: Path) -> None:
    if not target.exists():
        files.rename(aside, target)
        return
    files.remove_tree(former)
    files.rename(target, former)
    try:
        files.rename(aside, target)
    except OSError:
        files.rename(former, target)
        raise


def _is_replaceable(folder: Path) -> bool:
    """Returns whether a folder holds nothing but one checkpoint of ours, or shards of safetensors with their index."""
    names = [path.name for path in folder.iterdir() if path.is_file()]
    if len(names) != sum(1 for _ in folder.iterdir()):
        return False
    if "manifest.json" in names:
        return all(name.endswith((".safetensors", ".json")) for name in names)
    return all(name.endswith((".safetensors", ".safetensors.index.json")) for name in names)


def _refusal(target: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"Writing {target}: {error.strerror or error}; expected room and the right to write there. What was there "
        "before is unharmed. Make room, or choose another place."
    )
