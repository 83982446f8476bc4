from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from holdfast import open_checkpoint
from holdfast.errors import CheckpointError
from holdfast.formats.inert import InertObject


@pytest.fixture
def mesh() -> Iterator[dist.DeviceMesh]:
    """Two processes, the other of which is not there."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        yield dist.device_mesh.init_device_mesh("cpu", (2,))
    finally:
        dist.destroy_process_group()


def test_a_tensor_that_every_process_has_whole_is_a_tensor(mesh: dist.DeviceMesh, tmp_path: Path) -> None:
    """A replicated DTensor is the values of this process."""
    values = torch.arange(6.0).reshape(2, 3)
    torch.save({"fc.weight": DTensor.from_local(values, mesh, [Replicate()])}, tmp_path / "c.pt")
    assert torch.equal(open_checkpoint(tmp_path / "c.pt").weights()["fc.weight"], values)


def test_a_piece_of_a_tensor_is_never_taken_for_the_whole(mesh: dist.DeviceMesh, tmp_path: Path) -> None:
    """A sharded DTensor stays a record, and its weights are refused by name."""
    torch.save({"fc.weight": DTensor.from_local(torch.ones(2, 3), mesh, [Shard(0)])}, tmp_path / "c.pt")
    opened = open_checkpoint(tmp_path / "c.pt")
    assert isinstance(opened.role()["fc.weight"], InertObject)
    with pytest.raises(CheckpointError, match=r"c.pt: fc.weight is "):
        opened.weights()
