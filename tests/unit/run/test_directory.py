from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.config import Config
from holdfast.errors import ConfigError, RunError
from holdfast.run.directory import LOCK_FILE, RunDirectory, now

# Holds a run directory, with a forked child (as a worker process is one) that outlives it.
_HOLDER = """
import os, sys, time
from holdfast.run.directory import RunDirectory
with RunDirectory(sys.argv[1]):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    sys.stdin.readline()
    os.kill(child, 9)
"""
# Tries the lock as any other process would; exits with 1 when it is held.
_CONTENDER = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


@contextmanager
def _held_elsewhere(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process holds `path`; gives that process and the id of its forked child."""
    arguments = [sys.executable, "-W", "ignore", "-c", _HOLDER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def _is_free(path: Path) -> bool:
    arguments = [sys.executable, "-c", _CONTENDER, path / LOCK_FILE]
    return subprocess.run(arguments, capture_output=True, check=False).returncode == 0


@pytest.mark.row("S10")
def test_a_second_process_fails_until_the_first_is_killed(tmp_path: Path) -> None:
    """Two processes never work on one run; the lock falls with its owner even while a forked child lives on."""
    run = tmp_path / "run"
    with _held_elsewhere(run) as (owner, child):
        with pytest.raises(RunError, match=rf"Another process \(process {owner.pid}\) is training in .*run.*--out"):
            RunDirectory(run).__enter__()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        os.kill(child, 0)  # it lives
        with RunDirectory(run):
            assert (run / LOCK_FILE).read_text() == f"process {os.getpid()}\n"


def test_the_same_process_fails_too_and_keeps_the_lock_it_has(tmp_path: Path) -> None:
    """A second hold in one process is refused, and does not let go of the first: POSIX locks fall with any close."""
    with RunDirectory(tmp_path / "run"):
        with pytest.raises(RunError, match="This process is training in"):
            RunDirectory(tmp_path / "run").__enter__()
        assert not _is_free(tmp_path / "run")
    assert _is_free(tmp_path / "run")


def test_a_run_can_be_held_again_after_it_was_let_go(tmp_path: Path) -> None:
    """Leaving the block frees the run, also when it is left by an error."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), RunDirectory(tmp_path / "run"):
            raise ZeroDivisionError
    with RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "other"):
        pass


def test_directories_are_made_as_needed(tmp_path: Path) -> None:
    """Missing folders above the run are made; a new run has not begun."""
    with RunDirectory(tmp_path / "a" / "b" / "c") as directory:
        assert directory.path.is_dir() and not directory.exists
        assert directory.checkpoints == directory.path / "checkpoints"


@pytest.mark.row("T5")
def test_what_was_asked_is_recorded_and_read_back(tmp_path: Path) -> None:
    """The settings and the environment of a run are what they were when it began."""
    config = Config(data="pictures", epochs=3, lr=1e-5, classes=["a", "b"])
    with RunDirectory(tmp_path / "run") as directory:
        directory.begin(config, {"began": now(), "threads": 2})
        assert directory.exists
    again = RunDirectory(tmp_path / "run")
    assert again.config() == config
    assert again.environment()["threads"] == 2


def test_the_environment_does_not_change_a_run_that_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDFAST_… variables of today are not read into the settings of yesterday."""
    with RunDirectory(tmp_path / "run") as directory:
        directory.begin(Config(data="x", epochs=3), {})
    monkeypatch.setenv("HOLDFAST_EPOCHS", "9")
    assert RunDirectory(tmp_path / "run").config().epochs == 3


def test_an_empty_folder_and_a_run_that_has_hardly_begun_are_ours(tmp_path: Path) -> None:
    """A folder that is empty, or holds nothing but our lock, may be used."""
    (tmp_path / "run").mkdir()
    for _ in range(2):
        with RunDirectory(tmp_path / "run") as directory:
            assert not directory.exists


def test_another_programs_folder_fails_and_is_left_alone(tmp_path: Path) -> None:
    """A folder with files that are not ours is refused, with some of their names, and nothing is written into it."""
    for name in ("thesis.tex", "data.csv", "zebra.jpg", "main.py"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match=r"holds files that are not ours \(data\.csv, main\.py, thesis\.tex\)"):
        RunDirectory(tmp_path).__enter__()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.csv", "main.py", "thesis.tex", "zebra.jpg"]


def test_another_programs_config_fails_before_anything_is_made(tmp_path: Path) -> None:
    """A folder whose config.yaml is another program's is refused, and nothing of ours is left in it."""
    (tmp_path / "config.yaml").write_text("trainer:\n  gpus: 8\n")
    with pytest.raises(ConfigError, match=r"holds files that are not ours \(config\.yaml\)"):
        RunDirectory(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "trainer:\n  gpus: 8\n"


def test_a_file_as_the_run_directory_fails(tmp_path: Path) -> None:
    """--out that names a file is refused, and the file is as it was."""
    (tmp_path / "model.pth").write_text("precious")
    with pytest.raises(ConfigError, match=r"--out .*model\.pth is a file\. Give a folder"):
        RunDirectory(tmp_path / "model.pth").__enter__()
    assert (tmp_path / "model.pth").read_text() == "precious"


def test_a_place_where_no_folder_can_be_fails(tmp_path: Path) -> None:
    """A folder below a file cannot be made; the message names the place and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"run directory .*file/run: Not a directory\. Give another place with --out"):
        RunDirectory(tmp_path / "file" / "run").__enter__()


def test_a_write_that_the_disk_refuses_fails_by_name(tmp_path: Path) -> None:
    """An error of the disk names the file."""
    with RunDirectory(tmp_path / "run") as directory:
        (directory.path / "results.csv").mkdir()
        with pytest.raises(RunError, match=r"Writing .*results\.csv: "):
            directory.write("results.csv", "a,b\n")
        assert not [p.name for p in directory.path.iterdir() if "results" in p.name and p.name != "results.csv"]


@pytest.mark.parametrize("content", [None, "", "{", b"\xff\xfe"])
def test_a_json_file_that_is_gone_or_damaged_reads_as_none(tmp_path: Path, content: str | bytes | None) -> None:
    """A JSON file reads as nothing; what the run was begun with cannot be done without, and is asked back by name."""
    directory = RunDirectory(tmp_path)
    if content is not None:
        (tmp_path / "environment.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert directory.read_json("environment.json") is None
    with pytest.raises(RunError, match=r"environment\.json is missing or damaged\. Put it back"):
        directory.environment()
