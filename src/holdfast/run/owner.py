"""Who works on a remote run: one `owner.json` beside its files, rewritten while its owner lives.

A store has no locks and no common clock. So nobody reads times: who finds an owner watches the file. It changes: the
owner lives, and the newcomer is refused. It stays as it is: the owner is gone, and the newcomer takes over.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from holdfast.checkpoints.place import is_alive, this_place
from holdfast.checkpoints.remote_files import RemoteFiles
from holdfast.errors import RunError

OWNER_FILE = "owner.json"
BEAT_SECONDS = 30.0
WATCH_SECONDS = 100.0  # three beats, and some for a slow network
_LOOK_SECONDS = 2.0


class Ownership:
    """This process's right to write to a run, while it lasts. A thread of its own shows that the process lives.

    Args:
        url: of the run.
        say: told when there is somebody to watch.
    """

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._files = RemoteFiles(url, pauses=())  # whoever asks has another way to go on
        self._say = say
        self._token = secrets.token_hex(8)
        self._beats = 0
        self._is_lost = False
        self._looking = threading.Lock()  # a store that writes in place shows half of what our own thread writes
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Becomes the owner.

        Raises:
            RunError: another process is, and lives.
            OSError: the store refused.
        """
        try:
            self._files.create(OWNER_FILE, self._words())
        except FileExistsError:
            self._take_over()
        self._thread = threading.Thread(target=self._live, name="holdfast-owner", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises RunError once another process has taken over. When the store does not answer, nothing is known."""
        with contextlib.suppress(OSError), self._looking:
            self._look()
        if self._is_lost:
            raise RunError(
                f"Another process has taken over {self._files.root}: this one showed no sign of life for "
                f"{WATCH_SECONDS:.0f} seconds. Nothing more is written there."
            )

    def release(self) -> None:
        """Gives the run free. Raises OSError; whoever comes next then has to watch for a while."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        found = _read(self._files)
        if found is not None and found.get("token") == self._token:
            self._files.remove(OWNER_FILE)

    def _take_over(self) -> None:
        first = _read(self._files)
        if first is not None and not _is_dead(first):
            self._say(f"{self._files.root} has an owner: watching for {WATCH_SECONDS:.0f} s whether it still lives")
            until = time.monotonic() + WATCH_SECONDS
            while time.monotonic() < until:
                time.sleep(_LOOK_SECONDS)
                now = _read(self._files)
                if now is None:
                    break
                if now != first:
                    raise RunError(
                        f"Another process is training in {self._files.root}. Wait for it, stop it, or give "
                        "another --out."
                    )
        self._files.replace(OWNER_FILE, self._words())

    def _live(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                with self._looking:
                    self._look()
                    if self._is_lost:
                        return
                    self._beats += 1
                    self._files.replace(OWNER_FILE, self._words())
            except OSError:
                continue  # the saves say so

    def _look(self) -> None:
        """Notes it when the file is another's, or gone: who took over may have finished. A damaged one says nothing."""
        found = _read(self._files)
        if found is None or found.get("token", self._token) != self._token:
            self._is_lost = True

    def _words(self) -> bytes:
        table = {"token": self._token, "place": this_place(), "process": os.getpid(), "beats": self._beats}
        return (json.dumps(table) + "\n").encode()


def _read(files: RemoteFiles) -> dict[str, Any] | None:
    """Returns the file's contents; None when there is none. Raises OSError when that cannot be known."""
    try:
        table = json.loads(files.read(OWNER_FILE))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return table if isinstance(table, dict) else {}


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner is known to be gone: it ran here, and does not any more."""
    process = owner.get("process")
    return owner.get("place") == this_place() and isinstance(process, int) and not is_alive(process)
