"""A run whose `--out` is a URL: worked on in a local folder, kept at the URL.

Checkpoints go to the URL by themselves, through the store. The other files are small, or derived from checkpoints:
they are written here, and mirrored. The URL is the truth: what was changed there is taken over at the start.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

from holdfast.checkpoints.files import HIDDEN_PREFIX, replace_durably
from holdfast.checkpoints.remote import cache_root, is_url
from holdfast.checkpoints.remote_files import RemoteFiles, Stamp
from holdfast.config import Config
from holdfast.errors import CheckpointError, ConfigError, RunError
from holdfast.run.directory import RunDirectory
from holdfast.run.owner import OWNER_FILE, Ownership

RECORD_FILE = f"{HIDDEN_PREFIX}mirrored"
_CHECKPOINTS = "checkpoints"
_BEGUN = "config.yaml"


def open_run(place: str | Path, say: Callable[[str], None]) -> RunDirectory:
    """Returns the run directory for a folder or a URL, to use in a `with` block.

    Args:
        say: receives one line for everything a person should know.

    Raises:
        ConfigError: nothing that is installed opens such a URL.
    """
    if not is_url(place):
        return RunDirectory(str(place).removeprefix("file://"))
    try:
        return RemoteRun(str(place).rstrip("/"), say)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


class RemoteRun(RunDirectory):
    """A run at a URL, and the folder in the cache where it is worked on.

    Args:
        url: such as `s3://bucket/run`.
        say: receives one line for everything a person should know.
    """

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        name = f"{url.rpartition('/')[2]}-{blake2b(url.encode(), digest_size=8).hexdigest()}"
        super().__init__(cache_root() / "runs" / name)
        self._url = url
        self._files = RemoteFiles(url)
        self._owner = Ownership(url, say)
        self._record: dict[str, _Mirrored] = {}
        self._sending = threading.Lock()  # a failed run's last push may meet that of the saves' thread
        self._is_over = False

    def __enter__(self) -> RemoteRun:
        super().__enter__()
        try:
            with self._naming(f"Opening the run {self._url}"):
                there = self._files.listing()
                self._refuse_others_files(there)
                self._owner.take()
                self._pull(self._files.listing())
        except BaseException:
            with contextlib.suppress(OSError):
                self._owner.release()
            super().__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._push_last(value)
        finally:
            with self._sending:
                self._is_over = True
            with contextlib.suppress(OSError):
                self._owner.release()
            super().__exit__(kind, value, trace)

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    @property
    def checkpoints(self) -> str:
        """The URL of the checkpoints."""
        return f"{self._url}/{_CHECKPOINTS}"

    def begin(self, config: Config, environment: dict[str, Any]) -> None:
        """Writes what the run was asked to do, here and there."""
        super().begin(config, environment)
        try:
            self.mirror()
        except CheckpointError as error:
            raise RunError(f"{error} Nothing has been trained yet; mend it, or give another --out.") from error

    def is_there(self) -> bool:
        """Whether the folder is there. Raises RunError when another process has taken the run over."""
        self._owner.check()
        return super().is_there()

    def mirror(self) -> None:
        """Sends what has changed here since the last time, config.yaml last, and deletes there what was deleted here.

        Raises:
            CheckpointError: some of it could not be sent, the folder is gone, or another process has taken over.
        """
        with self._sending:
            if self._is_over:
                return  # the run is another's to write now
            try:
                is_there = self.is_there()
            except RunError as error:
                raise CheckpointError(str(error)) from error
            if not is_there:  # a cache that was cleared is no reason to delete what it was a copy of
                raise CheckpointError(
                    f"Sending files of the run to {self._url}: {self.path}, where they are worked on, is not there any "
                    "more. What is at the URL was left as it is."
                )
            failures = self._send()
            self._write_record()
        if failures:
            raise CheckpointError(f"Sending files of the run to {self._url}: {'; '.join(failures[:3])}.")

    def _send(self) -> list[str]:
        """Does what `mirror` says; returns what could not be done, and why."""
        failures: list[str] = []
        names = sorted(self._local_names(), key=lambda name: (name == _BEGUN, name))
        for name in names:
            before = _state_of(self.path / name)
            if before is None or (name in self._record and self._record[name].local == before):
                continue
            if name == _BEGUN and failures:
                break  # it says that the rest is there
            try:
                _, stamp = self._files.upload(name, _Contents(self.path / name))
                self._record[name] = _Mirrored(stamp, before)
            except OSError as error:
                failures.append(f"{name} ({error.strerror or error})")
        # Never config.yaml: a run that has begun does not become one that has not.
        for name in self._record.keys() - set(names) - {_BEGUN}:
            try:
                self._files.remove(name)
                del self._record[name]
            except OSError as error:
                failures.append(f"{name} ({error.strerror or error})")
        return failures

    def _push_last(self, value: BaseException | None) -> None:
        try:
            self.mirror()
        except CheckpointError as error:
            if value is None:
                raise RunError(
                    f"{error} The checkpoints there are whole; run the same command again to send the rest."
                ) from error

    def _pull(self, there: dict[str, Stamp]) -> None:
        """Makes the folder what is at the URL. What has not changed there since the last time may be ahead here."""
        there = {name: stamp for name, stamp in there.items() if _is_mirrored(name)}
        self._record = self._read_record()
        for name in self._local_names():
            if _BEGUN not in there or (name in self._record and name not in there):
                (self.path / name).unlink()
        self._record = {name: known for name, known in self._record.items() if name in there}
        for name, stamp in there.items():
            local = self.path / name
            if name in self._record and self._record[name].stamp == stamp and local.is_file():
                continue
            local.parent.mkdir(parents=True, exist_ok=True)
            self._files.download(name, local, stamp)
            self._record[name] = _Mirrored(stamp, _state_of(local))
        self._write_record()

    def _local_names(self) -> list[str]:
        names = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return [name for name in names if _is_mirrored(name)]

    def _refuse_others_files(self, there: dict[str, Stamp]) -> None:
        if there and not {_BEGUN, "environment.json", OWNER_FILE} & there.keys():
            raise ConfigError(
                f"--out {self._url} holds files that are not ours ({', '.join(sorted(there)[:3])}). "
                "Give a URL with nothing below it, or a run of ours."
            )

    def _read_record(self) -> dict[str, _Mirrored]:
        table = self.read_json(RECORD_FILE)
        try:
            return {
                name: _Mirrored(Stamp(version, int(size)), None if local is None else (int(local[0]), int(local[1])))
                for name, (version, size, local) in table.items()
            }
        except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError):
            return {}  # of no run yet, or damaged: then everything is fetched again

    def _write_record(self) -> None:
        table = {name: [m.stamp.version, m.stamp.num_bytes, m.local] for name, m in self._record.items()}
        with contextlib.suppress(OSError):  # without it, the next start fetches more
            replace_durably(self.path / RECORD_FILE, json.dumps(table).encode())

    @contextlib.contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{what}: {error.strerror or error}. Expected a place that can be read and written; look at the "
                "bucket's name, its rights, the credentials and the network."
            ) from error


@dataclass(frozen=True)
class _Mirrored:
    """A file as it is there, and the time of change (ns) and size that it had here then."""

    stamp: Stamp
    local: tuple[int, int] | None


@dataclass(frozen=True)
class _Contents:
    """A file's bytes in chunks, to be had more than once."""

    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk


def _is_mirrored(name: str) -> bool:
    parts = name.split("/")
    hidden = any(not part or part.startswith(".") for part in parts)  # `..` too: a key may say anything
    return not hidden and parts[0] not in (_CHECKPOINTS, OWNER_FILE)


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
