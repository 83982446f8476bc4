"""All benchmarks by one command: `python -m benchmarks`, or `python -m benchmarks loop help` for some.

Peers run side by side in one process where they can, interleaved, so that a slow moment of the machine hits
all. Figures are medians with the middle half of the spread; ratios are what travels between machines. Peers
that are not installed
(`pip install -e '.[bench]'`) are left out and said.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib import import_module

import torch

from benchmarks.options import add_options, options_of

ALL = {
    "help": "help_time",
    "loop": "loop_overhead",
    "digests": "digests",
    "stall": "stall",
    "steps": "steps",
    "durable": "durable",
    "memory": "memory",
    "restore": "restore",
    "growth": "growth",
    "opening": "opening",
    "inspecting": "inspecting",
    "cache": "caching",
    "check": "checking",
    "loading": "loading",
    "accuracy": "accuracy",
    "scan": "scanning",
}


def main() -> None:
    """Runs the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ALL)}; all of them by default")
    add_options(parser)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - ALL.keys():
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}{load}")
    for name in arguments.names or ALL:
        print(f"\n== {name}", flush=True)
        import_module(f"benchmarks.{ALL[name]}").main(options_of(arguments))


if __name__ == "__main__":
    main()
