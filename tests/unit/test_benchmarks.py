"""Benchmarks are seldom run, and import from everywhere: what moves must not leave them behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_benchmark_still_finds_what_it_measures() -> None:
    """Each module is imported, in a process of its own as its imports are heavy, and each has a `main`."""
    program = """
from importlib import import_module
from pathlib import Path
from benchmarks.__main__ import ALL
for path in sorted(Path("benchmarks").glob("*.py")):
    if path.stem != "__main__":
        import_module(f"benchmarks.{path.stem}")
print(*[name for name, module in ALL.items() if not callable(import_module(f"benchmarks.{module}").main)])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
