"""One of two processes that load a plain file into a model they share, and save it again. Arguments: folder, rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from holdfast.fitting import load_into


class _Net(nn.Module):
    """The same names and shapes as the net of the tests."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.fc = nn.Linear(6, 4)


def _main(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ddp = DistributedDataParallel(_Net())
    assert load_into(ddp, folder / "plain.pt").is_exact
    sharded = _Net()
    mesh = init_device_mesh("cpu", (2,))
    for block in sharded.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    assert load_into(sharded, folder / "plain.pt").fraction == 1
    plain = torch.load(folder / "plain.pt")
    share = sharded.blocks[0].weight.to_local()
    assert share.shape == (3, 6)
    assert torch.equal(share, plain["blocks.0.weight"][3 * rank : 3 * rank + 3])
    whole = get_model_state_dict(sharded, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save(ddp.state_dict(), folder / "ddp.pt")
        torch.save(whole, folder / "fsdp.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
