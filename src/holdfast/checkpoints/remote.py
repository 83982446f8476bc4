"""The storage that is a URL: an object store, which has neither rename nor fsync.

What stands for the rename is the manifest: it is created last, and exclusively. No manifest, no checkpoint. Who writes
leaves a claim beside the files; whoever finds an unfinished checkpoint knows by it whether somebody is still at work.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from holdfast.checkpoints.digest import Readable
from holdfast.checkpoints.files import HIDDEN_PREFIX, Tally, Written
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.place import is_alive, this_place
from holdfast.checkpoints.remote_files import RemoteFiles, Stamp
from holdfast.checkpoints.storage import Draft, Folder, Storage
from holdfast.errors import CheckpointError

CLAIM_FILE = f"{HIDDEN_PREFIX}writing"
_OURS = re.compile(r"(?:damaged-)?step-\d{8,}(?:-\d+)?")
_SILENT_SECONDS = 3600  # an unfinished checkpoint of another machine is dead when nothing happened to it for this long
_drafts: set[str] = set()  # the claims of this process that are being worked on


def open_storage(root: str | Path) -> Storage:
    """Returns the storage for a folder or a URL (`s3://bucket/run`, `gs://…`, any that fsspec opens).

    Raises:
        CheckpointError: nothing that is installed opens such a URL.
    """
    text = str(root)
    if isinstance(root, Path) and re.match(r"(s3|gs|gcs|abfs|az|memory):/", text):
        raise CheckpointError(f"Opening {text}: a Path cannot hold a URL (it loses a slash). Give it as text.")
    if text.startswith("file://"):
        return Folder(Path(unquote(text.removeprefix("file://"))))
    return Remote(text) if is_url(text) else Folder(Path(root))


def is_url(text: str | Path) -> bool:
    """Whether this names a place that is not a folder of this machine."""
    return "://" in str(text) and not str(text).startswith("file://")


def cache_root() -> Path:
    """Returns where copies of remote files go: `$HOLDFAST_CACHE`, or `holdfast` in `$XDG_CACHE_HOME` or `~/.cache`."""
    if named := os.environ.get("HOLDFAST_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast"


class Remote:
    """The storage that is a URL.

    Args:
        root: such as `s3://bucket/run/checkpoints`.
    """

    def __init__(self, root: str) -> None:
        self._files = RemoteFiles(root)
        self._listed: dict[str, dict[str, Stamp]] | None = None
        self._copies: Path | None = None
        self._copied: dict[str, dict[str, Stamp]] = {}
        self._watched: dict[str, tuple[dict[str, Stamp], float]] = {}

    def names(self) -> list[str]:
        """Returns the names that have a manifest, from one listing that `stamp` uses as well."""
        return [name for name, files in self._list().items() if FILE_NAME in files]

    def where(self, name: str = "") -> str:
        """Returns the URL."""
        return self._files.where(name)

    def publish(self, name: str, fill: Callable[[Draft], None]) -> None:
        """Uploads file by file under a claim; then, if all lies there as it was uploaded, creates the manifest."""
        listed = self._list()
        if FILE_NAME in listed.get(name, {}):
            raise FileExistsError(f"{self.where(name)} is published already")
        self._refuse_living(name, listed)
        self._sweep(name, listed)
        draft = _RemoteDraft(self._files, name, self._claim(name))
        try:
            fill(draft)
            draft.check()
        except BaseException:
            # Never once the manifest may be there: it would be left without its files.
            self._clear(draft)
            raise
        finally:
            self._listed = None
            _drafts.discard(draft.claim)
        self._files.create(f"{name}/{FILE_NAME}", draft.manifest)
        with contextlib.suppress(OSError):
            self._files.remove(f"{name}/{CLAIM_FILE}")  # if it stays, it says nothing beside a manifest

    def confirm(self) -> None:
        """Does nothing: what an object store lists is durable."""

    def read(self, name: str, file: str) -> bytes:
        """Returns the contents of one file."""
        return self._files.read(f"{name}/{file}")

    def replace(self, name: str, file: str, data: bytes) -> None:
        """Puts the file in place; an object store does so in one step."""
        self._listed = None
        self._files.replace(f"{name}/{file}", data)

    def stamp(self, name: str, file: str) -> object:
        """Returns its version and size as of the newest listing; None when it is not there."""
        listed = self._list() if self._listed is None else self._listed
        return listed.get(name, {}).get(file)

    def rename(self, name: str, new: str) -> None:
        """Copies, manifest last, and removes the old. Cut short, there is the old, or both."""
        claim = self._claim(new)
        try:
            for file in self._files.listing(name):
                if file not in (FILE_NAME, CLAIM_FILE):
                    self._files.copy(f"{name}/{file}", f"{new}/{file}")
            self._files.copy(f"{name}/{FILE_NAME}", f"{new}/{FILE_NAME}")
        finally:
            _drafts.discard(claim)
        with contextlib.suppress(OSError):
            self._files.remove(f"{new}/{CLAIM_FILE}")
        self.remove(name)

    def remove(self, name: str) -> None:
        """Deletes the manifest first: cut short, the rest is an unfinished checkpoint, and swept with the next save."""
        self._listed = None
        _drafts.discard(self._claim(name))
        self._files.remove(f"{name}/{FILE_NAME}")
        self._files.remove_tree(name)
        self._copied.pop(name, None)
        if self._copies is not None:
            shutil.rmtree(self._copies / name, ignore_errors=True)

    def fetch(self, name: str) -> Path:
        """Downloads what is not here yet. The copies are deleted with the checkpoint, and at the end of the process."""
        files = self._files.listing(name)
        if FILE_NAME not in files:
            raise FileNotFoundError(f"there is no checkpoint at {self.where(name)}")
        if self._copies is None:
            self._copies = _folder_for_copies(self)
        target, have = self._copies / name, self._copied.setdefault(name, {})
        target.mkdir(exist_ok=True)
        for file, stamp in files.items():
            if "/" in file or file.startswith(".") or have.get(file) == stamp:
                continue
            self._files.download(f"{name}/{file}", target / file, stamp)
            have[file] = stamp
        for file in have.keys() - files.keys():
            (target / file).unlink(missing_ok=True)
            del have[file]
        return target

    def _list(self) -> dict[str, dict[str, Stamp]]:
        listed: dict[str, dict[str, Stamp]] = {}
        for path, stamp in self._files.listing().items():
            name, slash, file = path.partition("/")
            if slash and not name.startswith("."):
                listed.setdefault(name, {})[file] = stamp
        self._listed = listed
        return listed

    def _claim(self, name: str) -> str:
        """Says that this process works on `name`; returns the words it said."""
        claim = f"{this_place()} {os.getpid()} {secrets.token_hex(8)}"
        _drafts.add(claim)
        try:
            self._files.replace(f"{name}/{CLAIM_FILE}", claim.encode())
        except BaseException:
            _drafts.discard(claim)
            raise
        return claim

    def _clear(self, draft: _RemoteDraft) -> None:
        """Removes a draft that failed, if it is still ours; else, or when nothing can be reached, it is left."""
        with contextlib.suppress(OSError):
            if self._files.read(f"{draft.name}/{CLAIM_FILE}").decode() == draft.claim:
                self._files.remove_tree(draft.name)

    def _refuse_living(self, name: str, listed: dict[str, dict[str, Stamp]]) -> None:
        if self._claimant(name, listed.get(name, {})) == "alive":
            raise FileExistsError(f"{self.where(name)} is being written by another process of this machine")

    def _sweep(self, name: str, listed: dict[str, dict[str, Stamp]]) -> None:
        """Deletes unfinished checkpoints that nobody works on, and whatever stands in the way of `name`."""
        unfinished = {n: files for n, files in listed.items() if FILE_NAME not in files and _OURS.fullmatch(n)}
        self._watched = {n: seen for n, seen in self._watched.items() if n in unfinished}
        for other, files in unfinished.items():
            if self._watched.get(other, ({}, 0.0))[0] != files:
                self._watched[other] = (files, time.monotonic())
            whose = self._claimant(other, files)
            # Another machine cannot be asked, and its clock is not ours: it is watched.
            silent = time.monotonic() - self._watched[other][1] > _SILENT_SECONDS
            if other == name or whose == "dead" or (whose == "unknown" and silent):
                with contextlib.suppress(OSError):  # the next save tries again
                    self._files.remove_tree(other)

    def _claimant(self, name: str, files: dict[str, Stamp]) -> str:
        """Returns whether who works on an unfinished checkpoint is "alive", "dead" or "unknown"."""
        if FILE_NAME in files or CLAIM_FILE not in files:
            return "unknown"
        with contextlib.suppress(OSError, ValueError):
            claim = self._files.read(f"{name}/{CLAIM_FILE}").decode()
            place, process, _ = claim.split()
            if claim in _drafts:
                return "alive"
            if place == this_place():
                return "alive" if int(process) != os.getpid() and is_alive(int(process)) else "dead"
        return "unknown"


class _RemoteDraft:
    """Files of a checkpoint that has no manifest yet."""

    def __init__(self, files: RemoteFiles, name: str, claim: str) -> None:
        self._files, self.name, self.claim = files, name, claim
        self._uploaded: dict[str, Stamp] = {}
        self.manifest = b""

    def write(self, file: str, chunks: Iterable[Readable]) -> Written:
        if file == FILE_NAME:  # kept back: it is what makes a checkpoint of the rest
            tally = Tally()
            self.manifest = b"".join(tally.count(chunks))
            return tally.written()
        written, self._uploaded[file] = self._files.upload(f"{self.name}/{file}", chunks)
        return written

    def check(self) -> None:
        """Raises OSError when what lies there is not, file by file, what this draft uploaded."""
        there = self._files.listing(self.name)
        changed = [file for file, stamp in self._uploaded.items() if there.get(file) != stamp]
        if changed or self._files.read(f"{self.name}/{CLAIM_FILE}").decode() != self.claim:
            raise FileExistsError(f"another process writes {self._files.where(self.name)} at the same time")


def _folder_for_copies(owner: object) -> Path:
    """Returns a new folder in the cache that goes when `owner` does; those of processes that were killed go now."""
    root = cache_root() / "fetched"
    root.mkdir(parents=True, exist_ok=True)
    for left in root.iterdir():
        place, _, rest = left.name.partition(".")
        process = rest.partition(".")[0]
        if place == this_place() and process.isdecimal() and not is_alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{this_place()}.{os.getpid()}.", dir=root))
    weakref.finalize(owner, _remove_copies, folder, os.getpid())
    return folder


def _remove_copies(folder: Path, process: int) -> None:
    if process == os.getpid():  # a forked worker ends long before
        shutil.rmtree(folder, ignore_errors=True)
