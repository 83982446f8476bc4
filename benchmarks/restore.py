"""How long a restore takes, beside reading the same bytes and beside the peers that verify nothing.

Everybody restores by turns into live objects of the same shapes, once with the files in the page cache and once without
(`posix_fadvise`). Whoever maps a file and reads it later pays too: the ratio is of the restore alone, and the last
column has the milliseconds until every value of the optimizer's slots has been changed once. Ours verifies every byte.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.options import Options, keep_freed_memory
from benchmarks.raw import RawBytes, drop_from_cache, files_below, sync_tree, warm_the_cache
from benchmarks.savers import be_quiet, flat_tensors
from benchmarks.spread import percentile, summary
from benchmarks.workload import Numbers
from holdfast import CheckpointStore

READ = "read() into warm memory"


@dataclass(frozen=True)
class _Contender:
    """Somebody who restores: where the files are, and how."""

    name: str
    folder: Path
    restore: Callable[[], object]


@dataclass
class _Times:
    """Seconds until restored, and until every slot was changed once more."""

    restored: list[float] = field(default_factory=list)
    touched: list[float] = field(default_factory=list)


def main(options: Options) -> None:
    """Restores a model, then a model with its optimizer, warm and cold."""
    keep_freed_memory()
    be_quiet()
    work = Numbers(options.size(512))
    for title, names in (("model", ["model"]), ("model and optimizer", ["model", "optimizer"])):
        parts = {name: work.parts[name] for name in names}
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in flat_tensors(parts).values())
        with options.folder() as folder:
            contenders = _contenders(folder, parts, num_bytes, options)
            for cold in (False, True):
                print(f"\n{title}, {num_bytes / 1e6:,.0f} MB, files {'not ' if cold else ''}in the page cache")
                _print(_turns(contenders, parts, cold=cold, rounds=options.turns(9)), num_bytes)


def _turns(contenders: list[_Contender], parts: dict[str, Any], *, cold: bool, rounds: int) -> dict[str, _Times]:
    times = {one.name: _Times() for one in contenders}
    for _ in range(rounds + 1):
        for one in contenders:
            (drop_from_cache if cold else warm_the_cache)(one.folder)
            start = time.perf_counter()
            one.restore()
            times[one.name].restored.append(time.perf_counter() - start)
            _touch(parts)
            times[one.name].touched.append(time.perf_counter() - start)
    return times


def _print(everybody: dict[str, _Times], num_bytes: int) -> None:
    for name, times in everybody.items():
        warm = times.restored[1:]
        ratios = [t / base for t, base in zip(warm, everybody[READ].restored[1:], strict=True)]
        print(
            f"{name:26} {summary(warm, 'ms', 1e3):>30} {num_bytes / 1e9 / percentile(warm, 50):6.2f} GB/s "
            f"{summary(ratios, '×', digits=2):>24}   p99 {percentile(warm, 99) * 1e3:8.1f}  "
            f"first {times.restored[0] * 1e3:8.1f}   touched {summary(times.touched[1:], 'ms', 1e3):>30}"
        )


def _contenders(folder: Path, parts: dict[str, Any], num_bytes: int, options: Options) -> list[_Contender]:
    with CheckpointStore(folder / "store", background=False) as store:
        store.save(1, parts)
    saved, raw = folder / "store" / "step-00000001", RawBytes(num_bytes + (1 << 20))
    found = [
        _Contender(READ, saved, lambda: raw.read(files_below(saved))),
        _Contender("holdfast restore_latest", saved, lambda: _holdfast(folder / "store", parts)),
        _Contender("holdfast open(1).restore", saved, lambda: _holdfast_step(folder / "store", parts)),
    ]
    trees = {name: part.state_dict() for name, part in parts.items()}
    (folder / "torch").mkdir()
    torch.save(trees, folder / "torch" / "state.pt")
    for name, mapped in (("torch.load(mmap=True)", True), ("torch.load()", False)):
        found.append(_Contender(name, folder / "torch", lambda m=mapped: _torch(folder / "torch", parts, mmap=m)))  # type: ignore[misc]
    found += _safetensors(folder / "safetensors", parts) + _dcp(folder / "dcp", parts, trees)
    for one in found:
        sync_tree(one.folder)
    return [one for one in found if one.name == READ or options.wants(one.name)]


def _touch(parts: dict[str, Any]) -> None:
    """Changes every slot in place, as the next step would."""
    if "optimizer" in parts:
        for slots in parts["optimizer"].state.values():
            for slot in slots.values():
                slot.add_(0)


def _holdfast(root: Path, parts: dict[str, Any]) -> None:
    assert CheckpointStore(root).restore_latest(parts) == 1


def _holdfast_step(root: Path, parts: dict[str, Any]) -> None:
    CheckpointStore(root).open(1).restore(parts)


def _torch(folder: Path, parts: dict[str, Any], *, mmap: bool) -> None:
    trees = torch.load(folder / "state.pt", mmap=mmap)
    for name, part in parts.items():
        part.load_state_dict(trees[name])


def _safetensors(folder: Path, parts: dict[str, Any]) -> list[_Contender]:
    try:
        from safetensors.torch import load_file, save_file
    except ImportError:
        print("safetensors is left out: not installed")
        return []

    def restore() -> None:
        flat: dict[str, Tensor] = load_file(folder / "state.safetensors")
        load_flat(parts, flat)

    folder.mkdir()
    save_file(flat_tensors(parts), folder / "state.safetensors")
    return [_Contender("safetensors load_file", folder, restore)]


def load_flat(parts: dict[str, Any], flat: dict[str, Tensor]) -> None:
    """Loads what `flat_tensors` made of the parts; the optimizer's groups are those of the live one."""
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in flat.items() if key.startswith(f"{name}.")}
        if isinstance(part, torch.optim.Optimizer):
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in own.items():
                number, slot = key.split(".", 1)
                state.setdefault(int(number), {})[slot] = tensor
            part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})
        else:
            part.load_state_dict(own)


def _dcp(folder: Path, parts: dict[str, Any], trees: dict[str, Any]) -> list[_Contender]:
    import torch.distributed.checkpoint as dcp

    def restore() -> None:
        live = {name: part.state_dict() for name, part in parts.items()}
        dcp.load(live, checkpoint_id=folder, no_dist=True)
        for name, part in parts.items():
            part.load_state_dict(live[name])

    shutil.rmtree(folder, ignore_errors=True)
    dcp.save(trees, checkpoint_id=folder, no_dist=True)
    return [_Contender("DCP load", folder, restore)]
