"""All benchmarks by one command: `python -m benchmarks`, or `python -m benchmarks loop help` for some.

Peers run side by side in one process where they can, interleaved, so that a slow moment of the machine hits
all. Figures are medians with the middle half of the spread; ratios are what travels between machines. Peers
that are not installed
(`pip install -e '.[bench]'`) are left out and said.
"""

from __future__ import annotations

import platform
import sys

import torch

from benchmarks import help_time, loop_overhead

ALL = {"help": help_time.main, "loop": loop_overhead.main}


def main() -> None:
    """Runs the benchmarks named on the command line, or all."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}")
    for name in sys.argv[1:] or ALL:
        print(f"\n== {name}")
        ALL[name]()


if __name__ == "__main__":
    main()
