"""The examples run as they stand, in a process of their own; those that resume are run twice."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _run(name: str, *arguments: str, cwd: Path) -> str:
    command = ["bash"] if name.endswith(".sh") else [sys.executable, "-W", "error"]
    # `python` in a script means the one that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "last"), [("own_loop.py", 60), ("gan.py", 40)])
def test_loops_of_your_own_go_on_where_they_were(name: str, last: int, tmp_path: Path) -> None:
    """The first start begins at step 0, the second at the last save."""
    assert "starting at step 0" in _run(name, "run", cwd=tmp_path)
    assert f"starting at step {last}: finished" in _run(name, "run", cwd=tmp_path)


def test_a_loop_of_somebody_elses_goes_on(tmp_path: Path) -> None:
    """any_loop.py: torch's own data loader and random numbers; the second start finds it finished."""
    assert "starting at epoch 0" in _run("any_loop.py", "run", cwd=tmp_path)
    assert "starting at epoch 6" in _run("any_loop.py", "run", cwd=tmp_path)


@pytest.mark.parametrize("name", ["train_from_python.py", "look_at_models.py", "open_anything.py", "warm_start.py"])
def test_examples_in_python_run(name: str, tmp_path: Path) -> None:
    """They end well and say something, and leave nothing outside `runs`."""
    assert _run(name, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"runs"}


@pytest.mark.row("D3")
def test_the_example_of_points_learns(tmp_path: Path) -> None:
    """landmarks.py on pictures that it draws: missing points are said, and the loss falls."""
    said = _run("landmarks.py", cwd=tmp_path)
    assert "points are missing" in said
    losses = [float(line.split()[3].rstrip(",")) for line in said.splitlines() if line.startswith("epoch")]
    assert losses[-1] < losses[0]


@pytest.mark.row("D3")
def test_the_example_of_points_reads_the_real_faces(real_data: Path, tmp_path: Path) -> None:
    """landmarks.py on the 69 faces with 68 points each."""
    said = _run("landmarks.py", str(real_data / "faces/face_landmarks.csv"), cwd=tmp_path)
    assert "points lie off their picture, on 6 pictures" in said and "epoch 3" in said


def test_the_tour_of_the_command_line_runs(tmp_path: Path) -> None:
    """tour.sh: check, show, train, finished, one more epoch, val, predict, inspect, a CSV."""
    said = _run("tour.sh", "tour", cwd=tmp_path)
    assert "is finished: 4 epochs" in said and "from 4 to 5 epochs" in said
    files = ("check.html", "grid.png", "val.json", "predictions.csv", "predictions.json", "run-csv/best.safetensors")
    for name in files:
        assert (tmp_path / "tour" / name).stat().st_size > 0


def test_the_tour_of_divisions_runs(tmp_path: Path) -> None:
    """split.sh: a table, groups, folds, and train, val and show by them; no writer stands in two sets of a run."""
    said = _run("split.sh", "tour", cwd=tmp_path)
    assert "7 groups by 'writer'" in said and "wrote folds.csv" in said
    for run in ("run", "fold-2"):
        with (tmp_path / "tour" / run / "split.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len({row["group"] for row in rows}) == 7
        assert len({(row["group"], row["set"]) for row in rows}) == 7


def test_the_demo_ends_on_the_same_bytes(tmp_path: Path) -> None:
    """`holdfast demo` trains, is killed, resumes, and finds the same bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The same, to the last bit." in done.stdout and "resuming" in done.stdout
