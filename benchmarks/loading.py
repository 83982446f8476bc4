"""Pictures a second from JPEGs to float batches on two workers, uncached, beside the peers in one run.

Two folders: pictures of 500 × 375 (ants and bees, brought to that size) and photographs of 1 to 24 megapixels. All
contenders are built first and take turns, an epoch each. Processor time is told too: it is the same work whatever
else the machine does.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from benchmarks.loader_peers import CONTENDERS, Ready
from benchmarks.options import Options
from benchmarks.spread import summary

ROUNDS = 7
_BASE = "torchvision ImageFolder"


def main(options: Options) -> None:
    """Measures both folders and prints a table each."""
    warnings.simplefilter("ignore")
    data = find_data()
    if data is None:
        print("no real pictures; name their folder in HOLDFAST_TEST_DATA")
        return
    with options.folder() as folder:
        small, large = folder / "500x375", folder / "photographs"
        make_small(data, small, 12 if options.short else 1)
        link_photographs(data, large)
        for root, times in ((small, 1 if options.short else 6), (large, 1 if options.short else 6)):
            _measure(root, times, options)


def find_data() -> Path | None:
    """Returns the folder of real pictures, if there is one."""
    own = os.environ.get("HOLDFAST_TEST_DATA")
    candidates = [Path(own)] if own else [Path(__file__).resolve().parents[2] / "shared" / "data"]
    return next((path for path in candidates if (path / "README.md").is_file()), None)


def make_small(data: Path, out: Path, every: int = 1) -> None:
    """Writes the larger pictures of ants and bees, or every n-th of them, as JPEGs of 500 × 375 into class folders."""
    paths = sorted((data / "hymenoptera_data").glob("*/*/*.jpg"))
    for number, path in list(enumerate(paths))[::every]:
        with Image.open(path) as image:
            if image.width < 500 or image.height < 375:
                continue
            scale = max(500 / image.width, 375 / image.height)
            sides = (max(500, round(image.width * scale)), max(375, round(image.height * scale)))
            place = out / path.parent.name / f"{number:04d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.convert("RGB").resize(sides, Image.Resampling.LANCZOS).crop((0, 0, 500, 375)).save(place, quality=92)


def link_photographs(data: Path, out: Path) -> None:
    """Links the true photographs (no scans) into two class folders."""
    paths = [p for p in sorted((data / "large_photos").iterdir()) if p.name.split("_")[0] in _PHOTOGRAPHS]
    for number, path in enumerate(paths):
        place = out / "ab"[number % 2] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)


_PHOTOGRAPHS = ("imagenet", "wallpaper", "camera")


def _measure(root: Path, times: int, options: Options) -> None:
    print(f"\n{root.name}: {sum(1 for _ in root.glob('*/*'))} files, {times} times over an epoch")
    speeds: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    with ExitStack() as stack:
        contenders: dict[str, Ready] = {}
        for name, contender in CONTENDERS.items():
            if not options.wants(name):
                continue
            try:
                contenders[name] = stack.enter_context(contender(root, times))
            except ImportError as error:
                print(f"{name} is left out: {error}")
        for turn in range(options.turns(ROUNDS) + 1):
            for name, ready in contenders.items():
                epoch = ready()
                began, used = time.perf_counter(), _processor_seconds()
                number = epoch()
                if turn:  # the first round starts workers and fills the page cache
                    speeds.setdefault(name, []).append(number / (time.perf_counter() - began))
                    spent.setdefault(name, []).append((_processor_seconds() - used) / number)
                del epoch
    base = speeds.get(_BASE)
    for name, values in speeds.items():
        ratio = "" if base is None else summary([v / b for v, b in zip(values, base, strict=True)], "×", digits=2)
        each = f"{statistics.median(spent[name]) * 1e3:.2f} ms of processor a picture"
        print(f"{name:32}  {summary(values, 'img/s', digits=0):34}  {ratio:24}  {each}")


def _processor_seconds() -> float:
    """Of this process and of all that it started and that still run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    ticks = os.sysconf("SC_CLK_TCK")
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total
