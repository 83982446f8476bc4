from __future__ import annotations

import pytest
import xxhash

from holdfast.checkpoints.digest import Digest, digest_of


def test_digest_of_nothing_is_the_published_value() -> None:
    """The digest of no bytes is the one that the xxHash project publishes for XXH3-128."""
    assert digest_of(b"") == "xxh3-128:99aa06d3014798d86001c324468d497f"


def test_digest_is_the_name_and_32_hex_digits_of_xxh3() -> None:
    """The text is `xxh3-128:` and what the xxhash library answers."""
    assert digest_of(b"holdfast") == f"xxh3-128:{xxhash.xxh3_128(b'holdfast').hexdigest()}"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_has_the_same_digest(kind: type) -> None:
    """Bytes, bytearrays and memory views of the same contents have one digest."""
    assert digest_of(kind(b"pixels")) == digest_of(b"pixels")


@pytest.mark.parametrize("cut", [0, 1, 7, 999, 1000])
def test_a_running_digest_does_not_depend_on_where_the_bytes_were_cut(cut: int) -> None:
    """Bytes taken in by two updates have the digest of the whole."""
    data = bytes(range(250)) * 4
    digest = Digest()
    digest.update(data[:cut])
    digest.update(data[cut:])
    assert digest.text() == digest_of(data)


def test_a_digest_can_be_read_before_the_end() -> None:
    """`text` answers for the bytes so far and leaves the digest running."""
    digest = Digest()
    digest.update(b"a")
    assert digest.text() == digest_of(b"a")
    digest.update(b"b")
    assert digest.text() == digest_of(b"ab")


def test_every_single_flipped_bit_changes_the_digest() -> None:
    """No two of a text and its one-bit variants have the same digest."""
    data = b"a short text"
    variants = {bytes(data)}
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        variants.add(bytes(flipped))
    assert len({digest_of(variant) for variant in variants}) == len(data) * 8 + 1
