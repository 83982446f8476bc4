from __future__ import annotations

import errno
import importlib.util
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from holdfast.checkpoints import CheckpointStore, Last, files
from holdfast.errors import CheckpointError

SCRIPT = Path(__file__).with_name("save_and_be_killed.py")
OURS = ("write_durably", "make_directory", "make_parents", "rename", "sync_file", "sync_directory", "remove_tree")
SYSTEM = ("mkdir", "open", "write", "ftruncate", "fsync", "close", "rename", "unlink", "rmdir", "listdir")
SIZES = ("small", "large")
MODES = ("synchronous", "background")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_script = _load(SCRIPT)
parts_of: Callable[..., dict[str, Any]] = _script.parts_of


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By size, a store with one checkpoint, of step 1, that has been measured."""
    roots = {}
    for size in SIZES:
        roots[size] = tmp_path_factory.mktemp(size)
        with CheckpointStore(roots[size]) as store:
            store.save(1, parts_of(1, size))
            store.annotate(1, {"accuracy": 0.5})
    return roots


def _step_of(tree: dict[str, Any]) -> int:
    """Returns the step that every single value in `tree` tells; fails when they tell different ones."""
    step = int(tree["counters"]["step"])
    size = next(size for size, count in _script.NUM_VALUES.items() if count == len(tree["model"]["w"]))
    expected = parts_of(step, size)
    assert tree["counters"] == expected["counters"]
    for part, name in (("model", "w"), ("model", "b"), ("optimizer", "m")):
        assert torch.equal(tree[part][name], expected[part][name]), (part, name)
    return step


def _what_is_left(root: Path) -> int:
    """Returns the step that is restored (0 for none), after asserting that every published checkpoint is whole."""
    said: list[str] = []
    store = CheckpointStore(root, say=said.append)
    for published in store.steps():
        store.open(published).verify()
    tree: dict[str, Any] = {"model": {}, "optimizer": {}, "counters": {}}
    restored = store.restore_latest(tree)
    assert restored == (_step_of(tree) if restored else 0)
    assert said == []
    return restored


def _goes_on(root: Path) -> None:
    """Asserts that the next save works, and leaves nothing of the accident behind."""
    CheckpointStore(root, Last(1), background=False).save(3, parts_of(3))
    assert _what_is_left(root) == 3
    assert [entry.name for entry in root.iterdir()] == ["step-00000003"]
    assert not [entry.name for entry in (root / "step-00000003").iterdir() if entry.name.startswith(".")]


class _Fault:
    """Makes a call fail: the `number`-th, or that one and all after it. Every other write is torn: half is written."""

    def __init__(self, number: int, error: int, *, for_good: bool) -> None:
        self.number, self.error, self.for_good = number, error, for_good
        self.calls: list[str] = []
        self._counting = threading.Lock()

    @property
    def struck(self) -> bool:
        """Whether a call was made to fail."""
        return len(self.calls) >= self.number

    def install(self, patch: pytest.MonkeyPatch, layer: str) -> None:
        """Puts the fault between the store and the files: at our own functions, or at the system's."""
        module, names = (os, SYSTEM) if layer == "system" else (files, OURS)
        for name in names:
            patch.setattr(module, name, self._wrap(name, getattr(module, name)))
        if layer == "system":  # Python opens a file without passing by os.open
            real, failing = Path.open, self._wrap("create", Path.open)
            patch.setattr(
                Path, "open", lambda p, mode="r", *a, **o: (failing if "x" in mode else real)(p, mode, *a, **o)
            )

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with self._counting:
                self.calls.append(name)
                count = len(self.calls)
            if count == self.number or (self.for_good and count > self.number):
                if name == "write" and self.number % 2:
                    half = len(arguments[1]) // 2
                    real(arguments[0], arguments[1][: half // 512 * 512 or half])
                if name == "close":  # the system closes it all the same
                    real(*arguments)
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **options)

        return call


def _save(root: Path, error: int, size: str = "small", mode: str = "synchronous") -> bool:
    """Saves step 2; returns whether it worked, after asserting that a failure was told in words."""
    said: list[str] = []
    failure = ""
    store = CheckpointStore(root, Last(1), background=mode == "background", say=said.append)
    try:
        store.save(2, parts_of(2, size))
        store.close()
    except CheckpointError as caught:
        failure = str(caught)
    store.close()  # nothing is told twice
    reason = os.strerror(error)
    assert failure in (
        "",
        f"Reading the checkpoints in {root}: {reason}. See that the disk is there and that you may read it.",
    ) or failure.startswith(f"Saving {root / 'step-00000002'}: {reason}. ")
    # What cannot be deleted, or not even be listed for that, is said, and is no failure of the save.
    strange = [
        line
        for line in said
        if not line.startswith("Deleting the old checkpoint of step 1: ")
        and not (line.startswith("Reading the checkpoints in ") and line.endswith("Old checkpoints stay for now."))
    ]
    assert strange == []
    return not failure


def _combinations(sizes: tuple[str, ...] = SIZES) -> list[Any]:
    """Returns every combination, each with the marks of the long form where the short one leaves it out."""
    errors = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
    table = []
    for number, (layer, for_good, size, mode) in enumerate(
        itertools.product(("ours", "system"), (False, True), sizes, MODES)
    ):
        for error in errors:
            # The short form takes every combination with one of the errors, in turn.
            name = f"{layer}-{errno.errorcode[error]}-{'for good' if for_good else 'once'}-{size}-{mode}"
            short = error == errors[(number + number // 4) % 4]
            marks = () if short else (pytest.mark.slow,)
            table.append(pytest.param(layer, error, for_good, size, mode, id=name, marks=marks))
    return table


every_failure = pytest.mark.parametrize(("layer", "error", "for_good", "size", "mode"), _combinations())


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch, long_form: bool) -> None:
    _script.write_in_small_pieces(monkeypatch.setattr)
    if not long_form:  # nobody pulls the plug here: that a file is synced matters, syncing it only takes time
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.mark.row("S10")
@every_failure
def test_after_a_failure_at_any_call_there_is_the_old_checkpoint_or_the_new_one(
    tmp_path: Path,
    bases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    layer: str,
    error: int,
    for_good: bool,
    size: str,
    mode: str,
) -> None:
    """Whichever call fails, whole checkpoints are left, the failure is told in words, and the next save works."""
    results: list[tuple[bool, int]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number)
        shutil.copytree(bases[size], root)
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            saved = _save(root, error, size, mode)
        results.append((saved, _what_is_left(root)))
        # A failed save gives its space back at once, where the disk lets it.
        assert saved or for_good or not list(root.glob(f"{files.HIDDEN_PREFIX}*"))
        _goes_on(root)
        shutil.rmtree(root)
        if not fault.struck:
            break
    assert set(results) == {(False, 1), (False, 2), (True, 2)}
    assert results[-1] == (True, 2)
    direct = {"ftruncate"} if size == "large" else set()
    assert set(fault.calls) == ({*SYSTEM, "create"} - {"ftruncate"} | direct if layer == "system" else set(OURS))


@every_failure
def test_after_a_failure_at_any_call_of_the_first_save_there_is_nothing_or_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: int, for_good: bool, size: str, mode: str
) -> None:
    """A first save that fails leaves an empty start, never half a checkpoint, and can be made again."""
    results: list[tuple[bool, int]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number) / "checkpoints"
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            saved = _save(root, error, size, mode)
        results.append((saved, _what_is_left(root)))
        if not results[-1][1]:
            CheckpointStore(root, background=False).save(2, parts_of(2, size))
        assert _what_is_left(root) == 2
        shutil.rmtree(root)
        if not fault.struck:
            break
    assert set(results) == {(False, 0), (False, 2), (True, 2)}
    assert results[-1] == (True, 2)


@pytest.mark.parametrize(("layer", "error", "for_good", "size", "mode"), _combinations(("small",)))
def test_after_a_failure_at_any_call_of_a_measurement_there_is_the_old_one_or_the_new_one(
    tmp_path: Path,
    bases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    layer: str,
    error: int,
    for_good: bool,
    size: str,
    mode: str,
) -> None:
    """A measurement that cannot be written leaves the earlier one, and the checkpoint is whole all along."""
    results: list[tuple[bool, float]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number)
        shutil.copytree(bases[size], root)
        store = CheckpointStore(root, background=mode == "background")
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            failure = ""
            try:
                store.annotate(1, {"accuracy": 0.75})
                store.wait()
            except CheckpointError as caught:
                failure = str(caught)
        step, reason = root / "step-00000001", os.strerror(error)
        assert failure in (
            "",
            f"Writing evaluation.json of {step}: {reason}.",
            f"Reading the checkpoints in {root}: {reason}. See that the disk is there and that you may read it.",
        )
        assert _what_is_left(root) == 1
        results.append((not failure, store.open(1).metrics["accuracy"]))
        store.annotate(1, {"accuracy": 1.0})
        store.wait()
        assert store.open(1).metrics == {"accuracy": 1.0}
        shutil.rmtree(root)
        if not fault.struck:
            break
    assert set(results) == {(False, 0.5), (False, 0.75), (True, 0.75)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_a_disk_that_takes_only_so_many_bytes_leaves_the_old_checkpoint(
    tmp_path: Path, bases: dict[str, Path], size: str, mode: str
) -> None:
    """With the system itself refusing to let a file grow, the save fails in words and the old one stands."""
    largest = max(path.stat().st_size for path in (bases[size] / "step-00000001").iterdir())
    limits = [0, 1, 7, 8, 50, *range(100, largest, 150 if size == "small" else 3_000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in limits:
        root = tmp_path / str(limit)
        shutil.copytree(bases[size], root)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            saved = _save(root, errno.EFBIG, size, mode)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not saved
        assert _what_is_left(root) == 1
        _goes_on(root)


@pytest.fixture(scope="module")
def killed(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, long_form: bool) -> list[dict[str, Any]]:
    """What `save_and_be_killed.py` tells of its children."""
    folder = tmp_path_factory.mktemp("killed")
    ended = subprocess.run(
        [sys.executable, SCRIPT, *bases.values(), folder, "1" if long_form else "4"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.row("S10")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_after_a_kill_at_any_call_there_is_the_old_checkpoint_or_the_new_one(
    killed: list[dict[str, Any]], long_form: bool, size: str, mode: str
) -> None:
    """SIGKILL before, within or after any system call of a save leaves whole checkpoints, and the next save works."""
    children = [child for child in killed if (child["size"], child["mode"]) == (size, mode)]
    left: dict[str, set[int]] = {"before": set(), "half way": set(), "after": set()}
    for child in children:
        root = Path(child["folder"])
        step = _what_is_left(root)
        assert step == 2 or child["killed"]
        left[child["moment"]].add(step)
        _goes_on(root)
    assert left == {"before": {1, 2}, "half way": {1, 2}, "after": {1, 2}}
    assert sum(child["killed"] for child in children) > (80 if long_form else 20)
    if long_form:
        direct = {"ftruncate"} if size == "large" else set()
        assert {child["call"] for child in children} == {*_script.CALLS, None} - {"ftruncate"} | direct


class _PowerCutError(BaseException):
    """The machine is off: no handler of the program runs any more."""


class _Disk:
    """What a power cut would take away: remembers what has been written, listed and moved and not yet synced."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0
        self.unsynced: set[Path] = set()
        self.unlisted: set[Path] = set()
        self.moved: list[tuple[Path, Path]] = []
        self.names: set[str] = set()

    @property
    def cut(self) -> bool:
        """Whether the power went."""
        return self.count >= self.number

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Watches the calls a save makes, and cuts the power at the `number`-th."""
        known = {"write": self._wrote, "ftruncate": self._wrote, "fsync": self._synced, "rename": self._renamed}
        for name in ("write", "ftruncate", "fsync", "rename", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, self._wrap(name, getattr(os, name), known.get(name, lambda *_arguments: None)))

    def lose(self, *, moves: bool) -> None:
        """Takes away what was never synced; with `moves`, also renames whose directory was not."""
        for path in self.unsynced:
            if path.exists():
                os.truncate(path, path.stat().st_size // 2)
        for path in self.unlisted:
            path.unlink(missing_ok=True)
        for source, target in reversed(self.moved):
            if moves and target.exists():
                target.rename(source)

    def _wrap(self, name: str, real: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.names.add(name)
            self.count += 1
            if self.cut:
                raise _PowerCutError
            result = real(*arguments, **options)
            after(*arguments)
            return result

        return call

    def _wrote(self, descriptor: int, _data: object) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.unsynced.add(path)
        self.unlisted.add(path)

    def _synced(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.unsynced.discard(path)
        self.unlisted = {file for file in self.unlisted if file.parent != path}
        self.moved = [move for move in self.moved if move[1].parent != path]

    def _renamed(self, source: Path, target: Path) -> None:
        source, target = Path(source), Path(target)
        self.moved.append((source, target))
        for kept in (self.unsynced, self.unlisted):
            for path in [path for path in kept if path.is_relative_to(source)]:
                kept.remove(path)
                kept.add(target / path.relative_to(source))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to know a descriptor's file")


def _cuts(base: Path, folder: Path, patching: pytest.MonkeyPatch, size: str, mode: str) -> Iterator[tuple[Path, _Disk]]:
    """Saves step 2 again and again, and yields the folder and the disk of each power cut, and of the last without."""
    for number in itertools.count(1):
        root = folder / str(number)
        shutil.copytree(base, root)
        disk = _Disk(number)
        with patching.context() as patch:
            disk.install(patch)
            store = CheckpointStore(root, Last(1), background=mode == "background")
            try:
                store.save(2, parts_of(2, size))
                store.wait()
            except _PowerCutError:
                assert mode == "synchronous"
            except CheckpointError as error:
                if not isinstance(error.__cause__, _PowerCutError):
                    raise
        yield root, disk
        if not disk.cut:
            return


@needs_proc
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moves", [False, True], ids=["renames kept", "renames lost"])
def test_after_a_power_cut_at_any_call_there_is_the_old_checkpoint_or_the_new_one(
    tmp_path: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, moves: bool, size: str, mode: str
) -> None:
    """Whatever was not synced is lost, and still a whole checkpoint is left; a save that returned is never lost."""
    left: list[int] = []
    for root, disk in _cuts(bases[size], tmp_path, monkeypatch, size, mode):
        disk.lose(moves=moves)
        left.append(_what_is_left(root))
        _goes_on(root)
        shutil.rmtree(root)
    assert set(left) == {1, 2}
    assert left == sorted(left)
    assert len(left) > 20
    assert disk.names - {"ftruncate"} == {"write", "fsync", "rename", "mkdir", "unlink", "rmdir"}
    assert ("ftruncate" in disk.names) == (size == "large")


@needs_proc
@pytest.mark.parametrize("size", SIZES)
def test_without_syncing_files_a_power_cut_would_leave_a_damaged_checkpoint(
    tmp_path: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """The model of a power cut can tell: where no file is synced, written or directly written, it finds harm."""
    monkeypatch.setattr(files, "sync_file", lambda _descriptor: None)
    found = 0
    for root, disk in _cuts(bases[size], tmp_path, monkeypatch, size, "synchronous"):
        disk.lose(moves=False)
        try:
            _what_is_left(root)
        except CheckpointError:
            found += 1
    assert found
