"""How long it takes to open a file of weights into a model, and how much memory, beside the libraries that wrote it.

Everybody loads by turns into the same live model, whose memory is warm, once with the file in the page cache and once
without (`posix_fadvise`); a ratio is that of one turn to the library's own just before. Memory is measured in a process
of its own for each: a small file is loaded first (imports, threads), then the model is made, the peak of the resident
memory (VmHWM) is set back to what it is now (VmRSS), and the file loaded. Pages of a mapped file count as long as they
are mapped, for they are in that process's memory. Holdfast proves every byte of what has a checksum before it changes
the model; the libraries prove none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.memory import reset_peak, resident_bytes
from benchmarks.options import Options, parse
from benchmarks.raw import drop_from_cache, sync_tree, warm_the_cache
from benchmarks.spread import summary
from holdfast.checkpoints import write_single_file
from holdfast.fitting import load_into

Load = Callable[[nn.Module, Path], object]
_WIDTH = 2048  # a layer is then 17 MB, as one of a large vision transformer
_SMALL = 1000  # layers of a few numbers beside the large ones, as batch norms are


class Weights(nn.Module):
    """A model that is nothing but its weights: large layers, and many small ones.

    Args:
        megabytes: size of the large layers (10^6 bytes).
    """

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        count = max(1, round(megabytes * 1e6 / 4 / _WIDTH**2))
        width = _WIDTH if megabytes >= 16 else max(8, int((megabytes * 1e6 / 4) ** 0.5))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.small = nn.ModuleList(nn.LayerNorm(64) for _ in range(_SMALL if megabytes > 1 else 4))


def _by_torch(model: nn.Module, path: Path) -> None:
    model.load_state_dict(torch.load(path, weights_only=True, mmap=True))


def _by_safetensors(model: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path))


# Name → (file, how to load it); a library and Holdfast by turns over its file.
CONTENDERS: dict[str, tuple[str, Load]] = {
    "torch.load(mmap=True)": ("weights.pt", _by_torch),
    "holdfast, .pt": ("weights.pt", load_into),
    "safetensors load_file": ("weights.safetensors", _by_safetensors),
    "holdfast, .safetensors": ("weights.safetensors", load_into),
    "holdfast, its own file": ("own.safetensors", load_into),
}
_BESIDE = {"weights.pt": "torch.load(mmap=True)"}


def main(options: Options) -> None:
    """Times everybody with and without the page cache, then measures their peaks of memory."""
    megabytes = options.size(1000)
    chosen = [name for name in CONTENDERS if options.wants(name) or name == _beside(name)]
    with options.folder() as folder:
        model = Weights(megabytes)
        _write(model, folder)
        num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
        for cold in (False, True):
            print(f"\n{num_bytes / 1e6:,.0f} MB into a model, file {'not ' if cold else ''}in the page cache")
            times = _turns(model, folder, chosen, cold=cold, rounds=options.turns(9))
            for name, seconds in times.items():
                ratios = [ours / theirs for ours, theirs in zip(seconds, times[_beside(name)], strict=True)]
                print(f"{name:26} {summary(seconds, 'ms', 1e3):>34}   {summary(ratios, '×', digits=2):>24}")
        del model
        print("\npeak of resident memory, model included; and what is above the model")
        _memory(folder, chosen, megabytes, options)


def _turns(model: nn.Module, folder: Path, chosen: list[str], *, cold: bool, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(rounds + 1):
        for name in chosen:
            (drop_from_cache if cold else warm_the_cache)(folder)
            file, load = CONTENDERS[name]
            start = time.perf_counter()
            load(model, folder / file)
            if turn:  # the first turn warms everybody up
                times[name].append(time.perf_counter() - start)
    return times


def _memory(folder: Path, chosen: list[str], megabytes: int, options: Options) -> None:
    peaks: dict[str, list[float]] = {name: [] for name in chosen}
    above: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(options.turns(3)):
        for name in chosen:
            command = [sys.executable, "-m", "benchmarks.opening", name, str(folder), "--size", str(megabytes)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"measuring {name}: {done.stderr}")
            found = json.loads(done.stdout.splitlines()[-1])
            peaks[name].append(found["with_model"])
            above[name].append(found["above_model"])
    for name, found in peaks.items():
        ratios = [ours / theirs for ours, theirs in zip(found, peaks[_beside(name)], strict=True)]
        print(
            f"{name:26} {summary(found, 'MB', 1e-6):>34}   {summary(ratios, '×', digits=2):>24}   "
            f"above {summary(above[name], 'MB', 1e-6):>30}"
        )


def measure_one(name: str, folder: Path, megabytes: int) -> dict[str, int]:
    """Returns the peak of this process's resident memory while it loads, with the model and above it, in bytes."""
    file, load = CONTENDERS[name]
    load(Weights(1), folder / "small" / file)
    begin = resident_bytes("VmRSS")
    model = Weights(megabytes)
    before = resident_bytes("VmRSS")
    reset_peak()
    load(model, folder / file)
    peak = resident_bytes("VmHWM")
    return {"with_model": peak - begin, "above_model": peak - before}


def _beside(name: str) -> str:
    """Returns the library that a contender is measured against."""
    return _BESIDE.get(CONTENDERS[name][0], "safetensors load_file")


def _write(model: nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    (folder / "small").mkdir()
    for state, place in ((model.state_dict(), folder), (Weights(1).state_dict(), folder / "small")):
        torch.save(state, place / "weights.pt")
        save_file(state, place / "weights.safetensors")
        write_single_file(place / "own.safetensors", state, {"step": 1})
    sync_tree(folder)


if __name__ == "__main__":
    chosen_options, (chosen_name, chosen_folder) = parse(sys.argv[1:], "name", "folder")
    print(json.dumps(measure_one(chosen_name, Path(chosen_folder), chosen_options.size(1000))))
