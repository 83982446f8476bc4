from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats import LazyTensor
from holdfast.formats.lazy_tensor import Storage, StoredBytes
from holdfast.formats.proving import largest_first, prove, read_all


def _lazy(path: Path) -> dict[str, LazyTensor]:
    return open_checkpoint(path).role()


def _flip(path: Path, tensor: Tensor, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(tensor.numpy().tobytes()[:400]) + at] ^= 1
    path.write_bytes(data)


def test_what_is_proven_is_not_kept_unless_it_is_small(tmp_path: Path) -> None:
    """A tensor of a megabyte leaves nothing behind; one of 40 bytes does, and is not read again."""
    torch.save({"a.large": torch.ones(1 << 18), "a.small": torch.ones(10)}, tmp_path / "t.pt")
    tensors = _lazy(tmp_path / "t.pt")
    prove(tensors.values())
    assert {name: t.storage.data.is_read for name, t in tensors.items()} == {"a.large": False, "a.small": True}


def test_only_so_many_small_ones_are_kept(tmp_path: Path) -> None:
    """Of 320 tensors of 64 KiB, 20 MiB in all, the first 16 MiB; the others are proven and let go."""
    torch.save({f"a.{n}": torch.full((1 << 14,), float(n)) for n in range(320)}, tmp_path / "t.pt")
    tensors = list(_lazy(tmp_path / "t.pt").values())
    prove(tensors)
    assert [tensor.storage.data.is_read for tensor in tensors] == [True] * 256 + [False] * 64


def test_many_small_tensors_do_not_cost_a_system_call_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 1,000 tensors of 256 bytes is opened and proven in fewer than 60 readings."""
    import os

    torch.save({f"a.{n}": torch.full((64,), float(n)) for n in range(1000)}, tmp_path / "t.pt")
    pread, preadv, calls = os.pread, os.preadv, []
    monkeypatch.setattr(os, "pread", lambda *a: (calls.append(a[1]), pread(*a))[1])
    monkeypatch.setattr(os, "preadv", lambda *a: (calls.append(0), preadv(*a))[1])
    tensors = _lazy(tmp_path / "t.pt")
    prove(tensors.values())
    assert len(calls) < 60
    assert all((t.to_torch() == n).all() for n, t in enumerate(tensors.values()))


@pytest.mark.parametrize("name", ["a.0", "a.7", "a.small"])
@pytest.mark.parametrize("use", [prove, read_all])
def test_a_flipped_bit_in_any_of_them_is_found(tmp_path: Path, name: str, use: object) -> None:
    """In the first, the last and a small one, whichever thread has it; the message names its entry."""
    truth = {f"a.{n}": torch.full((1 << 20,), n + 0.5) for n in range(8)} | {"a.small": torch.full((10,), 9.5)}
    torch.save(truth, tmp_path / "t.pt")
    _flip(tmp_path / "t.pt", truth[name], 5)
    number = list(truth).index(name)
    with pytest.raises(CheckpointCorrupt, match=rf"t.pt: .* an entry 't/data/{number}' that does not match its checks"):
        use(_lazy(tmp_path / "t.pt").values())  # type: ignore[operator]


def test_shared_storages_are_proven_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tied tensors and a view of them are one storage."""
    whole = torch.arange(100_000.0)
    torch.save({"a.one": whole, "a.two": whole, "a.part": whole[10:20]}, tmp_path / "t.pt")
    proven = []
    monkeypatch.setattr(StoredBytes, "prove", lambda self, *, keep=False: proven.append((self.key, keep)))
    prove(_lazy(tmp_path / "t.pt").values())
    assert proven == [("0", False)]


def test_types_that_torch_makes_no_tensors_of_are_told_at_once() -> None:
    """Before anything is read."""
    data = StoredBytes("x.pt", "0", 4)
    quantised = LazyTensor(Storage(data, "quint8", 4), "quint8", 0, (4,), (1,))
    with pytest.raises(
        CheckpointError, match=r"Reading x.pt: torch .* makes no tensor of torch.quint8 from its values"
    ):
        prove([quantised])


def test_the_largest_begin_first_and_all_are_done() -> None:
    """In one thread, they are done in that order."""
    done: list[int] = []
    largest_first(done.append, [3, 9, 1, 9, 5], lambda size: size)
    assert done == [9, 9, 5, 3, 1]
    largest_first(done.append, [], lambda size: size)


def test_several_threads_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items wait for each other: one thread alone would never end."""
    monkeypatch.setattr("holdfast.formats.proving._WORKERS", 2)
    both = threading.Barrier(2, timeout=30)
    largest_first(lambda _: both.wait(), [0, 1], lambda _: 8 << 20)


def test_the_failure_that_is_told_is_that_of_the_first_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever thread comes first; no thread is left behind."""
    monkeypatch.setattr("holdfast.formats.proving._WORKERS", 3)
    both = threading.Barrier(2, timeout=30)

    def work(item: str) -> None:
        both.wait()
        raise ValueError(item)

    before = threading.active_count()
    with pytest.raises(ValueError, match=r"^first$"):
        largest_first(work, ["first", "second"], lambda item: (8 + len(item)) << 20)
    assert threading.active_count() == before
