"""How much a foreign file may ask of the machine that only looks at it.

Every number is far above what real checkpoints need and low enough that a small hostile file cannot hold a process up
for long or fill its memory. A file that is honest and larger can be opened with limits of one's own.
"""

from __future__ import annotations

from typing import NamedTuple

_MIB = 1 << 20


class Limits(NamedTuple):
    """What reading one file may cost.

    Attributes:
        opcodes: steps of the pickle machine; a checkpoint of 10,000 tensors takes about half a million.
        memory: bytes of strings and containers that a pickle may ask for, tensors not counted.
        memo: values that a pickle may keep for a second use.
        depth: levels of containers within containers.
        integer_bytes: size of one integer.
        hard_keys: dictionary keys whose hash anybody can choose (numbers within tuples, integers beyond 60 bits):
            with many of the same hash, a dictionary becomes quadratic.
        pickle_bytes: size of the pickled part of an archive.
        entries: files in an archive.
        inflated_bytes: what may come out of compressed data whatever its size was ...
        inflated_ratio: ... and how many times the compressed size may come out beyond that.
    """

    opcodes: int = 8_000_000
    memory: int = 512 * _MIB
    memo: int = 4_000_000
    depth: int = 400
    integer_bytes: int = 1024
    hard_keys: int = 8_000
    pickle_bytes: int = 256 * _MIB
    entries: int = 1_000_000
    inflated_bytes: int = 64 * _MIB
    inflated_ratio: int = 200

    def may_inflate_to(self, compressed_bytes: int) -> int:
        """Returns how many bytes may come out of `compressed_bytes` of compressed data."""
        return max(self.inflated_bytes, self.inflated_ratio * compressed_bytes)


LIMITS = Limits()
