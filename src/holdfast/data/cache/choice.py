"""Whether decoded pictures are kept, and where: chosen from sizes, with the reason a person reads.

The choice changes speed and room, never a bit.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from holdfast.data.cache.key import Prefix
from holdfast.data.decoding.image_kinds import FORMATS
from holdfast.data.files import FilePictures
from holdfast.data.sample import Indices
from holdfast.errors import ConfigError
from holdfast.words import count

CacheKind = Literal["ram", "disk", "off"]

_LOOKED_AT = 64  # pictures whose headers are read for the estimate
_SHARE_OF_MEMORY = 0.5  # of the free memory: the training itself needs the rest
_SHARE_OF_DISK = 0.25  # of the free disk
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class CacheNeed:
    """What decoded pictures would take.

    Attributes:
        num_pictures: how many are read more than once.
        num_bytes: of their pixels, estimated from the headers of some.
        file_bytes: of their files, estimated likewise.
    """

    num_pictures: int
    num_bytes: int
    file_bytes: int

    def __add__(self, other: CacheNeed) -> CacheNeed:
        return CacheNeed(
            self.num_pictures + other.num_pictures,
            self.num_bytes + other.num_bytes,
            self.file_bytes + other.file_bytes,
        )


@dataclass(frozen=True)
class CacheChoice:
    """Where decoded pictures are kept.

    Attributes:
        kind: "ram", "disk" or "off".
        limit: bytes they may take there.
        reason: why, and what it costs, for a person.
    """

    kind: CacheKind
    limit: int
    reason: str


def estimate_need(pictures: FilePictures, indices: Indices, prefix: Prefix) -> CacheNeed:
    """Returns what these pictures would take after `prefix`, from the headers and sizes of some, evenly picked."""
    picked = indices[np.linspace(0, len(indices) - 1, min(_LOOKED_AT, len(indices))).astype(np.int64)]
    pixels: list[float] = []
    files: list[int] = []
    for index in picked:
        try:
            with Image.open(pictures.path(int(index)), formats=FORMATS) as image:
                pixels.append(prefix.num_pixels(image.height, image.width))
        except (OSError, ValueError, SyntaxError):
            continue  # the check of the data names it
        files.append(pictures.num_bytes(int(index)))
    if not pixels:
        return CacheNeed(len(indices), 0, 0)
    num_bytes = len(indices) * pictures.channels * float(np.mean(pixels))
    return CacheNeed(len(indices), int(num_bytes), int(len(indices) * float(np.mean(files))))


def choose_cache(
    asked: str, need: CacheNeed, *, epochs: int, free_memory: int, free_disk: int, size: int | None, place: str
) -> CacheChoice:
    """Chooses; a pure function of its arguments.

    Args:
        asked: "auto", or what the user wants.
        free_memory, free_disk: bytes; the disk's with what the cache already takes there.
        size: bytes that the user allows; None for half of the memory, or a quarter of the disk.
        place: the folder on disk, for the reason.
    """
    in_memory = size if size is not None else int(free_memory * _SHARE_OF_MEMORY)
    on_disk = size if size is not None else int(free_disk * _SHARE_OF_DISK)
    takes = f"{count(need.num_pictures, 'picture is', 'pictures are')} about {gigabytes(need.num_bytes)} decoded"
    if asked == "off":
        return CacheChoice("off", 0, "as asked: every epoch decodes anew")
    if asked == "ram":
        return CacheChoice("ram", in_memory, f"{takes};{_share(need, in_memory)} the first epoch fills it")
    if asked == "disk":
        return CacheChoice(
            "disk", on_disk, f"{takes}, in {place};{_share(need, on_disk)} `holdfast cache --clear` frees it"
        )
    if epochs < 2 or not need.num_pictures:
        return CacheChoice("off", 0, "one epoch reads every picture once")
    if need.num_bytes <= in_memory:
        of = "allowed" if size is not None else "free"
        room = in_memory if size is not None else free_memory
        return CacheChoice("ram", in_memory, f"{takes}, of {gigabytes(room)} {of}; the first epoch fills it")
    # Worth it on any disk: reading it back is no more than reading the files, and nothing is decoded.
    if need.num_bytes <= on_disk and need.num_bytes <= need.file_bytes * 1.25:
        return CacheChoice("disk", on_disk, f"{takes}, too much for memory; in {place}, `holdfast cache --clear`")
    return CacheChoice("off", 0, f"{takes}: too much for memory ({gigabytes(in_memory)} of it may be used)")


def free_memory() -> int:
    """Returns how many bytes this process and its workers can still have: the machine's, or its control group's."""
    known = [_meminfo_available(), *_cgroup_left(Path("/sys/fs/cgroup"), _own_cgroups())]
    return max(min((number for number in known if number is not None), default=0), 0)


def free_disk(folder: Path) -> int:
    """Returns the bytes that are free where the folder is or will be; 0 when that cannot be told."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return 0
    return 0


def parse_size(text: str) -> int:
    """Reads `8GB`, `500MB`, `1.5TB` or `4GiB` and returns bytes, above 0.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([kmgt]?)(i?)b?", text.strip().lower())
    num_bytes = 0
    if found and (found[2] or not found[3]):
        num_bytes = int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2]])
    if not num_bytes > 0:
        raise ConfigError(f"cache_size is {text!r}; expected a size such as 500MB, 8GB or 1.5TB.")
    return num_bytes


def gigabytes(num_bytes: float) -> str:
    """Returns bytes for a person: `0.7 GB`, `12 MB`."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"


def _share(need: CacheNeed, room: int) -> str:
    if need.num_bytes <= room:
        return ""
    return f" {gigabytes(room)} may be used, so {1 - room / need.num_bytes:.0%} of them are decoded every epoch;"


def _meminfo_available() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123  # a file of the kernel
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:  # macOS: a quarter of the whole is a guess on the safe side
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (OSError, ValueError):
        return None


def _own_cgroups() -> list[str]:
    """Returns this process's control group and those above it (version 2), as paths below its file system."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = next((line[3:].strip("/") for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    return [own, *(str(parent) for parent in Path(own).parents)] if own else ["."]


def _cgroup_left(root: Path, groups: Sequence[str]) -> list[int | None]:
    left: list[int | None] = []
    for group in groups:
        try:
            limit = (root / group / "memory.max").read_text(encoding="ascii").strip()
            used = int((root / group / "memory.current").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            left.append(int(limit) - used)
    return left
