from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.row("D6")

# Two workers that work for ever, without torch's own look at the main process, which kills itself.
ORPHANS = """
import multiprocessing, os, signal, sys, threading
from holdfast.data.loading import workers

workers._LOOK_AGAIN = 0.2

def work(ready):
    workers.begin_work(0)
    ready.set()
    threading.Event().wait()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for _ in range(2):
        ready = context.Event()
        context.Process(target=work, args=(ready,)).start()
        ready.wait()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_when_the_main_process_was_killed(method: str, tmp_path: Path) -> None:
    """They hold its pipes and locks; whoever reads a pipe of theirs gets to its end."""
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    finished = subprocess.run([sys.executable, script, method], capture_output=True, timeout=120, check=False)
    assert finished.returncode == -9
