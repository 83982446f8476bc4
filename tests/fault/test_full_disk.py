from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.checkpoints import files

COMMAND = ["train", "digits", "--model", "lenet", "--epochs", "2", "--save-every", "8", "--keep", "1", "-j", "0"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB of its own; skips where this user may mount none."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a file system: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model that the run ends on when nothing goes wrong."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    subprocess.run(
        [sys.executable, "-m", "holdfast", *COMMAND, "--out", str(out)], check=True, capture_output=True, timeout=300
    )
    return (out / "best.safetensors").read_bytes()


def _fill(place: Path) -> Path:
    """Takes the last byte of a disk; returns the file to delete for space."""
    path = place / "filler"
    with path.open("wb", buffering=0) as filler:
        for size in (1 << 16, 1 << 12):
            chunk = bytes(size)
            with contextlib.suppress(OSError):
                while filler.write(chunk):
                    pass
    return path


def _train(out: Path, on_line: Callable[[str], object]) -> tuple[int, str]:
    """Runs the command, hands each line to `on_line`, and returns exit code and output."""
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast", *COMMAND, "--out", str(out), "--log-every", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as process:
        lines: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            on_line(line)
        code = process.wait(300)
    text = "".join(lines)
    assert "Traceback" not in text
    return code, text


def _wait_for(checkpoint: Path) -> None:
    """Until a background save has published `checkpoint`: the line of a step may come before that."""
    end = time.monotonic() + 60
    while not checkpoint.exists():
        assert time.monotonic() < end, f"{checkpoint} was never published"
        time.sleep(0.001)


@pytest.mark.row("S10")
def test_training_survives_a_full_disk_and_saves_again_when_there_is_space(
    small_disk: Path, undisturbed: bytes
) -> None:
    """Saves fail and are said, the good checkpoint stays, saves come back with the space, and the end is the same."""
    out = small_disk / "run"
    filler: list[Path] = []
    said: list[str] = []
    kept: list[list[str]] = []

    def on_line(line: str) -> None:
        if line.startswith("step 10/"):
            _wait_for(out / "checkpoints" / "step-00000008")
            filler.append(_fill(small_disk))
        if "Training goes on, and the next save tries again." in line:
            said.append(line)
            kept.append([path.name for path in (out / "checkpoints").iterdir()])
            if len(said) == 2:
                filler[0].unlink()

    code, text = _train(out, on_line)
    assert code == 0, text
    assert len(said) == 2
    assert "checkpoints/step-" in said[0] and os.strerror(errno.ENOSPC) in said[0]
    assert all("step-00000008" in names for names in kept)  # nothing good was deleted
    assert (out / "best.safetensors").read_bytes() == undisturbed
    assert all(line.strip() in (out / "log.txt").read_text() for line in said[1:])


@pytest.mark.row("S10")
def test_a_last_save_that_cannot_be_made_is_exit_1_and_says_what_to_do(small_disk: Path, undisturbed: bytes) -> None:
    """A disk that stays full fails the run at its end; with space again, the same command ends on the same bytes."""
    out = small_disk / "run"
    filler: list[Path] = []

    def on_line(line: str) -> None:
        if line.startswith("step 10/"):
            _wait_for(out / "checkpoints" / "step-00000008")
            filler.append(_fill(small_disk))

    code, text = _train(out, on_line)
    assert code == 1, text
    goes_on = re.search(
        r"make room or mend the disk, and run the same command again. It goes on from (step \d+)\.", text
    )
    assert goes_on, text
    filler[0].unlink()
    code, text = _train(out, len)
    assert code == 0, text
    assert f"from {goes_on[1]} of 78" in text
    assert (out / "best.safetensors").read_bytes() == undisturbed


@pytest.mark.row("S10")
def test_training_survives_a_folder_that_vanishes_and_comes_back(tmp_path: Path, undisturbed: bytes) -> None:
    """While the run's folder is out of reach nothing is written anywhere else; back again, saves go on."""
    out, away = tmp_path / "run", tmp_path / "away"
    said: list[str] = []

    def on_line(line: str) -> None:
        if line.startswith("step 10/"):
            out.rename(away)
        if "Training goes on, and the next save tries again." in line:
            said.append(line)
            assert not out.exists()
            if len(said) == 2:
                away.rename(out)

    code, text = _train(out, on_line)
    assert code == 0, text
    assert all("Saving" in line for line in said)
    assert "is not there any more" in said[-1]  # the first may have been in the middle of its files
    assert (out / "best.safetensors").read_bytes() == undisturbed


@pytest.mark.row("S10")
@pytest.mark.parametrize("number", [errno.EIO, pytest.param(errno.EDQUOT, marks=pytest.mark.slow)])
def test_training_survives_an_error_of_the_disk(
    tmp_path: Path, holdfast: Any, monkeypatch: pytest.MonkeyPatch, undisturbed: bytes, number: int
) -> None:
    """Whatever the disk answers to a sync, training goes on, and the run ends on the same bytes."""
    syncs = 0
    real = files.sync_file

    def sync(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        if 30 <= syncs < 33:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(files, "sync_file", sync)
    said = holdfast(*COMMAND, "--out", tmp_path / "run")
    assert said.code == 0, said.out + said.err
    assert f"{os.strerror(number)}. The checkpoints before it are unharmed. Training goes on" in said.out
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == undisturbed
    shutil.rmtree(tmp_path / "run")
