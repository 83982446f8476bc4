from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.data import ImageFolder
from holdfast.data.cache import choice as module
from holdfast.data.cache.choice import (
    CacheNeed,
    choose_cache,
    estimate_need,
    free_disk,
    free_memory,
    gigabytes,
    parse_size,
)
from holdfast.data.cache.key import Prefix
from holdfast.errors import ConfigError

GB = 10**9


def _choose(asked: str = "auto", num_bytes: int = 2 * GB, file_bytes: int = 2 * GB, **changed: int | None) -> object:
    values = {"epochs": 10, "free_memory": 10 * GB, "free_disk": 100 * GB, "size": None, **changed}
    choice = choose_cache(asked, CacheNeed(1000, num_bytes, file_bytes), place="/c", **values)  # type: ignore[arg-type]
    return choice.kind, choice.limit


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ("ram", 5 * GB)),
        ({"num_bytes": 6 * GB, "file_bytes": 6 * GB}, ("disk", 25 * GB)),
        ({"num_bytes": 6 * GB, "file_bytes": 1 * GB}, ("off", 0)),
        ({"num_bytes": 26 * GB, "file_bytes": 26 * GB}, ("off", 0)),
        ({"epochs": 1}, ("off", 0)),
        ({"size": 3 * GB}, ("ram", 3 * GB)),
        ({"size": 1 * GB}, ("off", 0)),
        ({"free_memory": 0}, ("disk", 25 * GB)),
        ({"free_memory": 0, "free_disk": 0}, ("off", 0)),
    ],
)
def test_auto_takes_memory_when_it_fits_well_then_disk_when_it_pays(
    changed: dict[str, int], expected: tuple[str, int]
) -> None:
    """Half of the memory, or a quarter of the disk where reading back is no more than reading the files; else none."""
    assert _choose(**changed) == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [("ram", ("ram", 5 * GB)), ("disk", ("disk", 25 * GB)), ("off", ("off", 0))]
)
def test_what_is_asked_for_is_done_whatever_the_sizes(asked: str, expected: tuple[str, int]) -> None:
    """Only the limit comes from the machine."""
    assert _choose(asked, num_bytes=500 * GB, file_bytes=GB) == expected
    assert _choose(asked, epochs=1) == expected


@pytest.mark.parametrize("asked", ["auto", "ram", "disk"])
def test_the_reason_names_what_it_takes(asked: str) -> None:
    """How many pictures, how large decoded, and when they do not all fit, how many are decoded every epoch."""
    need = CacheNeed(1000, 8 * GB, 8 * GB)
    choice = choose_cache(asked, need, epochs=9, free_memory=4 * GB, free_disk=8 * GB, size=None, place="/c")
    assert "1,000 pictures are about 8.0 GB decoded" in choice.reason
    if asked != "auto":
        assert "2.0 GB may be used, so 75% of them are decoded every epoch" in choice.reason


def test_the_estimate_is_of_the_pictures_after_the_prefix(picture_folder: Path) -> None:
    """Headers tell sizes; channels, scaling and the number of pictures are taken in."""
    pictures = ImageFolder(picture_folder)
    everything = np.arange(24)
    assert estimate_need(pictures, everything, Prefix()).num_bytes == 24 * 24 * 32 * 3
    assert estimate_need(pictures, everything[:6], Prefix(12)).num_bytes == 6 * 12 * 16 * 3
    assert estimate_need(pictures, everything, Prefix(12)).num_pictures == 24
    files = sum(path.stat().st_size for path in picture_folder.rglob("*.jpg"))
    assert estimate_need(pictures, everything, Prefix()).file_bytes == pytest.approx(files, abs=24)
    pictures.channels = 1
    assert estimate_need(pictures, everything, Prefix()).num_bytes == 24 * 24 * 32


def test_pictures_that_cannot_be_read_are_left_out_of_the_estimate(picture_folder: Path) -> None:
    """Some of them change nothing; all of them give nothing."""
    pictures = ImageFolder(picture_folder)
    for index in range(24):
        pictures.path(index).write_bytes(b"no picture" if index % 2 else b"")
        need = estimate_need(pictures, np.arange(24), Prefix())
        assert need.num_bytes == (24 * 24 * 32 * 3 if index < 23 else 0)


def test_needs_add_up() -> None:
    """Sets are estimated apart."""
    assert CacheNeed(1, 2, 3) + CacheNeed(10, 20, 30) == CacheNeed(11, 22, 33)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GB", 8 * GB), ("500mb", 5 * 10**8), ("1.5 TB", 15 * 10**11), ("4GiB", 4 << 30), ("2k", 2000), ("77", 77)],
)
def test_a_size_is_read_as_people_write_it(text: str, num_bytes: int) -> None:
    """Decimal and binary units, in any case."""
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize("text", ["", "GB", "0GB", "-1GB", "8 XB", "8iB", "nan", "1e9"])
def test_a_size_that_says_nothing_fails(text: str) -> None:
    """The message gives examples."""
    with pytest.raises(ConfigError, match=r"cache_size is '.*'; expected a size such as 500MB, 8GB"):
        parse_size(text)


def test_a_control_groups_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with less memory than its machine has that much, less what it uses; `max` is no limit."""
    for group, limit in (("a", "1000"), ("a/b", "max")):
        (tmp_path / group).mkdir()
        (tmp_path / group / "memory.max").write_text(f"{limit}\n")
        (tmp_path / group / "memory.current").write_text("300\n")
    assert module._cgroup_left(tmp_path, ["a/b", "a", "none"]) == [700]
    monkeypatch.setattr(module, "_cgroup_left", lambda *_: [700])
    assert free_memory() == 700
    monkeypatch.setattr(module, "_cgroup_left", lambda *_: [-5])
    assert free_memory() == 0


def test_free_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    """A folder that is not made yet lies on the disk of the one above."""
    assert free_disk(tmp_path / "a" / "b") == pytest.approx(free_disk(tmp_path), rel=0.2) and free_disk(tmp_path) > 0


def test_sizes_are_said_for_people() -> None:
    """Small ones in megabytes."""
    assert gigabytes(2.34e9) == "2.3 GB" and gigabytes(5e6) == "5.0 MB"
