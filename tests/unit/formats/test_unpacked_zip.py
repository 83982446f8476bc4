from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast import load_into, open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.limits import LIMITS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of torch.save, unpacked as a file manager does it."""
    net = nn.Linear(3, 4)
    nn.init.constant_(net.weight, 0.5)
    torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "run.pt")
    zipfile.ZipFile(tmp_path / "run.pt").extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked/run"


def test_an_unpacked_archive_opens_as_the_archive_does(folder: Path) -> None:
    """Weights, counters, and loading into a model."""
    opened, packed = open_checkpoint(folder), open_checkpoint(folder.parents[1] / "run.pt")
    assert (opened.kind, opened.metadata) == ("unpacked torch zip", {"epoch": 3})
    assert all(torch.equal(opened.weights()[name], value) for name, value in packed.weights().items())
    net = nn.Linear(3, 4)
    assert load_into(net, folder).fraction == 1
    assert (net.weight == 0.5).all()


def test_a_storage_that_is_missing_cut_or_elsewhere_is_damage(folder: Path) -> None:
    """Only files that the folder lists are read, and their sizes must be right."""
    storage = folder / "data/0"
    storage.write_bytes(storage.read_bytes()[:-4])
    with pytest.raises(CheckpointCorrupt, match=r"storage '0' of 48 bytes, whose entry has 44"):
        open_checkpoint(folder)
    storage.unlink()
    with pytest.raises(CheckpointCorrupt, match=r"storage '0' of 48 bytes, whose entry has 0"):
        open_checkpoint(folder)
    pickle = folder / "data.pkl"
    pickle.write_bytes(pickle.read_bytes().replace(b"X\x01\x00\x00\x000", b"X\x0a\x00\x00\x00../version"))
    with pytest.raises(CheckpointCorrupt, match="whose entry has 0"):
        open_checkpoint(folder)


def test_a_pickle_larger_than_the_limit_is_not_read(folder: Path) -> None:
    """As in the archive itself."""
    with pytest.raises(CheckpointError, match="the limit is 10"):
        open_checkpoint(folder, limits=LIMITS._replace(pickle_bytes=10))


def test_a_storage_that_is_cut_after_opening_is_damage(folder: Path) -> None:
    """The size was right when the table of files was read."""
    opened = open_checkpoint(folder)
    (folder / "data/0").write_bytes(b"")
    with pytest.raises(CheckpointCorrupt):
        opened.weights()
