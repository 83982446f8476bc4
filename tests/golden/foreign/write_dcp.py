"""Writes what two processes of torch.distributed.checkpoint leave behind: `python write_dcp.py FOLDER`.

It starts itself twice, shards a small net with FSDP2 and another tensor by columns, steps an optimizer, and saves. The
whole tensors are gathered into `truth.safetensors`, so that tests need no process group.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def write(folder: Path) -> None:
    """Runs in each of the two processes."""
    import safetensors.torch
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch import nn
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, get_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    torch.set_num_threads(1)
    os.chdir(folder)  # the table of contents keeps the path that it is given
    dist.init_process_group("gloo", init_method=os.environ["MEETING"], rank=int(os.environ["RANK"]), world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))  # 3 and 1 rows for two: uneven, and empty
    fully_shard(net, mesh=mesh)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    net(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    model, state = get_state_dict(net, optimizer)
    flat = get_optimizer_state_dict(net, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    flat = {name: value for name, value in flat.items() if ".0." in name}  # each option of each is a file of its own
    columns = distribute_tensor(torch.arange(24.0).reshape(4, 6), mesh, [Shard(1)])
    copies = distribute_tensor(torch.arange(3, dtype=torch.int32), mesh, [Replicate()])
    counters = {"epoch": 3, "note": "two ranks"}
    odd = {"columns": columns, "copies": copies, "half": columns.to(torch.bfloat16)}
    tree = {"model": model, "optimizer": state, "odd": odd, "train_state": counters}
    dcp.save(tree, checkpoint_id="two-ranks")
    dcp.async_save({"model": model, "optim": flat}, checkpoint_id="two-ranks-async").result()
    dcp.save(model, storage_writer=dcp.HuggingFaceStorageWriter("two-ranks-slices", save_distributed=True))
    truth = {f"model.{name}": t for name, t in model.items()} | {f"odd.{name}": t for name, t in odd.items()}
    truth |= {f"{name}.{slot}": t for name, held in state["state"].items() for slot, t in held.items()}
    whole = {n: t.full_tensor() if isinstance(t, DTensor) else t for n, t in truth.items()}
    if dist.get_rank() == 0:
        safetensors.torch.save_file({n: t.detach().contiguous() for n, t in whole.items()}, "truth.safetensors")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Starts the two processes, or is one of them."""
    folder = Path(sys.argv[1]).resolve()
    if "RANK" in os.environ:
        write(folder)
        return
    with tempfile.TemporaryDirectory() as place:
        meeting = f"file://{place}/meeting"
        ranks = [
            subprocess.Popen([sys.executable, __file__, str(folder)], env={**os.environ, "RANK": r, "MEETING": meeting})
            for r in "01"
        ]
        sys.exit(max(rank.wait(timeout=300) for rank in ranks))


if __name__ == "__main__":
    main()
