"""The run directory: whose it is, that one process works in it, and what the run was asked to do.

Layout: `config.yaml` (the resolved settings), `environment.json` (what it ran on, and what was asked), `split.csv`,
`results.csv`, `predictions.csv`, `summary.json`, `tensorboard/`, `checkpoints/`, `best.safetensors`.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from holdfast.checkpoints.files import HIDDEN_PREFIX, replace_durably, sync_directory
from holdfast.config import Config, load_config
from holdfast.errors import ConfigError, RunError

LOCK_FILE = f"{HIDDEN_PREFIX}lock"
_held: set[Path] = set()


class RunDirectory:
    """A run's folder. Use it in a `with` block to hold it for writing.

    Args:
        path: the folder; it is made when the block is entered.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: int | None = None

    def __enter__(self) -> RunDirectory:
        self._refuse_others_folder()
        # Closing any descriptor of a file gives up all of a process's locks on it: never open it a second time.
        if self.path.resolve() in _held:
            raise self._is_taken("This process")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(
                f"Making the run directory {self.path}: {error.strerror}. Give another place with --out."
            ) from error
        self._take_lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            _held.discard(self.path.resolve())

    @property
    def place(self) -> Path | str:
        """What messages call it: the folder, or the URL that it is kept at."""
        return self.path

    @property
    def checkpoints(self) -> Path | str:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.yaml").is_file()

    def begin(self, config: Config, environment: dict[str, Any]) -> None:
        """Writes what the run was asked to do; config.yaml last, since it says that the run has begun."""
        self.write_json("environment.json", environment)
        self.write("config.yaml", config.to_yaml())

    def config(self) -> Config:
        """Returns the resolved settings that the run was begun with. Raises ConfigError when the file is damaged."""
        return load_config(self.path / "config.yaml", environ={})

    def environment(self) -> dict[str, Any]:
        """Returns environment.json. Raises RunError when it is gone or damaged."""
        table = self.read_json("environment.json")
        if not isinstance(table, dict):
            raise RunError(
                f"{self.path / 'environment.json'} is missing or damaged. "
                "Put it back, or start anew with another --out."
            )
        return table

    def mirror(self) -> None:
        """Brings the run's other copy up to date, where it has one. Raises CheckpointError."""

    def is_there(self) -> bool:
        """Whether the folder that was locked can be reached; a mount may vanish, and come back.

        Raises:
            RunError: another folder stands in its place.
        """
        assert self._lock is not None
        try:
            there = os.stat(self.path / LOCK_FILE)  # noqa: PTH116  # one of a pair
        except OSError:
            return False
        if not os.path.samestat(os.fstat(self._lock), there):
            raise RunError(
                f"The run directory {self.path} was replaced while the run went on. Nothing more is written there."
            )
        return True

    def write(self, name: str, text: str) -> None:
        """Writes or replaces a file in one step. Raises RunError when the disk refuses."""
        try:
            replace_durably(self.path / name, text.encode())
        except OSError as error:
            raise RunError(
                f"Writing {self.path / name}: {error.strerror or error}. Make room or mend the disk, and run the same "
                "command again."
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes or replaces a JSON file in one step."""
        self.write(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Returns the contents of a JSON file, None when it is not there or damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _refuse_others_folder(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--out {self.path} is a file. Give a folder that is new, empty, or a run of ours.")
        try:
            names = set(os.listdir(self.path)) if self.path.exists() else set()  # noqa: PTH208  # names are all we need
        except OSError as error:
            raise RunError(
                f"Reading the run directory {self.path}: {error.strerror}. Give another place with --out."
            ) from error
        if names and LOCK_FILE not in names and not {"config.yaml", "environment.json"} <= names:
            raise ConfigError(
                f"--out {self.path} holds files that are not ours ({', '.join(sorted(names)[:3])}). "
                "Give a folder that is new, empty, or a run of ours."
            )

    def _is_taken(self, by: str) -> RunError:
        return RunError(f"{by} is training in {self.path}. Wait for it, stop it, or give another --out.")

    def _take_lock(self) -> None:
        assert self._lock is not None
        try:
            # A POSIX lock belongs to this process alone: worker processes that outlive a kill do not hold it.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._lock, 64, 0).decode(errors="replace").strip()
            os.close(self._lock)
            self._lock = None
            raise self._is_taken(f"Another process{f' ({owner})' if owner else ''}") from error
        _held.add(self.path.resolve())
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()}\n".encode(), 0)
        sync_directory(self.path)


def now() -> str:
    """Returns the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
