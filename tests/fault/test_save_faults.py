from __future__ import annotations

import errno
import importlib.util
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore, Retention, files
from holdfast.errors import CheckpointCorrupt, CheckpointError

SCRIPT = Path(__file__).with_name("save_and_be_killed.py")
OURS = ("write_durably", "make_directory", "make_parents", "rename", "sync_file", "sync_directory", "remove_tree")
SYSTEM = ("mkdir", "write", "fsync", "rename", "unlink", "rmdir", "open")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parts_of: Callable[[int], dict[str, Any]] = _load(SCRIPT).parts_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one checkpoint, of step 1, that has been measured."""
    root = tmp_path_factory.mktemp("base")
    store = CheckpointStore(root)
    store.save(1, parts_of(1))
    store.annotate(1, {"accuracy": 0.5})
    return root


def _step_of(tree: dict[str, Any]) -> int:
    """Returns the step that every single value in `tree` tells; fails when they tell different ones."""
    step = int(tree["counters"]["step"])
    expected = parts_of(step)
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
    CheckpointStore(root, Retention(last=1)).save(3, parts_of(3))
    assert _what_is_left(root) == 3
    assert [entry.name for entry in root.iterdir()] == ["step-00000003"]


class _Fault:
    """Makes a call fail: the `number`-th, or that one and all after it. Every other write is torn: half is written."""

    def __init__(self, number: int, error: int, *, for_good: bool) -> None:
        self.number, self.error, self.for_good = number, error, for_good
        self.calls: list[str] = []

    @property
    def struck(self) -> bool:
        """Whether a call was made to fail."""
        return len(self.calls) >= self.number

    def install(self, patch: pytest.MonkeyPatch, layer: str) -> None:
        """Puts the fault between the store and the files: at our own functions, or at the system's."""
        module, names = (os, SYSTEM) if layer == "system" else (files, OURS)
        for name in names:
            patch.setattr(module, name, self._wrap(name, getattr(module, name)))
        patch.setattr("holdfast.checkpoints.tensors.write_durably", files.write_durably)

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            count = len(self.calls)
            if count == self.number or (self.for_good and count > self.number):
                if name == "write" and self.number % 2:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **options)

        return call


def _save(root: Path, error: int) -> bool:
    """Saves step 2; returns whether it worked, after asserting that a failure was told in words."""
    said: list[str] = []
    failure = ""
    try:
        CheckpointStore(root, Retention(last=1), said.append).save(2, parts_of(2))
    except CheckpointError as caught:
        failure = str(caught)
    assert not failure or failure.startswith(f"Saving {root / 'step-00000002'}: {os.strerror(error)}. ")
    assert all(line.startswith("Deleting the old checkpoint of step 1: ") for line in said)
    return not failure


every_failure = pytest.mark.parametrize(
    ("layer", "error", "for_good"),
    list(itertools.product(["ours", "system"], [errno.ENOSPC, errno.EIO], [False, True])),
    ids=lambda value: errno.errorcode.get(value, str(value)) if type(value) is int else str(value),
)


@pytest.mark.row("S10")
@every_failure
def test_after_a_failure_at_any_call_there_is_the_old_checkpoint_or_the_new_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: int, for_good: bool
) -> None:
    """Whichever call fails, whole checkpoints are left, the failure is told in words, and the next save works."""
    results: list[tuple[bool, int]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number)
        shutil.copytree(base, root)
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            saved = _save(root, error)
        results.append((saved, _what_is_left(root)))
        # A failed save gives its space back at once, where the disk lets it.
        assert saved or for_good or not list(root.glob(f"{files.HIDDEN_PREFIX}*"))
        _goes_on(root)
        if not fault.struck:
            break
    assert set(results) == {(False, 1), (False, 2), (True, 2)}
    assert results[-1] == (True, 2)
    assert set(fault.calls) == (set(SYSTEM) if layer == "system" else set(OURS))


