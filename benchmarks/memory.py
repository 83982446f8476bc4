"""Memory that a save takes beside the state, at its peak, in states.

Every saver in a process of its own: a tiny save first (imports, threads), then the peak of the resident memory is set
back and one save of the whole state is made. Linux only: it alone lets a process reset its peak.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.options import Options, parse
from benchmarks.savers import savers
from benchmarks.spread import summary
from benchmarks.workload import Numbers

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(options: Options) -> None:
    """Starts a process for each saver and round, and prints the peaks."""
    if not _CLEAR.exists():
        print("left out: only Linux can reset the peak of a process")
        return
    megabytes, rounds = options.size(1000), options.turns(3)
    with options.folder() as folder:
        names = [saver.name for saver in savers(folder, options)]
    print(f"state {megabytes} MB; peak of resident memory above what there was, in states\n")
    for name in names:
        found = [_in_a_process(name, megabytes, options) for _ in range(rounds)]
        kept = statistics.median(one["left_states"] for one in found)
        print(
            f"{name:36} {summary([one['peak_states'] for one in found], '×', digits=3):>28}   kept after {kept:.3f} ×"
        )


def _in_a_process(name: str, megabytes: int, options: Options) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", name, "--size", str(megabytes), "--dir"]
    done = subprocess.run([*command, str(options.directory)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring {name}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure_one(name: str, options: Options) -> dict[str, float]:
    """Returns the peak and what stays while the saver is open, both in states."""
    work, tiny = Numbers(options.size(1000)), Numbers(1)
    with options.folder() as folder:
        chosen = [one for one in savers(folder, Options(only=(name,))) if one.name == name]
        (saver,) = chosen
        for parts in (tiny.parts, work.parts):
            before = resident_bytes("VmRSS")
            reset_peak()
            saver.save(parts)
            saver.before_step()
            saver.wait_until_durable()
            peak, after = resident_bytes("VmHWM"), resident_bytes("VmRSS")
        saver.close()
    return {"peak_states": (peak - before) / work.num_bytes, "left_states": (after - before) / work.num_bytes}


def reset_peak() -> None:
    """Sets the peak of this process's resident memory to what it is now."""
    _CLEAR.write_text("5")


def resident_bytes(what: str) -> int:
    """Returns this process's resident memory (VmRSS), or its peak (VmHWM)."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", _STATUS.read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    chosen_options, (chosen_name,) = parse(sys.argv[1:], "name")
    print(json.dumps(measure_one(chosen_name, chosen_options)))
