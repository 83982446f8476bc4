"""Everybody who saves, under one interface, so that a benchmark measures all alike."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch

from benchmarks.options import Options
from benchmarks.raw import sync_tree
from holdfast import CheckpointStore
from holdfast.checkpoints import Last

Parts = dict[str, Any]


class Saver:
    """Saves to the disk. This one does so while the loop waits.

    Args:
        name: for the table.
        folder: made here; nobody else writes there.
        write: puts `parts` into a file or folder of the given name, which does not exist yet.
        syncs: whether `write` syncs what it wrote; else `wait_until_durable` does.
    """

    def __init__(
        self, name: str, folder: Path, write: Callable[[Parts, Path], None] | None = None, *, syncs: bool = True
    ) -> None:
        self.name, self.folder, self.syncs, self._write = name, folder, syncs, write
        self._saves = 0
        self._under_way: Future[Any] | None = None
        folder.mkdir()

    def save(self, parts: Parts) -> None:
        """Starts a save, and returns when the loop may go on."""
        assert self._write is not None
        self._write(parts, self._next())

    def before_step(self) -> None:
        """Returns when the weights may change."""

    def is_done(self) -> bool:
        """Returns whether nothing is under way."""
        return self._under_way is None or self._under_way.done()

    def wait(self) -> None:
        """Returns when the save is done, as far as the saver itself goes. Raises what it raised."""
        if self._under_way is not None:
            self._under_way.result()

    def wait_until_durable(self) -> None:
        """Returns when the save is on the disk."""
        self.wait()
        if not self.syncs:
            sync_tree(self.folder)

    def clear(self) -> None:
        """Deletes what was saved."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def close(self) -> None:
        """Gives back what it holds."""
        self._under_way = None

    def _next(self) -> Path:
        self._saves += 1
        return self.folder / f"save-{self._saves}"


class Holdfast(Saver):
    """Our store."""

    def __init__(self, name: str, folder: Path, *, background: bool) -> None:
        super().__init__(name, folder)
        self.store = CheckpointStore(folder / "store", keep=Last(1_000_000), background=background)
        self._done = threading.Event()

    def save(self, parts: Parts) -> None:
        """Starts a save."""
        self._saves += 1
        self._done = threading.Event()
        self.store.save(self._saves, parts)
        self.store.then(self._done.set)

    def before_step(self) -> None:
        """Waits for the snapshot: what the optimizer's own hook would do."""
        self.store.settle()

    def is_done(self) -> bool:
        """Returns whether the background has nothing to do."""
        return self._done.is_set()

    def wait(self) -> None:
        """Waits for the save."""
        self.store.wait()

    def close(self) -> None:
        """Closes the store."""
        self.store.close()


class DcpAsync(Saver):
    """torch.distributed.checkpoint.async_save, as it comes or with the stager that is best on a CPU."""

    def __init__(self, name: str, folder: Path, *, stage_beside: bool) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        super().__init__(name, folder)
        self._dcp = dcp
        # A thread of its own for the copy, into memory that is kept for the next; the rest of it needs a GPU.
        self._stager = DefaultStager(StagingOptions(False, False, True, False)) if stage_beside else None
        self._staging: Future[Any] | None = None

    def save(self, parts: Parts) -> None:
        """Starts a save."""
        started = self._dcp.async_save(
            _trees(parts), checkpoint_id=self._next(), async_stager=self._stager, no_dist=True
        )
        if self._stager is None:
            self._under_way = started
        else:
            self._staging, self._under_way = started.staging_completion, started.upload_completion

    def before_step(self) -> None:
        """Waits for the staging."""
        if self._staging is not None:
            self._staging.result()

    def close(self) -> None:
        """Closes the stager."""
        self._under_way = self._staging = None
        if self._stager is not None:
            self._stager.close()


class LightningAsync(Saver):
    """Lightning's AsyncCheckpointIO around its TorchCheckpointIO, which does not sync."""

    def __init__(self, name: str, folder: Path) -> None:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

        super().__init__(name, folder, syncs=False)
        self._io = AsyncCheckpointIO(TorchCheckpointIO())

    def save(self, parts: Parts) -> None:
        """Starts a save."""
        self._io.save_checkpoint(_trees(parts), self._next())
        assert self._io._executor is not None
        self._under_way = self._io._executor.submit(lambda: None)  # its only thread: done when the save is

    def close(self) -> None:
        """Ends its thread."""
        self._under_way = None
        self._io.teardown()


def savers(folder: Path, options: Options, *, synchronous: bool = True) -> list[Saver]:
    """Makes everybody who is installed, each with a folder of its own; says who is not."""
    makers: dict[str, Callable[[str, Path], Saver]] = {
        "holdfast": lambda name, place: Holdfast(name, place, background=True),
        "holdfast background=False": lambda name, place: Holdfast(name, place, background=False),
        "torch.save + fsync": lambda name, place: Saver(name, place, _torch_save, syncs=False),
        "safetensors save_file + fsync": lambda name, place: Saver(name, place, _safetensors_save, syncs=False),
        "DCP save": lambda name, place: Saver(name, place, _dcp_save),
        "DCP async_save": lambda name, place: DcpAsync(name, place, stage_beside=False),
        "DCP async_save, staged in a thread": lambda name, place: DcpAsync(name, place, stage_beside=True),
        "Lightning AsyncCheckpointIO": LightningAsync,
    }
    waits = {"holdfast background=False", "torch.save + fsync", "safetensors save_file + fsync", "DCP save"}
    made = []
    for number, (name, make) in enumerate(makers.items()):
        if not options.wants(name) or (name in waits and not synchronous):
            continue
        try:
            made.append(make(name, folder / str(number)))
        except ImportError as error:
            print(f"{name} is left out: {error.name} is not installed")
    be_quiet()
    return made


def be_quiet() -> None:
    """Hides what the peers say about running without a process group or a GPU: both are meant."""
    warnings.filterwarnings("ignore", module=r"torch\.distributed")
    warnings.filterwarnings("ignore", module="lightning")


def _trees(parts: Parts) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


def _torch_save(parts: Parts, path: Path) -> None:
    torch.save(_trees(parts), path)


def _safetensors_save(parts: Parts, path: Path) -> None:
    from safetensors.torch import save_file

    save_file(flat_tensors(parts), path)


def flat_tensors(parts: Parts) -> dict[str, torch.Tensor]:
    """Returns all tensors of the parts by name: what safetensors can store of an optimizer."""
    flat: dict[str, torch.Tensor] = {}
    for part, tree in _trees(parts).items():
        if "param_groups" in tree:
            for number, slots in tree["state"].items():
                flat |= {f"{part}.{number}.{name}": tensor for name, tensor in slots.items()}
        else:
            flat |= {f"{part}.{name}": tensor for name, tensor in tree.items()}
    return flat


def _dcp_save(parts: Parts, path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save(_trees(parts), checkpoint_id=path, no_dist=True)
