"""Files under a URL, through fsspec: every operation is tried several times, and fails with an OSError or not at all.

Knows nothing of checkpoints. This is the border to fsspec and the packages behind it (s3fs, gcsfs, …): whatever they
raise becomes an OSError here, with the original as its cause.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from holdfast.checkpoints.digest import Readable
from holdfast.checkpoints.files import Tally, Written
from holdfast.errors import CheckpointError

T = TypeVar("T")

BLOCK_BYTES = 16 << 20  # of an upload; S3 takes 10,000 of them, which makes 160 GB a file
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
_FOR_GOOD = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_FULL = (errno.ENOSPC, errno.EDQUOT)  # of this machine's disk, under a download
_NOT_WORTH_ANOTHER_TRY = (ValueError, TypeError, NotImplementedError, ImportError)  # another attempt would say the same
# These have no directories: a file is there as soon as it is written. Asked for a directory, s3fs may make a bucket.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
_VERSIONS = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "updated", "modified", "created")


@dataclass(frozen=True)
class Stamp:
    """What a listing says of a file: something that is another for other contents, and its size in bytes."""

    version: str
    num_bytes: int


class RemoteFiles:
    """The files under one URL, by their path below it.

    Args:
        root: such as `s3://bucket/run`; anything that fsspec opens.
        pauses: seconds before each attempt after the first; by default `PAUSES`.

    Raises:
        CheckpointError: nothing that is installed opens such a URL.
    """

    def __init__(self, root: str, pauses: tuple[float, ...] | None = None) -> None:
        self.root = root.rstrip("/")
        self._pauses = PAUSES if pauses is None else pauses
        try:
            import fsspec

            # An instance of our own: one that others share may hold old listings, or belong to a process that forked.
            self._fs, base = fsspec.core.url_to_fs(self.root, skip_instance_cache=True, use_listings_cache=False)
        except ImportError as error:
            raise CheckpointError(
                f"Opening {root}: {error}. For S3 and Google Cloud Storage: pip install 'holdfast[remote]'."
            ) from error
        except Exception as error:  # whatever a third party's constructor thinks of
            raise CheckpointError(
                f"Opening {root}: {error}. Expected a folder, or a URL such as s3://bucket/run or gs://bucket/run."
            ) from error
        self._base = base.rstrip("/")
        protocol = self._fs.protocol
        self._has_directories = not _OBJECT_STORES & ({protocol} if isinstance(protocol, str) else set(protocol))

    def where(self, path: str = "") -> str:
        """Returns the URL of a file or folder."""
        return f"{self.root}/{path}".rstrip("/")

    def listing(self, under: str = "") -> dict[str, Stamp]:
        """Returns every file below the folder `under`, by its path from there. One request for a thousand files."""
        base = self._full(under)
        self._fs.invalidate_cache()
        try:
            found = self._try(lambda: self._fs.find(base, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {name[len(base) + 1 :]: _stamp(info) for name, info in found.items() if name.startswith(f"{base}/")}

    def read(self, path: str) -> bytes:
        """Returns a file's contents. Raises FileNotFoundError when there is none."""
        data: bytes = self._try(lambda: self._fs.cat_file(self._full(path)))
        return data

    def replace(self, path: str, data: bytes) -> None:
        """Writes or replaces a small file; in one step on an object store."""
        self._make_parent(path)
        self._try(lambda: self._fs.pipe_file(self._full(path), data))

    def create(self, path: str, data: bytes) -> None:
        """Writes a small file that is not there. Raises FileExistsError when it is: of two writers, one succeeds."""
        self._make_parent(path)
        full = self._full(path)
        try:
            self._try(lambda: self._fs.pipe_file(full, data, mode="create"))
        except FileExistsError as error:
            if self.read(path) != data:  # else an earlier attempt had arrived, and only its answer was lost
                raise FileExistsError(f"{self.where(path)} is there already") from error
        except OSError as error:
            # The store has no exclusive creation. To look first is the best that is left.
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            if self._try(lambda: self._fs.exists(full)):
                raise FileExistsError(f"{self.where(path)} is there already") from error
            self.replace(path, data)

    def upload(self, path: str, chunks: Iterable[Readable]) -> tuple[Written, Stamp]:
        """Writes a file of any size, block by block, and checks the size of what arrived.

        Args:
            path: where; what is there is replaced.
            chunks: iterated again, from the start, when the connection breaks on the way.
        """
        self._make_parent(path)
        return self._try(lambda: self._upload_once(path, chunks), is_ours=True)

    def download(self, path: str, target: Path, stamp: Stamp) -> None:
        """Writes a remote file to `target`, whole or not at all, and checks its size."""
        aside = target.with_name(f".{target.name}.part")

        def once() -> None:
            _at_the_border(lambda: self._fs.get_file(self._full(path), str(aside)))
            if (size := aside.stat().st_size) != stamp.num_bytes:
                raise OSError(f"{self.where(path)}: {size:,} bytes arrived of {stamp.num_bytes:,}")

        try:
            self._try(once, is_ours=True)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def copy(self, path: str, new: str) -> None:
        """Copies a file without moving its bytes through this machine, where the store can do so."""
        self._make_parent(new)
        self._try(lambda: self._fs.cp_file(self._full(path), self._full(new)))

    def remove(self, path: str) -> None:
        """Deletes a file; what is already gone is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._try(lambda: self._fs.rm_file(self._full(path)))

    def remove_tree(self, path: str) -> None:
        """Deletes every file below a folder, hidden ones last; what is already gone is no error."""
        if self._has_directories:
            with contextlib.suppress(FileNotFoundError):
                self._try(lambda: self._fs.rm(self._full(path), recursive=True))
            return
        # What is hidden says whose the rest is: it must not go before the rest.
        for file in sorted(self.listing(path), key=lambda name: name.startswith(".")):
            self.remove(f"{path}/{file}")

    def _full(self, path: str) -> str:
        return f"{self._base}/{path}".rstrip("/")

    def _make_parent(self, path: str) -> None:
        if self._has_directories:
            self._try(lambda: self._fs.makedirs(self._full(path).rpartition("/")[0], exist_ok=True))

    def _upload_once(self, path: str, chunks: Iterable[Readable]) -> tuple[Written, Stamp]:
        tally = Tally()
        file = _at_the_border(lambda: self._fs.open(self._full(path), "wb", block_size=BLOCK_BYTES))
        try:
            for piece in tally.count(chunks):
                _at_the_border(lambda piece=piece: file.write(piece))  # type: ignore[misc]  # mypy: a lambda's default
            _at_the_border(file.close)
        except BaseException:
            _give_up(file)
            raise
        written = tally.written()
        folder, _, name = path.rpartition("/")
        stamp = self.listing(folder).get(name)
        if stamp is None or stamp.num_bytes != written.num_bytes:
            arrived = "nothing" if stamp is None else f"{stamp.num_bytes:,} bytes"
            raise OSError(f"{self.where(path)}: {arrived} arrived of {written.num_bytes:,} bytes")
        return written, stamp

    def _try(self, act: Callable[[], T], *, is_ours: bool = False) -> T:
        """Does it, again after a pause when it fails in a way that may pass. `is_ours`: it minds the border itself."""
        for pause in self._pauses:
            try:
                return act() if is_ours else _at_the_border(act)
            except _FOR_GOOD:
                raise
            except OSError as error:
                if error.errno in _FULL or isinstance(error.__cause__, _NOT_WORTH_ANOTHER_TRY):
                    raise
            time.sleep(pause)
        return act() if is_ours else _at_the_border(act)


def _at_the_border(act: Callable[[], T]) -> T:
    try:
        return act()
    except OSError:
        raise
    except Exception as error:  # botocore's, aiohttp's, Google's …: families with no common root
        raise OSError(f"{type(error).__name__}: {error}") from error


def _stamp(info: dict[str, Any]) -> Stamp:
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    text = str(version.timestamp()) if isinstance(version, datetime) else str(version)
    return Stamp(text.strip('"'), int(info.get("size") or 0))


def _give_up(file: Any) -> None:
    """Drops an upload without finishing it: closing such a file would publish the half of it."""
    from fsspec.spec import AbstractBufferedFile

    with contextlib.suppress(Exception):  # the connection that broke may still be broken
        if isinstance(file, AbstractBufferedFile):
            file.discard()
        else:
            file.close()
    if isinstance(file, AbstractBufferedFile):
        file.closed = True
