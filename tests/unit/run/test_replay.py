"""The process at the other end: what it answers, how it fails, how it dies. The real replays are in end_to_end."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from holdfast.errors import DataError, RunError
from holdfast.run import replay
from holdfast.run.replay import Replay


def _replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Replay:
    """Returns a replay whose process runs `text` in place of importing torch."""
    monkeypatch.setattr(replay, "_BEGINNING", f"import json, os, signal, sys, time\n{text}")
    return Replay(tmp_path / "run", tmp_path / "log")


def test_a_step_is_asked_for_and_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line there, one line back."""
    text = (
        "asked = json.loads(sys.stdin.readline())\n"
        "print(json.dumps({'step': 7, 'tensors': {}, 'numbers': asked}), flush=True)\n"
    )
    process = _replay(tmp_path, monkeypatch, text)
    record = process.step()
    assert (record.step, record.numbers) == (7, {"do": "step"})
    process.kill()


@pytest.mark.parametrize("name", ["t", "t" * 60])
def test_what_a_killed_process_leaves_lies_beside_its_log(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prove` removes it there. A path too long for the sockets of workers is left to the system's own folder."""
    text = (
        "import tempfile\n"
        "print(json.dumps({'step': 1, 'tensors': {}, 'numbers': {'at': tempfile.gettempdir()}}), flush=True)\n"
    )
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / name
        folder.mkdir()
        process = _replay(folder, monkeypatch, text)
        expected = folder if name == "t" else Path(tempfile.gettempdir())
        assert Path(process.step().numbers["at"]) == expected
        process.kill()


def test_an_error_of_ours_comes_back_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its class, and with it the exit code, and its message."""
    process = _replay(tmp_path, monkeypatch, "print(json.dumps({'error': 'DataError', 'message': 'cat.jpg: gone'}))")
    with pytest.raises(DataError, match=r"^cat\.jpg: gone$"):
        process.ready()
    process.kill()


@pytest.mark.parametrize("kind", ["", "first_of", "no_such_error"])
def test_any_other_error_becomes_ours_with_its_traceback_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What is no error of ours is told in one line; --traceback finds the other process's own."""
    answer = {"error": kind, "message": "ValueError: odd", "traceback": "File mine.py"}
    process = _replay(tmp_path, monkeypatch, f"print(json.dumps({answer!r}))")
    with pytest.raises(RunError, match=r"^Replaying the run failed: ValueError: odd\.") as caught:
        process.ready()
    assert str(caught.value.__cause__) == "File mine.py"
    process.kill()


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("sys.exit(3)", "ended with exit code 3"),
    ],
)
def test_a_process_that_dies_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, how: str
) -> None:
    """How it ended, and the last lines it printed; a command to it is no error of its own."""
    process = _replay(tmp_path, monkeypatch, f"print('out of room', file=sys.stderr, flush=True)\n{end}")
    with pytest.raises(RunError, match=rf"the process {how}; .*\n  out of room$"):
        process.step()
    process.kill()


def test_a_kill_reaches_the_worker_processes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that the replay started is gone as well; killing twice does nothing."""
    text = (
        "child = os.fork()\n"
        "if child == 0:\n    time.sleep(60)\n"
        "print(json.dumps({'step': child, 'tensors': {}, 'numbers': {}}), flush=True)\ntime.sleep(60)\n"
    )
    process = _replay(tmp_path, monkeypatch, text)
    child = process.step().step
    process.kill()
    process.kill()
    while _is_running(child):  # its death is certain, and the system takes a moment
        time.sleep(0.01)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]
    except (ProcessLookupError, FileNotFoundError):
        return False