@every_failure
def test_after_a_failure_at_any_call_of_the_first_save_there_is_nothing_or_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: int, for_good: bool
) -> None:
    """A first save that fails leaves an empty start, never half a checkpoint, and can be made again."""
    results: list[tuple[bool, int]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number) / "checkpoints"
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            saved = _save(root, error)
        results.append((saved, _what_is_left(root)))
        if 2 not in CheckpointStore(root).steps():
            CheckpointStore(root).save(2, parts_of(2))
        assert _what_is_left(root) == 2
        if not fault.struck:
            break
    assert set(results) == {(False, 0), (False, 2), (True, 2)}
    assert results[-1] == (True, 2)


@every_failure
def test_after_a_failure_at_any_call_of_a_measurement_there_is_the_old_one_or_the_new_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, layer: str, error: int, for_good: bool
) -> None:
    """A measurement that cannot be written leaves the earlier one, and the checkpoint is whole all along."""
    results: list[tuple[bool, float]] = []
    for number in itertools.count(1):
        root = tmp_path / str(number)
        shutil.copytree(base, root)
        store = CheckpointStore(root)
        fault = _Fault(number, error, for_good=for_good)
        with monkeypatch.context() as patch:
            fault.install(patch, layer)
            failure = ""
            try:
                store.annotate(1, {"accuracy": 0.75})
            except CheckpointError as caught:
                failure = str(caught)
        assert not failure or f"evaluation.json: {os.strerror(error)}." in failure
        assert _what_is_left(root) == 1
        results.append((not failure, store.open(1).metrics["accuracy"]))
        store.annotate(1, {"accuracy": 1.0})
        assert store.open(1).metrics == {"accuracy": 1.0}
        if not fault.struck:
            break
    assert set(results) == {(False, 0.5), (False, 0.75), (True, 0.75)}


def test_a_disk_that_takes_only_so_many_bytes_leaves_the_old_checkpoint(tmp_path: Path, base: Path) -> None:
    """With the system itself refusing to let a file grow, the save fails in words and the old one stands."""
    sizes = [path.stat().st_size for path in (base / "step-00000001").iterdir()]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [0, 1, 7, 8, 50, *range(100, max(sizes), 150)]:
        root = tmp_path / str(limit)
        shutil.copytree(base, root)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            saved = _save(root, errno.EFBIG)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not saved
        assert _what_is_left(root) == 1
        _goes_on(root)


