from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from holdfast.checkpoints import CheckpointStore, files
from holdfast.errors import CheckpointCorrupt


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
    store.close()
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
