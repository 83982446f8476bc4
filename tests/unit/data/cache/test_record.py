from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data.cache.record import (
    HEAD_BYTES,
    RECORD_BYTES,
    Layout,
    Progress,
    Record,
    is_free,
    pack_layout,
    pack_progress,
    pack_record,
    slots_for,
    unpack_layout,
    unpack_progress,
    unpack_record,
)

_RECORD = Record(bytes(range(16)), 4096, (375, 500, 3), 2**63 + 7)


def _flipped(data: bytes, bit: int) -> bytes:
    return (int.from_bytes(data, "little") ^ (1 << bit)).to_bytes(len(data), "little")


@given(
    record=st.builds(
        Record,
        st.binary(min_size=16, max_size=16),
        st.integers(0, 2**60),
        st.tuples(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 3])),
        st.integers(0, 2**64 - 1),
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    """Every key, place, shape and digest comes back, from 64 bytes."""
    slot = pack_record(record, whole=True)
    assert len(slot) == RECORD_BYTES and unpack_record(slot) == record and not is_free(slot)


@given(bit=st.integers(0, RECORD_BYTES * 8 - 1))
def test_a_flipped_bit_in_a_record_is_noticed(bit: int) -> None:
    """No single bit of a record can change unnoticed."""
    assert unpack_record(_flipped(pack_record(_RECORD, whole=True), bit)) is None


def test_an_unfinished_record_says_nothing_and_keeps_its_slot() -> None:
    """What a killed writer leaves is neither a record nor a free slot, at which a search would end."""
    slot = pack_record(_RECORD, whole=False)
    assert unpack_record(slot) is None and not is_free(slot)


def test_a_slot_of_zeros_is_free_and_no_record() -> None:
    """A new table has no records."""
    assert is_free(bytes(RECORD_BYTES)) and unpack_record(bytes(RECORD_BYTES)) is None


@given(bit=st.integers(0, 40 * 8 - 1))
def test_a_flipped_bit_in_the_fixed_head_is_noticed(bit: int) -> None:
    """A file whose head is damaged is not taken for one of ours."""
    head = pack_layout(Layout(128, 10**9, 77)).ljust(HEAD_BYTES, b"\0")
    assert unpack_layout(head) == Layout(128, 10**9, 77)
    assert unpack_layout(_flipped(head, bit)) is None


@given(bit=st.integers(0, 32 * 8 - 1))
def test_a_flipped_bit_in_the_changing_head_is_noticed(bit: int) -> None:
    """Where the next picture goes is never guessed."""
    data = pack_progress(Progress(12345, 6, 28))
    assert unpack_progress(data) == Progress(12345, 6, 28)
    assert unpack_progress(_flipped(data, bit)) is None


@pytest.mark.parametrize("data", [b"", b"PNG", bytes(HEAD_BYTES), bytes(HEAD_BYTES - 1)])
def test_other_files_are_not_ours(data: bytes) -> None:
    """Empty, short and foreign files have no layout; short changes have no progress."""
    assert unpack_layout(data) is None
    assert unpack_progress(data[:8]) is None


@given(num_pictures=st.integers(0, 10**7))
def test_a_table_stays_half_free(num_pictures: int) -> None:
    """Slots are a power of two, at least two for each picture."""
    slots = slots_for(num_pictures)
    assert slots & (slots - 1) == 0 and slots >= 2 * num_pictures
