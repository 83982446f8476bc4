"""The files that the names in a table mean.

Tables are written by hand, on other systems, and by other programs: without suffixes, with `\\`, with absolute paths. A
name is taken for a file only when one file alone can be meant, and whatever is not as written is counted and said.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from pathlib import Path

from holdfast.data.files import is_image_name
from holdfast.data.tables.table import trim
from holdfast.words import count

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class NameProblem(Exception):
    """A name that means no file, or more than one; its text says why, without the row."""


class NamedFiles:
    """Finds files below `root` by their names in a table. Each folder is listed once, so a row costs no system call.

    Args:
        root: the image directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._absolute_root = posixpath.normpath(root.absolute().as_posix())
        self._listings: dict[str, _Listing] = {}
        self._taken: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def find(self, cell: str) -> str:
        """Returns the file's path with `/`: below the root, or absolute when it lies elsewhere.

        Raises:
            NameProblem: it is a URL, a folder, leads out of the root, is not there, or is not the only one.
        """
        name = trim(cell)
        if _URL.match(name):
            raise NameProblem(f"{name} is an address; nothing is downloaded. Fetch it and name the file")
        for text in dict.fromkeys((name, cell)):  # a name may truly begin or end with a space
            if (path := self._as_written(text)) is not None:
                return path
        if "\\" in name and (path := self._as_written(name.replace("\\", "/"))) is not None:
            return self._note("backslash", name, path)
        return self._nearly(name)

    def notices(self) -> list[str]:
        """Returns what was not as written, one line a kind: how many names, and the first."""
        other = "from the files' in case or form"
        outside = f"outside the image directory {self.root}, named by absolute paths"
        words = {
            "backslash": ("file name is written with \\", "file names are written with \\"),
            "suffix": ("file name has no suffix", "file names have no suffix"),
            "case": (f"file name differs {other}", f"file names differ {other}"),
            "absolute": (f"picture lies {outside}", f"pictures lie {outside}"),
        }
        lines = []
        for kind, (one, many) in words.items():
            if taken := self._taken[kind]:
                name, path = taken[0]
                example = name if name == path else f"{name} → {path}"
                lines.append(f"{count(len(taken), one, many)} ({example}{' …' if len(taken) > 1 else ''})")
        return lines

    def _as_written(self, name: str) -> str | None:
        """Returns the path that the name is, None when there is no such file."""
        if name.startswith("/") or os.path.isabs(name):  # noqa: PTH117  # called for every row
            path = posixpath.normpath(name)
            inside = path.removeprefix(self._absolute_root + "/")
            if inside == path:
                if not os.path.isfile(path):  # noqa: PTH113
                    return None
                return self._note("absolute", name, path)
        else:
            inside = posixpath.normpath(name)
        if inside == ".." or inside.startswith("../"):
            raise NameProblem(f"{name} leads out of {self.root}; give an image directory that holds all pictures")
        folder, last = posixpath.split(inside)
        is_file = self._listing(folder).is_file.get(last)
        if is_file is False or inside == ".":
            raise NameProblem(f"{self.root / inside} is a folder, not a picture")
        return inside if is_file else None

    def _nearly(self, name: str) -> str:
        """Returns the one file that the name means but for its suffix, case or Unicode form."""
        inside = posixpath.normpath(name.replace("\\", "/"))
        if not inside.startswith("/"):
            folders = [""]
            *parents, last = inside.split("/")
            for part in parents:
                folders = [
                    posixpath.join(folder, found)
                    for folder in folders
                    for found in self._listing(folder).alike(part, files=False)
                ]
            found = [posixpath.join(f, n) for f in folders for n in self._listing(f).alike(last, files=True)]
            kind = "case"
            if not found and not is_image_name(last):
                found = [posixpath.join(f, n) for f in folders for n in self._listing(f).with_stem(last)]
                kind = "suffix"
            if len(found) == 1:
                return self._note(kind, name, found[0])
            if found:
                raise NameProblem(f"{name} could be {' or '.join(sorted(found)[:3])}; write which")
            if refused := next((self._listing(f).refused for f in folders if self._listing(f).refused), None):
                raise NameProblem(f"{self.root / inside} cannot be looked for ({refused})")
        raise NameProblem(f"{self.root / name} is not there")

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(self.root / folder)
        return self._listings[folder]

    def _note(self, kind: str, name: str, path: str) -> str:
        self._taken[kind].append((name, path))
        return path


class _Listing:
    """What lies in one folder: name → whether it is a file."""

    def __init__(self, folder: Path) -> None:
        self.is_file: dict[str, bool] = {}
        self.refused: str | None = None
        self._by_key: dict[str, list[str]] | None = None
        self._by_stem: dict[str, list[str]] | None = None
        try:
            with os.scandir(folder) as entries:
                self.is_file = {e.name: is_file for e in entries if (is_file := _is_file(e)) is not None}
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.refused = error.strerror

    def alike(self, name: str, *, files: bool) -> list[str]:
        """Returns the files or the folders of this name, in whatever case and Unicode form; this very one if there."""
        if self.is_file.get(name) is files:
            return [name]
        if self._by_key is None:
            self._by_key = defaultdict(list)
            for known in self.is_file:
                self._by_key[_key(known)].append(known)
        return [known for known in self._by_key.get(_key(name), []) if self.is_file[known] is files]

    def with_stem(self, name: str) -> list[str]:
        """Returns the pictures that have this name but for their suffix."""
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for known, is_file in self.is_file.items():
                if is_file and is_image_name(known):
                    self._by_stem[_key(os.path.splitext(known)[0])].append(known)  # noqa: PTH122
        found = self._by_stem.get(_key(name), [])
        return [known for known in found if known.startswith(name)] or found


def _is_file(entry: os.DirEntry[str]) -> bool | None:
    """Returns whether it is a file; None when it is neither a file nor a folder, or a link to nothing or to itself."""
    try:
        return True if entry.is_file() else False if entry.is_dir() else None
    except OSError:
        return None


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
