"""How long `holdfast --help` takes, as a ratio to `python -c pass`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.options import Options
from benchmarks.spread import summary

ROUNDS = 21


def main(options: Options) -> None:
    """Starts both by turns and prints medians and the ratio."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "holdfast --help": [sys.executable, "-m", "holdfast", "--help"],
        "holdfast train --help": [sys.executable, "-m", "holdfast", "train", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(options.turns(ROUNDS) + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            if round_number:  # the first fills caches
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["python -c pass"])
    for name, values in seconds.items():
        print(f"{name:22} {summary(values, 'ms', 1e3):>28}   {statistics.median(values) / base:5.1f} ×")
