"""Gigabytes a second that one core hashes: which digest keeps up with the disk."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable

import numpy as np
import xxhash

from benchmarks.options import Options
from benchmarks.spread import summary

PIECE_BYTES = 1 << 20  # as a save hashes: piece by piece


def main(options: Options) -> None:
    """Hashes the same bytes with each by turns."""
    data = memoryview(np.random.default_rng(0).bytes(options.size(256) * 1_000_000))
    digests: dict[str, Callable[[], object]] = {
        "xxh3-128": lambda: _update(xxhash.xxh3_128(), data),
        "xxh3-64": lambda: _update(xxhash.xxh3_64(), data),
        "crc32 (zlib)": lambda: _crc32(data),
        "sha256": lambda: _update(hashlib.sha256(), data),
        "blake2b": lambda: _update(hashlib.blake2b(), data),
    }
    try:
        import blake3
    except ImportError:
        print("blake3 is left out: not installed")
    else:
        digests["blake3"] = lambda: _update(blake3.blake3(max_threads=1), data)
    rates: dict[str, list[float]] = {name: [] for name in digests}
    for round_number in range(options.turns(9) + 1):
        for name, run in digests.items():
            start = time.thread_time()
            run()
            if round_number:
                rates[name].append(len(data) / 1e9 / max(time.thread_time() - start, 1e-9))
    for name, values in rates.items():
        print(f"{name:14} {summary(values, 'GB/s', digits=2):>34}")


def _update(digest: object, data: memoryview) -> None:
    for start in range(0, len(data), PIECE_BYTES):
        digest.update(data[start : start + PIECE_BYTES])  # type: ignore[attr-defined]
    digest.hexdigest()  # type: ignore[attr-defined]


def _crc32(data: memoryview) -> None:
    value = 0
    for start in range(0, len(data), PIECE_BYTES):
        value = zlib.crc32(data[start : start + PIECE_BYTES], value)
