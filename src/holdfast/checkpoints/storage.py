"""Where checkpoints lie: what the store asks of a place, and the place that is a folder.

A place publishes a checkpoint whole or not at all. It knows names, files and bytes, and nothing of what is in them.
Every method raises OSError when the place refuses, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from holdfast.checkpoints import files
from holdfast.checkpoints.digest import Readable
from holdfast.checkpoints.files import Written
from holdfast.checkpoints.place import is_alive, this_place

_LEFTOVER = re.compile(re.escape(files.HIDDEN_PREFIX) + r"(?:step-.+|pruned-.+|clock)\.([0-9a-f]{16})\.(\d+)")
_being_written: set[str] = set()  # by any store of this process: a second store on the folder leaves it alone
_FOREIGN_SECONDS = 3600  # a leftover of another machine is dead when it has not grown for this long


class Draft(Protocol):
    """A checkpoint that is being written, file by file; the manifest last."""

    def write(self, file: str, chunks: Iterable[Readable]) -> Written:
        """Writes one file, durably. `chunks` may be iterated more than once."""
        ...


class Storage(Protocol):
    """A place for checkpoints, each under a name."""

    def names(self) -> list[str]:
        """Returns the names of everything that is published or was set aside, in any order."""
        ...

    def where(self, name: str = "") -> str:
        """Returns a path or URL to show to a person."""
        ...

    def publish(self, name: str, fill: Callable[[Draft], None]) -> None:
        """Makes a checkpoint of what `fill` writes. When it returns, the checkpoint is durable.

        Raises FileExistsError when the name is taken.
        """
        ...

    def confirm(self) -> None:
        """Returns when what is published is durable: for a publication whose last word was lost."""
        ...

    def read(self, name: str, file: str) -> bytes:
        """Returns the contents of one small file. Raises FileNotFoundError when there is none."""
        ...

    def replace(self, name: str, file: str, data: bytes) -> None:
        """Writes or replaces one small file of a published checkpoint in one step, durably."""
        ...

    def stamp(self, name: str, file: str) -> object:
        """Returns something that is another once the file has changed; None when there is no such file."""
        ...

    def rename(self, name: str, new: str) -> None:
        """Gives a checkpoint another name."""
        ...

    def remove(self, name: str) -> None:
        """Deletes a checkpoint, such that no part of it is ever taken for a whole."""
        ...

    def fetch(self, name: str) -> Path:
        """Returns a local directory with the checkpoint's files. Raises FileNotFoundError when there is none."""
        ...


class Folder:
    """The storage that is a folder of this machine's file system.

    Args:
        root: made when the first checkpoint is published.
    """

    def __init__(self, root: Path) -> None:
        self._shown = root
        self.root = root.absolute()  # a save goes on in the background, and the process may change its folder

    def names(self) -> list[str]:
        """Returns the names in the folder that are not hidden; none when there is no folder."""
        try:
            found = os.listdir(self.root)  # noqa: PTH208  # names are all we need
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in found if not name.startswith(".")]

    def where(self, name: str = "") -> str:
        """Returns the path, as the root was given."""
        return str(self._shown / name)

    def publish(self, name: str, fill: Callable[[Draft], None]) -> None:
        """Writes into a hidden sibling, syncs, renames, syncs the folder."""
        target, aside = self.root / name, self._hidden(name)
        if target.exists():
            raise FileExistsError(errno.EEXIST, "is published already", str(target))
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, f"found a file at {self._shown}, expected a folder or nothing yet; choose another path"
            )
        files.make_parents(self.root)
        self._sweep()
        _being_written.add(str(aside))
        try:
            files.make_directory(aside)
            fill(_FolderDraft(aside))
            files.sync_directory(aside)
            files.rename(aside, target)
        except BaseException:
            _remove_quietly(aside)
            raise
        finally:
            _being_written.discard(str(aside))
        files.sync_directory(self.root)

    def confirm(self) -> None:
        """Syncs the folder."""
        files.sync_directory(self.root)

    def read(self, name: str, file: str) -> bytes:
        """Returns the contents of one file."""
        return (self.root / name / file).read_bytes()

    def replace(self, name: str, file: str, data: bytes) -> None:
        """Puts the file in place by a rename."""
        files.replace_durably(self.root / name / file, data)

    def stamp(self, name: str, file: str) -> object:
        """Returns its number, time of modification and size; None when it is not there."""
        try:
            status = os.stat(os.path.join(self.root, name, file))  # noqa: PTH116, PTH118  # a thousand of these a save
        except (FileNotFoundError, NotADirectoryError):
            return None
        # Two of the same size within one tick of the clock differ in the number: the new one is made beside the old.
        return status.st_ino, status.st_mtime_ns, status.st_size

    def rename(self, name: str, new: str) -> None:
        """Renames the directory, durably."""
        files.rename(self.root / name, self.root / new)
        files.sync_directory(self.root)

    def remove(self, name: str) -> None:
        """Renames it out of sight first: a deletion that is cut short leaves no half checkpoint behind."""
        aside = self._hidden(f"pruned-{name}")
        files.rename(self.root / name, aside)
        files.sync_directory(self.root)
        files.remove_tree(aside)

    def fetch(self, name: str) -> Path:
        """Returns the directory itself."""
        return self.root / name

    def _hidden(self, name: str) -> Path:
        return self.root / f"{files.HIDDEN_PREFIX}{name}.{this_place()}.{os.getpid()}"

    def _sweep(self) -> None:
        """Deletes what earlier processes left unfinished; what a living process works on is left alone."""
        for name in os.listdir(self.root):  # noqa: PTH208  # names are all we need
            if (match := _LEFTOVER.fullmatch(name)) and self._is_abandoned(name, match[1], int(match[2])):
                _remove_quietly(self.root / name)

    def _is_abandoned(self, name: str, machine: str, process: int) -> bool:
        if machine == this_place():
            return str(self.root / name) not in _being_written and (process == os.getpid() or not is_alive(process))
        # A process of another machine cannot be asked. The file system's own clock says how long nothing was written;
        # this machine's clock may differ, or run backwards.
        with contextlib.suppress(OSError):
            place = self.root / name
            newest = max(path.stat().st_mtime for path in (place, *place.iterdir()))
            probe = self.root / f"{files.HIDDEN_PREFIX}clock.{this_place()}.{os.getpid()}"
            probe.touch()
            try:
                return probe.stat().st_mtime - newest > _FOREIGN_SECONDS
            finally:
                probe.unlink(missing_ok=True)
        return False


class _FolderDraft:
    """Files of a checkpoint that is not published yet, in a hidden directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, file: str, chunks: Iterable[Readable]) -> Written:
        return files.write_durably(self._directory / file, chunks)


def _remove_quietly(path: Path) -> None:
    # Hidden and unfinished: the next save tries again, and nobody ever reads it.
    with contextlib.suppress(OSError):
        files.remove_tree(path)