@pytest.mark.row("S10")
def test_after_a_kill_at_any_call_there_is_the_old_checkpoint_or_the_new_one(tmp_path: Path, base: Path) -> None:
    """SIGKILL before, within or after any system call of a save leaves whole checkpoints, and the next save works."""
    ended = subprocess.run(
        [sys.executable, SCRIPT, base, tmp_path], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    children = [json.loads(line) for line in ended.stdout.splitlines()]
    left: dict[str, set[int]] = {"before": set(), "half way": set(), "after": set()}
    for child in children:
        root = Path(child["folder"])
        step = _what_is_left(root)
        assert step == 2 or child["killed"]
        left[child["moment"]].add(step)
        _goes_on(root)
    assert left == {"before": {1, 2}, "half way": {1, 2}, "after": {1, 2}}
    assert {child["call"] for child in children} == {*SYSTEM, None}
    assert sum(child["killed"] for child in children) > 60


class _PowerCutError(BaseException):
    """The machine is off: no handler of the program runs any more."""


class _Disk:
    """What a power cut would take away: remembers what has been written, listed and moved and not yet synced."""

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0
        self.unsynced: set[Path] = set()
        self.unlisted: set[Path] = set()
        self.moved: list[tuple[Path, Path]] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Watches the calls a save makes, and cuts the power at the `number`-th."""
        for name, after in (("write", self._wrote), ("fsync", self._synced), ("rename", self._renamed)):
            patch.setattr(os, name, self._wrap(getattr(os, name), after))
        for name in ("mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, self._wrap(getattr(os, name), lambda *_arguments: None))

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

    def _wrap(self, real: Callable[..., Any], after: Callable[..., None]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count >= self.number:
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


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to know a descriptor's file")
@pytest.mark.parametrize("moves", [False, True], ids=["renames kept", "renames lost"])
def test_after_a_power_cut_at_any_call_there_is_the_old_checkpoint_or_the_new_one(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """Whatever was not synced is lost, and still a whole checkpoint is left; a save that returned is never lost."""
    left: list[int] = []
    for number in itertools.count(1):
        root = tmp_path / str(number)
        shutil.copytree(base, root)
        disk = _Disk(number)
        with monkeypatch.context() as patch:
            disk.install(patch)
            try:
                CheckpointStore(root, Retention(last=1)).save(2, parts_of(2))
                cut = False
            except _PowerCutError:
                cut = True
        disk.lose(moves=moves)
        left.append(_what_is_left(root))
        _goes_on(root)
        if not cut:
            break
    assert set(left) == {1, 2}
    assert left == sorted(left)
    assert len(left) > 20


# --- damage ---------------------------------------------------------------------------------------------------------


def _live(seed: int) -> dict[str, Any]:
    """Returns a net, its optimizer and counters; the seed is in all of them."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01 * (seed + 1))
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(5, 4)).sum().backward()
        optimizer.step()
    return {"model": net, "optimizer": optimizer, "counters": {"seed": seed}}


