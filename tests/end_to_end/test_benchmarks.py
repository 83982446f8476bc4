"""The benchmarks run, in their shortest form; what they measure is not judged here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a minute and a half of processes that import everybody

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What five benchmarks say, one round each in one process, and that they leave nothing behind."""
    folder = tmp_path_factory.mktemp("disk")
    names = ["digests", "stall", "steps", "durable", "restore", "check"]
    done = _run("-m", "benchmarks", *names, "--short", "--rounds", "1", "--dir", folder)
    assert not list(folder.iterdir())
    return done.stdout


@pytest.mark.parametrize("name", ["digests", "stall", "steps", "durable", "restore", "check"])
def test_a_benchmark_runs(name: str, said: str) -> None:
    """Each prints its table under its name."""
    assert f"\n== {name}\n" in said
    assert said.split(f"== {name}\n")[1].split("\n== ")[0].count("\n") >= 4


@pytest.mark.parametrize("name", ["stall", "durable"])
def test_everybody_who_saves_has_a_row(name: str, said: str) -> None:
    """Both of our ways to save stand beside torch, safetensors and torch.distributed.checkpoint."""
    table = said.split(f"== {name}\n")[1].split("\n== ")[0]
    rows = [row.split("  ")[0] for row in table.splitlines()]
    assert {
        "holdfast", "holdfast background=False", "torch.save + fsync", "safetensors save_file + fsync", "DCP save",
        "DCP async_save", "DCP async_save, staged in a thread",
    } <= set(rows)  # fmt: skip


def test_a_peer_that_is_not_installed_is_left_out_and_said(tmp_path: Path) -> None:
    """The benchmark says so and goes on with the others."""
    script = (
        "import sys; sys.modules['lightning'] = None; sys.modules['blake3'] = None\n"
        f"sys.argv = ['benchmarks', 'durable', 'digests', '--short', '--rounds', '1', '--dir', {str(tmp_path)!r}]\n"
        "import benchmarks.__main__ as b; b.main()"
    )
    said = _run("-c", script).stdout
    assert "Lightning AsyncCheckpointIO is left out: lightning" in said and "blake3 is left out" in said
    assert "\nDCP async_save  " in said and "\nsha256  " in said


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak of a process")
def test_the_benchmarks_in_processes_of_their_own_run(tmp_path: Path) -> None:
    """Memory has our row; growth has a size and the calls on a full store."""
    said = _run(
        "-m", "benchmarks", "memory", "growth",
        "--short", "--rounds", "1", "--only", "holdfast background", "--dir", tmp_path,
    ).stdout  # fmt: skip
    assert "\nholdfast background=False  " in said
    assert "\n20 checkpoints, " in said and "\nprune() " in said
    assert not list(tmp_path.iterdir())


def test_a_benchmark_that_does_not_exist_is_a_usage_error() -> None:
    """The message lists those that do."""
    done = _run("-m", "benchmarks", "stal", check=False)
    assert done.returncode == 2
    assert "no benchmark is called stal; there are help, loop, digests, stall, durable, memory, restore, growth" in (
        done.stderr
    )


def test_the_benchmark_of_the_cache_runs(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of pictures have a row for torchvision in two forms and for each kind of cache."""
    monkeypatch.setenv("HOLDFAST_TEST_DATA", str(real_data))
    said = _run("-m", "benchmarks", "cache", "--short", "--rounds", "1", "--dir", tmp_path).stdout
    for name in ("torchvision  ", "torchvision, Pillow crops", "holdfast --cache off", "holdfast --cache ram",
                 "holdfast --cache disk"):  # fmt: skip
        assert said.count(f"\n{name}") == 2
    assert not list(tmp_path.iterdir())
