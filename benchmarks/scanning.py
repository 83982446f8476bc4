"""A folder of many files: how fast it is scanned, what a sample costs in memory, and what workers add over an epoch.

A folder of class folders on a memory disk, made of hard links to one tiny picture, against torchvision's `ImageFolder`
and torch's `DataLoader`. Scans take turns in one process. Memory is that of processes of their own: what a collection
and its loader add to a process that has imported the same, and the unshared memory (USS; PSS shares it out) that the
workers together gain between the first batches of an epoch and its last; what they gain once (lazy imports, buffers)
is no growth, so the second half stands beside the whole. Nothing is decoded in them: reading is
replaced by looking up the path, as only then is an epoch of a million samples about memory.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.options import Options, parse
from benchmarks.spread import summary

_MEMORY_DISK = Path("/dev/shm")  # noqa: S108  # the benchmark's own folder in it is deleted
_WORKERS = 4
_BATCH = 256


def main(options: Options) -> None:
    """Makes the folder, lets both scan it by turns, and measures memory."""
    if options.directory == Path() and _MEMORY_DISK.is_dir():
        options = replace(options, directory=_MEMORY_DISK)
    num_classes, num_each = (20, 250) if options.short else (1000, 1000)
    with options.folder() as folder:
        root = folder / "pictures"
        make_folder(root, num_classes, num_each)
        print(f"{num_classes * num_each:,} files in {num_classes:,} folders on {options.directory}\n")
        _race(root, options.turns(7))
        print()
        for name in ("holdfast", "torchvision"):
            _print_memory(name, root, options.turns(3))


def make_folder(root: Path, num_classes: int, num_each: int) -> None:
    """Makes a folder of class folders, named as ImageNet's are, of hard links to one picture."""
    from PIL import Image

    root.mkdir()
    source = root.parent / "source.jpg"
    Image.new("RGB", (8, 8), "#446688").save(source)
    for number in range(num_classes):
        folder = root / f"n{1440764 + 137 * number:08d}"
        folder.mkdir()
        # A step that shares no factor with the number visits each once, in an order that is not that of the names.
        for step in range(num_each):
            os.link(source, folder / f"{folder.name}_{step * 7919 % num_each * 7}.JPEG")


def _scans(root: Path) -> dict[str, Callable[[], Any]]:
    from torchvision.datasets import ImageFolder

    from holdfast.data import read_folder

    return {
        "torchvision ImageFolder": lambda: ImageFolder(str(root)),
        "holdfast read_folder": lambda: read_folder(root),
    }


def _race(root: Path, rounds: int) -> None:
    scans = _scans(root)
    wall: dict[str, list[float]] = {name: [] for name in scans}
    cpu: dict[str, list[float]] = {name: [] for name in scans}
    for turn in range(rounds + 1):
        for name, scan in scans.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            scan()
            if turn:  # the first finds the disk's names cold
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    peer = next(iter(scans))
    for name in scans:
        ratios = [theirs / ours for ours, theirs in zip(wall[name], wall[peer], strict=True)]
        print(
            f"{name:26} {summary(wall[name], 's', digits=2):>24}   {summary(ratios, '× as fast', digits=2):>30}"
            f"   processor {statistics.median(cpu[name]):.2f} s"
        )


def _print_memory(name: str, root: Path, rounds: int) -> None:
    found = []
    for _ in range(rounds):
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scanning", "--dir", str(root), "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"measuring {name}: {done.stderr}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    resident, uss, pss, later = ([one[kind] for one in found] for kind in ("resident", "uss", "pss", "later"))
    print(f"{name}: {summary(resident, 'bytes a sample resident')}; growth over an epoch with {_WORKERS} workers:")
    print(
        f"    USS of the workers {summary(uss, 'MB', 1e-6)}, of which in the second half {summary(later, 'MB', 1e-6)}; "
        f"PSS with the main process {summary(pss, 'MB', 1e-6)}"
    )


class _Names:
    """Looks up a sample's path and label, as torchvision's folder would before it opens the file."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        path, label = self.samples[index]
        return len(path) + label


def _torch_loader(root: Path, workers: int) -> Iterable[Any]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    return DataLoader(_Names(ImageFolder(str(root)).samples), batch_size=_BATCH, shuffle=True, num_workers=workers)


def _holdfast_loader(root: Path, workers: int) -> Iterable[Any]:
    import torch

    from holdfast.data import ImageFolder, Loader

    class Looked(ImageFolder):
        """Looks up the path and opens nothing."""

        def read(self, index: int) -> torch.Tensor:
            return torch.tensor(len(str(self.path(index))))

    return Loader(Looked(root), batch_size=_BATCH, shuffle=True, num_workers=workers)


def measure_one(name: str, root: Path) -> dict[str, float]:
    """Returns bytes a sample, and the growth of USS (also from half of the epoch on) and PSS over an epoch, bytes."""
    make_loader = _holdfast_loader if name == "holdfast" else _torch_loader
    with tempfile.TemporaryDirectory(dir=root.parent) as tiny:
        make_folder(Path(tiny) / "pictures", 2, 40)
        list(make_loader(Path(tiny) / "pictures", 0))  # imports, threads, buffers
    before = _memory(os.getpid())["rss"]
    loader: Any = make_loader(root, _WORKERS)
    last = len(loader) - 1
    first: dict[str, int] = {}
    half: dict[str, int] = {}
    grown: dict[str, int] = {}
    for number, _ in enumerate(loader):
        if number == min(_WORKERS * 4, last // 2 - 1):  # every worker has delivered
            first = _of_all()
        elif number == last // 2:
            half = _of_all()
        elif number == last - 1:  # with the last batch torch's workers end
            end = _of_all()
            grown = {kind: end[kind] - first[kind] for kind in ("uss", "pss")}
            grown["later"] = end["uss"] - half["uss"]
    num = sum(len(files) for _, _, files in os.walk(root))
    return {"resident": (first["main"] - before) / num, **grown}


def _of_all() -> dict[str, int]:
    main, workers = _memory(os.getpid()), [_memory(child.pid or 0) for child in multiprocessing.active_children()]
    uss, pss = (sum(worker[kind] for worker in workers) for kind in ("uss", "pss"))
    return {"main": main["rss"], "uss": uss, "pss": pss + main["pss"]}


def _memory(process: int) -> dict[str, int]:
    """Returns a process's resident memory, what of it is its own alone, and its share of the rest, in bytes."""
    lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    kib = {line[0].rstrip(":"): int(line[1]) for line in lines}
    uss = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"rss": kib["Rss"] * 1024, "uss": uss * 1024, "pss": kib["Pss"] * 1024}


if __name__ == "__main__":
    chosen, _ = parse(sys.argv[1:])
    print(json.dumps(measure_one(chosen.only[0], chosen.directory)))