def _snapshot(parts: dict[str, Any]) -> str:
    torch.set_printoptions(precision=10)
    try:
        return repr((parts["model"].state_dict(), parts["optimizer"].state_dict(), parts["counters"]))
    finally:
        torch.set_printoptions(profile="default")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with checkpoints of steps 10 and 20 of live objects, both measured."""
    root = tmp_path_factory.mktemp("two")
    store = CheckpointStore(root)
    for step in (10, 20):
        store.save(step, _live(step), {"loss": 1 / step}, {"classes": ["ants", "bees"]})
        store.annotate(step, {"accuracy": step / 100})
    return root


NEWEST = ("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json", "evaluation.json")
Damage = Callable[[Path], None]


def _falls_back(root: Path, two: Path, name: str, damage: Damage, before: str) -> None:
    """Asserts that the damage is found, named, set aside as it is, and that the checkpoint before it is restored."""
    shutil.copytree(two, root)
    damage(root / "step-00000020" / name)
    wreck = {path.name: path.read_bytes() for path in (root / "step-00000020").iterdir()}
    said: list[str] = []
    parts = _live(0)
    assert CheckpointStore(root, say=said.append).restore_latest(parts) == 10
    assert _snapshot(parts) == before
    (line,) = said
    assert line.startswith("Passed over step-00000020: ") and name in line
    assert line.endswith(
        "Kept as damaged-step-00000020 for a look; going on from step 10, and the 10 steps between are run again."
    )
    assert {path.name: path.read_bytes() for path in (root / "damaged-step-00000020").iterdir()} == wreck
    assert sorted(entry.name for entry in root.iterdir()) == ["damaged-step-00000020", "step-00000010"]


def test_every_flipped_bit_is_found_and_the_checkpoint_before_is_restored(
    tmp_path: Path, two: Path, long_form: bool
) -> None:
    """One random bit of one random file of the newest checkpoint, a hundred times: found each time, and named."""
    generator = random.Random(2024)
    before = _snapshot(_live(10))
    hit: set[str] = set()
    for trial in range(3000 if long_form else 100):

        def flip(path: Path) -> None:
            data = bytearray(path.read_bytes())
            position = generator.randrange(len(data) * 8)
            data[position // 8] ^= 1 << position % 8
            path.write_bytes(data)

        name = generator.choice(NEWEST)
        hit.add(name)
        _falls_back(tmp_path / str(trial), two, name, flip, before)
        shutil.rmtree(tmp_path / str(trial))
    assert hit == set(NEWEST)


def _cut(length: Callable[[int], int]) -> Damage:
    return lambda path: os.truncate(path, length(path.stat().st_size))


def _zero_the_end(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


DAMAGES: dict[str, Damage] = {
    "emptied": _cut(lambda _size: 0),
    "one byte": _cut(lambda _size: 1),
    "eight bytes": _cut(lambda _size: 8),
    "half": _cut(lambda size: size // 2),
    "last byte gone": _cut(lambda size: size - 1),
    "last eight bytes gone": _cut(lambda size: size - 8),
    "a byte too long": _cut(lambda size: size + 1),
    "half of it zeros": _zero_the_end,
}


@pytest.mark.parametrize("name", NEWEST)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_cut_is_found_and_the_checkpoint_before_is_restored(
    tmp_path: Path, two: Path, name: str, damage: str
) -> None:
    """A file that was cut, lengthened or half written is found, whichever it is."""
    _falls_back(tmp_path / "store", two, name, DAMAGES[damage], _snapshot(_live(10)))


@pytest.mark.parametrize("name", [name for name in NEWEST if name != "evaluation.json"])
def test_a_missing_file_is_found_and_the_checkpoint_before_is_restored(tmp_path: Path, two: Path, name: str) -> None:
    """A file that is gone is named."""
    _falls_back(tmp_path / "store", two, name, Path.unlink, _snapshot(_live(10)))


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(NEWEST[:4], 2)))
def test_a_file_in_anothers_place_is_found(tmp_path: Path, two: Path, name: str, other: str) -> None:
    """A file overwritten by another one of the same checkpoint is found."""

    def overwrite(path: Path) -> None:
        shutil.copyfile(path.with_name(other), path)

    _falls_back(tmp_path / "store", two, name, overwrite, _snapshot(_live(10)))


@pytest.mark.parametrize("name", NEWEST[1:4])
def test_a_file_of_the_checkpoint_before_is_found(tmp_path: Path, two: Path, name: str) -> None:
    """A sound file of another step is no part of this one."""

    def overwrite(path: Path) -> None:
        shutil.copyfile(path.parents[1] / "step-00000010" / path.name, path)

    _falls_back(tmp_path / "store", two, name, overwrite, _snapshot(_live(10)))


def test_restoring_fails_when_all_are_damaged_and_changes_nothing(tmp_path: Path, two: Path) -> None:
    """When none is valid we stop and say so; model, optimizer and counters are as they were, and all files too."""
    root = tmp_path / "store"
    shutil.copytree(two, root)
    os.truncate(root / "step-00000010" / "optimizer.safetensors", 100)
    os.truncate(root / "step-00000020" / "manifest.json", 100)
    parts = _live(0)
    before = _snapshot(parts)
    with pytest.raises(CheckpointCorrupt, match=r"No checkpoint in .* is valid \(2 found\)") as caught:
        CheckpointStore(root).restore_latest(parts)
    assert "optimizer.safetensors is 100 bytes" in str(caught.value)
    assert "step-00000020/manifest.json" in str(caught.value)
    assert _snapshot(parts) == before
    assert sorted(entry.name for entry in root.iterdir()) == ["step-00000010", "step-00000020"]


def test_restoring_from_nothing_is_step_nought_and_changes_nothing(tmp_path: Path) -> None:
    """No folder, an empty folder and leftovers only are all a fresh start."""
    parts = _live(0)
    before = _snapshot(parts)
    (tmp_path / "empty").mkdir()
    (tmp_path / "leftovers" / f"{files.HIDDEN_PREFIX}step-00000009.1").mkdir(parents=True)
    for name in ("gone", "empty", "leftovers"):
        assert CheckpointStore(tmp_path / name).restore_latest(parts) == 0
    assert _snapshot(parts) == before
