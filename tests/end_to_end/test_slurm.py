"""The SLURM example, with stand-ins for `srun` and `scontrol` on the path: what it does with signals and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "slurm.sh"


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """An environment in which `srun` runs its command here and `scontrol` notes what it was asked."""
    commands = tmp_path / "bin"
    commands.mkdir()
    stand_ins = {
        # As the real one: it passes on what it gets, and ends with its task's code.
        "srun": "shift; \"$@\" & task=$!; trap 'kill -USR1 $task' USR1; trap 'kill -TERM $task' TERM\n"
        "while kill -0 $task 2>/dev/null; do wait $task && code=0 || code=$?; done; exit $code",
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt',
        "holdfast": f'exec {sys.executable} -m holdfast "$@"',
    }
    for name, body in stand_ins.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (commands / name).chmod(0o755)
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}


def _submit(cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    arguments = ["digits", "run", "--model", "lenet", "--epochs", "1", "-j", "0", "--log-every", "1"]
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.row("S10")
def test_a_job_whose_time_is_up_saves_and_is_queued_again_and_ends(tmp_path: Path, cluster: dict[str, str]) -> None:
    """USR1 to the batch script: training saves, the job is requeued with exit 0; the next start finishes the run."""
    with _submit(tmp_path, cluster) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if line.startswith("step 5/"):
                job.send_signal(signal.SIGUSR1)
                break
        said = job.stdout.read()
        assert job.wait(120) == 0, said
    assert "saved. Run the same command to go on." in said
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 4711\n"

    began = time.monotonic()
    with _submit(tmp_path, cluster) as job:
        assert job.stdout is not None
        said = job.stdout.read()
        assert job.wait(300) == 0, f"{said}\nafter {time.monotonic() - began:.0f} s"
    assert "resuming run from step" in said and "done: best epoch 1" in said
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 4711\n"  # not again


def test_a_job_that_fails_is_not_queued_again(tmp_path: Path, cluster: dict[str, str]) -> None:
    """A usage error ends the job with its own code."""
    done = subprocess.run(
        ["bash", str(SCRIPT), "digits", "run", "--model", "lenett"],
        cwd=tmp_path,
        env=cluster,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert not (tmp_path / "scontrol.txt").exists()
