"""Accuracy with pictures decoded smaller and with every pixel decoded: same seeds, same steps, five seeds each.

*Fast* is what `train` does unasked: JPEGs decoded at a fraction of their size (`--scaled-decode`), random crops cut out
of pictures with a short side of two crops (`--decode-size`, chosen). *Full* is `--no-scaled-decode --decode-size 0`.
Ants and bees (about 500 × 375) are seen at 64 pixels, so that training decodes them at a half, and
validation at a quarter of their sides. CIFAR's 32 pixels are never scaled: there both ways must end on
the same weights, to the bit, and that is checked.

What is compared is the val accuracy after the last epoch, seed by seed; the interval is Student's for paired
differences.
"""

from __future__ import annotations

import csv
import statistics
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.loading import find_data
from benchmarks.options import Options
from holdfast import Config, train
from holdfast.run.console import Console

_WAYS: dict[str, dict[str, Any]] = {"fast": {}, "full": {"scaled_decode": False, "decode_size": 0}}
_T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}  # by n - 1
_CIFAR_OF_A_CLASS = {"train": 150, "test": 50}


def main(options: Options) -> None:
    """Trains all of them and prints the accuracies, their differences, and whether CIFAR's weights are equal."""
    data = find_data()
    if data is None:
        print("no real pictures; name their folder in HOLDFAST_TEST_DATA")
        return
    torch.set_num_threads(1)  # two would wait for one another wherever anything else runs
    seeds = range(options.turns(5))
    with options.folder() as folder:
        _unpack_some(data / "cifar10_subset" / "cifar10_subset.tar.gz", folder / "cifar")
        pictures = data / "hymenoptera_data"
        large = {"model": "resnet18", "img_size": 64, "epochs": 1 if options.short else 20, "batch_size": 32}
        small = {"model": "cifar-net", "epochs": 1 if options.short else 3}
        if options.wants("ants and bees"):
            _compare("ants and bees, resnet18 at 64 px", pictures, large, seeds, folder)
        if options.wants("CIFAR"):
            _compare("CIFAR subset, cifar-net at 32 px", folder / "cifar", small, seeds, folder, equal=True)


def _compare(
    name: str, data: Path, settings: dict[str, Any], seeds: Sequence[int], folder: Path, *, equal: bool = False
) -> None:
    began = time.perf_counter()
    accuracies: dict[str, list[float]] = {way: [] for way in _WAYS}
    num_equal = 0
    for seed in seeds:
        for way, chosen in _WAYS.items():
            run = folder / f"{data.name}-{seed}-{way}"
            train(
                Config(
                    data=str(data), out=str(run), seed=seed, save_every="1epoch", device="cpu", **settings, **chosen
                ),
                console=Console(quiet=True),
            )
            with (run / "results.csv").open(encoding="utf-8") as file:
                accuracies[way].append(float(list(csv.DictReader(file))[-1]["val_accuracy"]))
        same = _same_weights(*(folder / f"{data.name}-{seed}-{way}" for way in _WAYS))
        num_equal += same
        if equal and not same:
            sys.exit(f"{name}, seed {seed}: the two ways end on different weights, and nothing there can be scaled")
    epochs = settings["epochs"]
    took = time.perf_counter() - began
    print(f"\n{name}, {epochs} epochs, seeds {seeds[0]} to {seeds[-1]}, {took:,.0f} s for all")
    for way, values in accuracies.items():
        print(f"{way}  val accuracy {_mean_and_deviation(values)}   {'  '.join(f'{v:.2%}' for v in values)}")
    differences = [fast - full for fast, full in zip(*accuracies.values(), strict=True)]
    print(f"fast - full, seed by seed: {_mean_and_deviation(differences)}{_interval(differences)}")
    print(f"equal weights, every bit: {num_equal} of {len(differences)} seeds")


def _mean_and_deviation(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.2%}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2%}{deviation}"


def _interval(differences: Sequence[float]) -> str:
    """Returns Student's 95 % interval of the mean of paired differences, in words."""
    quantile = _T_975.get(len(differences) - 1)
    if quantile is None:
        return ""
    half = quantile * statistics.stdev(differences) / len(differences) ** 0.5
    mean = statistics.mean(differences)
    return f", 95 % interval {mean - half:+.2%} to {mean + half:+.2%}"


def _same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(run / "best.safetensors") for run in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _unpack_some(archive: Path, out: Path) -> None:
    """Writes the first pictures of every class of the archive into `out/train` and `out/test`."""
    taken: dict[tuple[str, ...], int] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) != 4 or parts[1] not in _CIFAR_OF_A_CLASS:
                continue
            place = parts[1:3]
            if taken.get(place, 0) >= _CIFAR_OF_A_CLASS[parts[1]]:
                continue
            taken[place] = taken.get(place, 0) + 1
            content = tar.extractfile(member)
            assert content is not None
            target = out.joinpath(*parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
