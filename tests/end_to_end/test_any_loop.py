"""A loop that is not ours, killed for real and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "any_loop.py"
COMMAND = [sys.executable, "-W", "error", str(EXAMPLE)]


@pytest.mark.row("S3", "S10")
def test_a_loop_of_somebody_elses_killed_in_the_middle_ends_on_the_same_bits(tmp_path: Path) -> None:
    """With a plain DataLoader, a scaler, a schedule and four generators, a SIGKILL changes nothing."""
    whole = subprocess.run([*COMMAND, "whole"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    lines = whole.splitlines()
    assert lines[0] == "starting at epoch 0" and lines[-1].startswith("weights ")
    assert len({line.partition("rate")[2] for line in lines[1:-1]}) > 1, "the schedule has to have something to do"

    with subprocess.Popen([*COMMAND, "cut"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        cut = [
            process.stdout.readline().rstrip() for _ in range(4)
        ]  # three epochs are handed over to be saved, the fourth has begun
        os.kill(process.pid, signal.SIGKILL)
    assert cut == lines[:4]
    again = subprocess.run([*COMMAND, "cut"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    first, *rest = again.splitlines()
    start = int(first.removeprefix("starting at epoch "))
    assert 2 <= start < 6  # the third may still have been on its way to the disk
    assert rest == lines[1 + start :]
