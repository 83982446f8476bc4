"""Whatever happens to a cache, every picture that is read through it is the one that decoding gives."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data.cache.folder import list_cache

_spec = importlib.util.spec_from_file_location("fill_a_cache", Path(__file__).with_name("fill_a_cache.py"))
assert _spec is not None and _spec.loader is not None
fill_a_cache = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill_a_cache)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two classes, some 20 kB each when they are decoded."""
    root = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    for number in range(40):
        place = root / f"class{number % 2}"
        place.mkdir(exist_ok=True)
        pixels = chance.integers(0, 256, (60 + number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return root


def _every_read_is_a_fresh_decode(root: Path, folder: Path, max_bytes: int | None = None) -> int:
    """Reads all pictures twice; returns how many the cache then holds."""
    everybody = fill_a_cache.collections(root, folder, max_bytes)
    for cached in everybody * 2:
        for index in range(len(cached)):
            assert torch.equal(cached.read(index), cached.prefix(cached.pictures.read(index)))
    return sum(cached.store.find(cached.key(i)) is not None for cached in everybody for i in range(len(cached)))


def test_two_processes_that_fill_one_cache_are_killed(root: Path, tmp_path: Path, long_form: bool) -> None:
    """SIGKILL at random moments leaves nothing that is read as good and is not, and the cache fills up afterwards."""
    chance = random.Random(3)
    script = str(Path(__file__).with_name("fill_a_cache.py"))
    for turn in range(12 if long_form else 2):
        processes = [
            subprocess.Popen(
                [sys.executable, script, str(root), str(tmp_path), str(turn * 2 + who)], stdout=subprocess.PIPE
            )
            for who in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
        for process in processes:
            time.sleep(chance.uniform(0, 0.03))
            assert process.poll() is None, "it found a picture that is not its fresh decode"
            process.kill()
            process.communicate()
    assert _every_read_is_a_fresh_decode(root, tmp_path) == 80
    assert all(file.num_pictures for file in list_cache(tmp_path))


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_anywhere_are_noticed(root: Path, tmp_path: Path, seed: int) -> None:
    """In the head, in the table and in pixels; the pictures are decoded anew."""
    assert _every_read_is_a_fresh_decode(root, tmp_path) == 80
    chance = random.Random(seed)
    (file,) = list_cache(tmp_path)
    data = bytearray(file.path.read_bytes())
    for area in ((0, 4096), (4096, 20_000), (20_000, len(data))):
        for _ in range(30):
            data[chance.randrange(*area)] ^= 1 << chance.randrange(8)
    file.path.write_bytes(data)
    assert _every_read_is_a_fresh_decode(root, tmp_path) >= 40


@pytest.mark.parametrize("seed", range(4))
def test_a_file_cut_short_is_no_signal(root: Path, tmp_path: Path, seed: int) -> None:
    """What is beyond the end is decoded anew."""
    _every_read_is_a_fresh_decode(root, tmp_path)
    (file,) = list_cache(tmp_path)
    whole = file.path.stat().st_size
    with file.path.open("r+b") as opened:
        opened.truncate(random.Random(seed).randrange(whole))
    _every_read_is_a_fresh_decode(root, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own; skips where this user may mount none."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_the_growing(root: Path, small_disk: Path) -> None:
    """Another program takes the room that the cache counted on: no signal, no error, the same pictures."""
    (small_disk / "mine").write_bytes(bytes(500_000))
    everybody = fill_a_cache.collections(root, small_disk, 10**6)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(1 << 12)):
            pass
    for cached in everybody * 2:
        for index in range(len(cached)):
            assert torch.equal(cached.read(index), cached.prefix(cached.pictures.read(index)))
    assert everybody[0].store.filling().stopped == "No space left on device"
    del everybody, cached
    (small_disk / "filler").unlink()
    assert _every_read_is_a_fresh_decode(root, small_disk, 10**6) > 0


def test_a_disk_that_is_full_from_the_beginning_has_no_cache(root: Path, small_disk: Path) -> None:
    """There is no room for a table, so nothing is kept, and it is said."""
    (small_disk / "mine").write_bytes(bytes(1_040_000))
    everybody = fill_a_cache.collections(root, small_disk, 10**6)
    assert torch.equal(everybody[0].read(0), everybody[0].pictures.read(0))
    assert "no room left" in everybody[0].store.filling().stopped
