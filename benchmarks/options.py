"""What the command line may choose: how much, how often, on which disk."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's numbers, malloc.h


@dataclass(frozen=True)
class Options:
    """Choices for all benchmarks.

    Attributes:
        short: the shortest form, to see that a benchmark runs; its figures mean nothing.
        directory: on the disk to measure; every benchmark works in a folder of its own there and deletes it.
        megabytes: size of the state (10^6 bytes); None leaves it to the benchmark.
        rounds: how often everybody takes a turn; None leaves it to the benchmark.
        only: names of contenders (parts of them will do); none means all.
    """

    short: bool = False
    directory: Path = Path()
    megabytes: int | None = None
    rounds: int | None = None
    only: tuple[str, ...] = ()

    def size(self, usual: int) -> int:
        """Returns megabytes of state: as asked, or 1 in the short form, or what is usual."""
        return self.megabytes or (1 if self.short else usual)

    def turns(self, usual: int) -> int:
        """Returns the number of rounds: as asked, or 2 in the short form, or what is usual."""
        return self.rounds or (2 if self.short else usual)

    def wants(self, name: str) -> bool:
        """Returns whether a contender takes part."""
        return not self.only or any(part in name for part in self.only)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Makes a folder on the disk that is measured, and deletes it with all that is in it."""
        path = Path(tempfile.mkdtemp(prefix="benchmark-", dir=self.directory.resolve()))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--short", action="store_true", help="see that it runs; the figures mean nothing")
    parser.add_argument("--dir", type=Path, default=Path(), help="a folder on the disk to measure; default here")
    parser.add_argument("--size", type=int, metavar="MB", help="size of the state in 10^6 bytes")
    parser.add_argument("--rounds", type=int, help="how often everybody takes a turn")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these contenders alone")


def options_of(arguments: argparse.Namespace) -> Options:
    """Returns what was chosen."""
    return Options(arguments.short, arguments.dir, arguments.size, arguments.rounds, tuple(arguments.only))


def parse(argv: Sequence[str], *positional: str) -> tuple[Options, list[str]]:
    """Returns the options, and the values of the positional arguments."""
    parser = argparse.ArgumentParser()
    for name in positional:
        parser.add_argument(name)
    add_options(parser)
    arguments = parser.parse_args(argv)
    return options_of(arguments), [getattr(arguments, name) for name in positional]


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed, and to use it again.

    The first touch of fresh memory can cost a virtual machine seconds a gigabyte. Savers that allocate a copy at
    every save would be measured by that alone; after a warm-up round this takes it away from everybody.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_M_TOP_PAD, 64 << 20)
