"""Places that a test can hold up, or listen to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.storage import Draft, Folder


class HeldFolder(Folder):
    """A folder whose disk does nothing while it is held: a save in the background gets no further than its snapshot.

    Attributes:
        reached: set once a save stands before the disk.
        reads: how often each (name, file) was read.
        failure: what the disk raises in place of writing, if anything.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reached = threading.Event()
        self.reads: Counter[tuple[str, str]] = Counter()
        self.failure: BaseException | None = None
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Stops the disk."""
        self._open.clear()
        self.reached.clear()

    def let_go(self) -> None:
        """Lets it go on."""
        self._open.set()

    def publish(self, name: str, fill: Callable[[Draft], None]) -> None:
        """Publishes as a folder does, once the disk is let go."""

        def held(draft: Draft) -> None:
            self.reached.set()
            assert self._open.wait(60)
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            fill(draft)

        super().publish(name, held)

    def read(self, name: str, file: str) -> bytes:
        """Reads as a folder does, and counts it."""
        self.reads[name, file] += 1
        return super().read(name, file)


@pytest.fixture
def held_folder() -> Iterator[Callable[[CheckpointStore], HeldFolder]]:
    """Puts a folder that can be held in the place of a store's own; lets go of it at the end."""
    made: list[HeldFolder] = []

    def put(store: CheckpointStore) -> HeldFolder:
        folder = HeldFolder(Path(store.root))
        store._storage = store._listing._storage = folder
        made.append(folder)
        return folder

    yield put
    for folder in made:
        folder.let_go()
