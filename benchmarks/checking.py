"""How long `check` takes beside one plain decode of every file: the same decoder, the same number of threads.

Both read every file. The check also takes digests and headers, looks for copies, and judges. Files are in the page
cache, and both take their turn in one process. The pictures are the CIFAR subset and the large photographs of the
folder that HOLDFAST_TEST_DATA names (by default ../shared/data); without them, or in the short form, made ones.
"""

from __future__ import annotations

import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.options import Options
from benchmarks.spread import summary
from holdfast.data.check import check_data, check_files
from holdfast.data.check.probe import num_cores
from holdfast.data.decoding.decode import decode_image
from holdfast.data.files import FilePictures, is_image_name, labels_array
from holdfast.data.loading.workers import one_thread


def main(options: Options) -> None:
    """Checks and decodes by turns."""
    threads = min(num_cores(), 16)
    with options.folder() as folder:
        for name, root in _collections(folder, options).items():
            files = sorted(path for path in root.rglob("*") if is_image_name(path.name))
            pictures = FilePictures(
                root, [str(p.relative_to(root)) for p in files], labels_array([0] * len(files)), ["any"]
            )
            ways = {
                "plain decode": lambda files=files: _decode(files, threads),
                "before training": lambda pictures=pictures: check_files(pictures),
                "check --quick": lambda root=root: check_data(str(root), near_distance=None),
                "check": lambda root=root: check_data(str(root)),
            }
            times: dict[str, list[float]] = {way: [] for way in ways}
            work: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(options.turns(9) + 1):
                for way, run in ways.items():
                    start, busy = time.perf_counter(), time.process_time()
                    run()
                    if turn:
                        times[way].append(time.perf_counter() - start)
                        work[way].append(time.process_time() - busy)
            print(f"\n{name}: {len(files):,} pictures, {threads} threads")
            for way, seconds in times.items():
                ratios = [one / plain for one, plain in zip(seconds, times["plain decode"], strict=True)]
                busy_ratios = [one / plain for one, plain in zip(work[way], work["plain decode"], strict=True)]
                print(
                    f"{way:18} {summary(seconds, 's', digits=3):>32}   {summary(ratios, '×', digits=2):>24}"
                    f"   processor time {summary(busy_ratios, '×', digits=2)}"
                )


def _decode(files: list[Path], threads: int) -> None:
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_image, files):
            pass


def _collections(folder: Path, options: Options) -> dict[str, Path]:
    real = Path(os.environ.get("HOLDFAST_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if options.short or not (real / "large_photos").is_dir():
        print("made pictures" + ("" if options.short else f": there are no real ones at {real}"))
        return {"made": _make(folder / "made")}
    with tarfile.open(real / "cifar10_subset/cifar10_subset.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return {"CIFAR subset": folder / "cifar10_subset", "large photographs": real / "large_photos"}


def _make(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("one", "two"):
        (root / label).mkdir(parents=True)
        for number in range(12):
            coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            coarse.resize((200, 150)).save(root / label / f"{number}.jpg")
    return root
