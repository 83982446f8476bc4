"""How long a look into a large file takes, and how much memory, beside a Python that imports two modules.

Each look is the real command in a process of its own, by turns with `python -c "import zipfile, json"`, which is what
any look into these files needs at least. Memory is the process's own peak (VmHWM, as it says itself when it ends),
above that of a Python that does nothing. The command must not have imported torch. Bytecode is cached, as it is where a
package was installed: everybody's first turn writes it, into a folder of the benchmark's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.options import Options
from benchmarks.raw import drop_from_cache, sync_tree
from benchmarks.spread import percentile, summary

_ENDS_WITH = """
import json, re, sys
found = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps([int(found[1]) * 1024, "torch" in sys.modules]), file=sys.stderr)
"""
_INSPECT = """
import runpy, sys
sys.argv[1:] = ["inspect", {!r}]
try:
    runpy.run_module("holdfast", run_name="__main__")
except SystemExit:
    pass
"""
_BESIDE = 'python -c "import zipfile, json"'


def main(options: Options) -> None:
    """Looks into a safetensors file and a `.pt`, whose headers are in the page cache and are not."""
    with options.folder() as folder:
        files = _write(folder / "files", options.size(2000))
        sync_tree(folder)
        looks = {_BESIDE: [sys.executable, "-c", "import zipfile, json"]}
        looks |= {f"holdfast inspect, {f.suffix}": [sys.executable, "-m", "holdfast", "inspect", str(f)] for f in files}
        for cold in (False, True):
            print(f"\n{files[0].stat().st_size / 1e6:,.0f} MB, file {'not ' if cold else ''}in the page cache")
            times: dict[str, list[float]] = {name: [] for name in looks}
            for turn in range(options.turns(15) + 1):
                for name, command in looks.items():
                    if cold:
                        drop_from_cache(files[0].parent)
                    start = time.perf_counter()
                    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=_environment(folder))
                    if turn:
                        times[name].append(time.perf_counter() - start)
            for name, seconds in times.items():
                ratios = [ours / theirs for ours, theirs in zip(seconds, times[_BESIDE], strict=True)]
                print(f"{name:34} {summary(seconds, 'ms', 1e3):>28}   {summary(ratios, '×', digits=2):>24}")
        _memory(files, options.turns(3), _environment(folder))


def _memory(files: list[Path], rounds: int, environment: dict[str, str]) -> None:
    print("\npeak of resident memory above a Python that does nothing")
    bare = percentile([_peak("", environment)[0] for _ in range(rounds)], 50)
    for file in files:
        found = [_peak(_INSPECT.format(str(file)), environment) for _ in range(rounds)]
        words = "torch was imported" if any(with_torch for _, with_torch in found) else "without torch"
        print(f"holdfast inspect, {file.suffix:16} {summary([p - bare for p, _ in found], 'MB', 1e-6):>28}   {words}")


def _peak(program: str, environment: dict[str, str]) -> tuple[int, bool]:
    command = [sys.executable, "-c", program + _ENDS_WITH]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    num_bytes, with_torch = json.loads(done.stderr.splitlines()[-1])
    return num_bytes, with_torch


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def _write(folder: Path, megabytes: int) -> list[Path]:
    """Writes the same weights in both formats: a few hundred tensors, as large networks have."""
    from safetensors.torch import save_file

    folder.mkdir()
    count = 400
    weights = {f"blocks.{n}.weight": torch.zeros(max(1, int(megabytes * 1e6 / 4 / count))) for n in range(count)}
    torch.save(weights, folder / "weights.pt")
    save_file(weights, folder / "weights.safetensors")
    return [folder / "weights.safetensors", folder / "weights.pt"]
