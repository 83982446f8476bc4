from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest

from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.evaluation import (
    EVALUATION_FILE,
    EvaluationRecord,
    finite,
    parse_evaluation,
    read_evaluation,
)
from holdfast.errors import CheckpointCorrupt

RECORD = EvaluationRecord({"loss": 0.1, "accuracy": 0.8125}, 3, 1_700_000_000.25)


def _of_the_first_release(metrics: dict[str, float]) -> bytes:
    """Returns what 0.1.0 wrote for these metrics."""
    digest = digest_of(json.dumps(metrics, sort_keys=True).encode())
    return (json.dumps({"digest": digest, "metrics": metrics}, sort_keys=True) + "\n").encode()


@pytest.mark.parametrize(
    "record",
    [RECORD, EvaluationRecord(), EvaluationRecord({"ä": -0.0}), EvaluationRecord({}, 0, 0.0)],
    ids=["all", "nothing", "metrics only", "noughts"],
)
def test_a_record_reads_back_as_it_was(record: EvaluationRecord) -> None:
    """Metrics, epoch and time come back; what was not known is None, and 0 is not taken for it."""
    assert parse_evaluation(record.to_bytes()) == record


def test_the_file_is_one_line_of_json_with_its_own_digest() -> None:
    """Keys are sorted, and the digest is that of the rest, as docs/format.md says."""
    rest = '{"epoch": 3, "metrics": {"accuracy": 0.8125, "loss": 0.1}, "saved_at": 1700000000.25}'
    digest = digest_of(rest.encode())
    assert RECORD.to_bytes().decode() == f'{{"digest": "{digest}", {rest[1:]}\n'


def test_what_is_not_known_is_not_written() -> None:
    """A record without epoch and time has no words for them."""
    assert set(json.loads(EvaluationRecord({"loss": 1.0}).to_bytes())) == {"digest", "metrics"}


def test_a_record_of_the_first_release_is_read() -> None:
    """0.1.0 wrote metrics alone; epoch and time are not known then."""
    data = _of_the_first_release({"accuracy": 0.5, "loss": 2.0})
    assert parse_evaluation(data) == EvaluationRecord({"accuracy": 0.5, "loss": 2.0}, None, None)


def test_a_record_of_the_first_release_with_something_added_is_damaged() -> None:
    """The old digest covers metrics alone, so nothing else may stand beside them."""
    table = json.loads(_of_the_first_release({"accuracy": 0.5}))
    data = (json.dumps({**table, "saved_at": 1.0}, sort_keys=True) + "\n").encode()
    with pytest.raises(CheckpointCorrupt, match=r"evaluation\.json is damaged \(its bytes do not match its digest\)"):
        parse_evaluation(data)


def test_no_file_is_an_empty_record(tmp_path: Path) -> None:
    """Where nothing was written, nothing is known."""
    assert read_evaluation(tmp_path / EVALUATION_FILE) == EvaluationRecord({}, None, None)
    (tmp_path / EVALUATION_FILE).write_bytes(RECORD.to_bytes())
    assert read_evaluation(tmp_path / EVALUATION_FILE) == RECORD


def test_reading_fails_with_the_reason_when_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is not one that is not there."""

    def refuse(_path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(CheckpointCorrupt, match=r"evaluation\.json cannot be read \(Input/output error\)"):
        read_evaluation(tmp_path / EVALUATION_FILE)


@pytest.mark.parametrize("data", [RECORD.to_bytes(), _of_the_first_release({"loss": 0.1})], ids=["now", "0.1.0"])
def test_every_flipped_bit_and_every_cut_is_found(data: bytes) -> None:
    """Whatever happens to its bytes, a damaged record is not believed."""
    variants = [data[:length] for length in range(len(data))] + [data + b" "]
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        variants.append(bytes(flipped))
    for variant in variants:
        with pytest.raises(CheckpointCorrupt, match=r"evaluation\.json is damaged"):
            parse_evaluation(variant)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"3", b"{}", b'{"digest": "x"}', b'"text"', b"\xff\xfe"])
def test_what_is_no_record_is_damaged(data: bytes) -> None:
    """JSON of another kind, and no JSON at all, is damage and no crash."""
    with pytest.raises(CheckpointCorrupt, match=r"evaluation\.json is damaged"):
        parse_evaluation(data)


def test_only_finite_numbers_are_metrics() -> None:
    """Infinite ones and those that are no number are left out; the rest are floats."""
    found = finite({"a": 1, "b": math.nan, "c": math.inf, "d": -math.inf, "e": 0.5, "f": True})
    assert found == {"a": 1.0, "e": 0.5, "f": 1.0}
    assert all(type(value) is float for value in found.values())
