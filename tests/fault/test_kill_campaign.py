"""SIGKILL, again and again, on a run with a large state, half of the kills inside a save."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("large_run.py")
SAVE_EVERY = 5


def _start(folder: Path, steps: int, width: int, *, background: bool) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), str(folder), str(steps), str(SAVE_EVERY), str(width), str(int(background))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _lines(folder: Path) -> list[str]:
    path = folder / "steps.txt"
    return path.read_text().splitlines() if path.exists() else []


def _is_saving(folder: Path) -> bool:
    checkpoints = folder / "checkpoints"
    return checkpoints.is_dir() and any(entry.name.startswith(".holdfast-step-") for entry in checkpoints.iterdir())


def _kill(process: subprocess.Popen[str], folder: Path, chance: random.Random, *, inside_a_save: bool) -> None:
    """Waits until the process trains, then kills it: at a random moment, or at one inside a save."""
    starts = sum(line.startswith("start") for line in _lines(folder))
    while process.poll() is None and sum(line.startswith("start") for line in _lines(folder)) == starts:
        time.sleep(0.005)
    time.sleep(chance.uniform(0.2, 1.2))
    while inside_a_save and process.poll() is None and not _is_saving(folder):
        time.sleep(0.0005)
    if inside_a_save:
        time.sleep(chance.uniform(0, 0.05))
    process.kill()


def _lost(lines: list[str]) -> list[int]:
    """Returns for each restart how many steps that had been made were to be made again."""
    lost, made = [], 0
    for line in lines:
        if line.startswith("start"):
            lost.append(made - int(line.split()[1]))
        else:
            made = int(line)
    return lost[1:]


@pytest.mark.row("S10")
@pytest.mark.parametrize("background", [False, True], ids=["waiting for each save", "saves in the background"])
def test_a_run_with_a_large_state_survives_every_kill(tmp_path: Path, long_form: bool, background: bool) -> None:
    """No restart needs help, the bytes are the same, and what is lost is one interval; and, beside the loop, one save.

    A loop that waits for each save never loses more than an interval. One that goes on loses the interval, and the
    steps that it makes while a save is written.
    """
    kills, steps, width = (200, 2000, 2850) if long_form else (3, 250, 1000)
    with _start(tmp_path / "undisturbed", steps, width, background=background) as process:
        said = process.communicate(timeout=3000)[0]
        assert process.returncode == 0, said
    folder, chance = tmp_path / "killed", random.Random(7)
    killed = inside = 0
    while True:
        with _start(folder, steps, width, background=background) as process:
            if killed < kills:
                _kill(process, folder, chance, inside_a_save=killed % 2 == 0)
            said = process.communicate(timeout=3000)[0]
        if process.returncode == 0:
            break
        assert process.returncode == -9, said  # ours, and no failure of its own
        killed += 1
        inside += _is_saving(folder)
    lost = _lost(_lines(folder))
    print(f"{killed} kills, {inside} inside a save; steps lost: at most {max(lost)}, mean {sum(lost) / len(lost):.1f}")
    assert killed == kills if long_form else killed >= 2
    # The next save waits for the one before: never more than two are at stake.
    assert max(lost) <= (2 * SAVE_EVERY if background else SAVE_EVERY)
    for part in ("model", "optimizer"):
        name = f"step-{steps:08d}/{part}.safetensors"
        ours, theirs = folder / "checkpoints" / name, tmp_path / "undisturbed" / "checkpoints" / name
        assert ours.read_bytes() == theirs.read_bytes()
    assert not _is_saving(folder)
    shutil.rmtree(tmp_path / "killed")
