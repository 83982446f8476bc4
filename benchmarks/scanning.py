"""A folder of many files: how fast it is scanned, what a sample costs in memory, and what workers add over an epoch.

A folder of class folders on a memory disk, made of hard links to one tiny picture, against torchvision's `ImageFolder`
and torch's `DataLoader`. Scans take turns in one process, also of ten times as many folders of few files.
Memory is that of processes of their own: what a collection and its loader add to a process that has imported the same,
and the unshared memory (USS) of the workers at four points of an epoch. Nothing is decoded in them: reading is
replaced by looking up the path, as only then is an epoch of a million samples about memory. "bare" is torch's
`DataLoader` with no data at all: what its workers gain is torch's own.
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
        _race(root, num_classes, num_each, options.turns(7))
        print()
        for name in _LOADERS:
            _print_memory(name, root, options.turns(3))
        small = folder / "small"
        small.mkdir()
        print()
        _race(small / "pictures", num_classes * 10, num_each // 100, options.turns(7))


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


def _race(root: Path, num_classes: int, num_each: int, rounds: int) -> None:
    make_folder(root, num_classes, num_each)
    print(f"{num_classes * num_each:,} files in {num_classes:,} folders on {root.parent.parent}", flush=True)
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
        each = [theirs / ours for ours, theirs in zip(cpu[name], cpu[peer], strict=True)]
        print(
            f"{name:26} {summary(wall[name], 's', digits=2):>24}   {summary(ratios, '× as fast', digits=2):>30}"
            f"   processor {statistics.median(cpu[name]):.2f} s, {statistics.median(each):.2f} ×"
        )


def _print_memory(name: str, root: Path, rounds: int) -> None:
    resident = [_in_a_process("resident", name, root)["resident"] for _ in range(rounds)]
    grown = _in_a_process("growth", name, root)
    workers = ", ".join(f"{number} {grown[kind] / 1e6 / _WORKERS:.1f}" for kind, number in _POINTS.items())
    print(f"{name}: {summary(resident, 'bytes a sample resident')}")
    print(f"    USS a worker, MB, of {_WORKERS}: {workers}", flush=True)


def _in_a_process(what: str, name: str, root: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.scanning", what, "--dir", str(root), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {what} of {name}: {done.stderr}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


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
    from holdfast.data.preprocessing.encoded import Encoded

    class Looked(ImageFolder):
        """Looks up the path and opens nothing."""

        def open(self, index: int) -> Encoded:
            path = torch.tensor(len(f"{self.root}/{self.name(index)}"))
            return Encoded(1, 1, lambda _: path)

    return Loader(Looked(root), batch_size=_BATCH, shuffle=True, num_workers=workers)


def _bare_loader(root: Path, workers: int) -> Iterable[Any]:
    from torch.utils.data import DataLoader

    class Nothing:
        """As many samples, and no data."""

        def __init__(self) -> None:
            self.num = sum(len(files) for _, _, files in os.walk(root))

        def __len__(self) -> int:
            return self.num

        def __getitem__(self, index: int) -> tuple[Any, int, int]:
            import torch

            return torch.tensor(index), index, index

    return DataLoader(Nothing(), batch_size=_BATCH, num_workers=workers)  # type: ignore[arg-type]


_LOADERS = {"holdfast": _holdfast_loader, "torchvision": _torch_loader, "bare": _bare_loader}
_POINTS = {"first": "at first", "quarter": "after a quarter", "half": "half", "end": "the whole epoch"}


def measure_resident(name: str, root: Path) -> dict[str, float]:
    """Returns what the folder and its loader add to the main process until batches come, bytes a sample."""
    make_loader = _LOADERS[name]
    with tempfile.TemporaryDirectory(dir=root.parent) as tiny:
        make_folder(Path(tiny) / "pictures", 2, 40)
        list(make_loader(Path(tiny) / "pictures", 0))  # imports, threads, buffers
    before = _memory(os.getpid())["rss"]
    loader: Any = make_loader(root, 0)
    batches = iter(loader)
    for _ in range(8):
        next(batches)
    after = _memory(os.getpid())["rss"]
    return {"resident": (after - before) / sum(len(files) for _, _, files in os.walk(root))}


def measure_growth(name: str, root: Path) -> dict[str, float]:
    """Returns the USS of all workers together at points of an epoch, bytes."""
    loader: Any = _LOADERS[name](root, _WORKERS)
    last = len(loader) - 1
    # First: every worker has delivered. End: with the last batch torch's workers end.
    places = {min(_WORKERS * 4, last // 4 - 1): "first", last // 4: "quarter", last // 2: "half", last - 1: "end"}
    grown: dict[str, float] = {}
    for number, _ in enumerate(loader):
        if number in places:
            children = multiprocessing.active_children()
            grown[places[number]] = sum(_memory(child.pid or 0)["uss"] for child in children)
    return grown


def _memory(process: int) -> dict[str, int]:
    """Returns a process's resident memory, and what of it is its own alone, in bytes."""
    lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    kib = {line[0].rstrip(":"): int(line[1]) for line in lines}
    return {"rss": kib["Rss"] * 1024, "uss": (kib["Private_Clean"] + kib["Private_Dirty"]) * 1024}


if __name__ == "__main__":
    chosen, (what,) = parse(sys.argv[1:], "what")
    measure = measure_resident if what == "resident" else measure_growth
    print(json.dumps(measure(chosen.only[0], chosen.directory)))
