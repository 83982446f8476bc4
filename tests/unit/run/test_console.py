from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from holdfast.run.console import Console


def test_talk_goes_to_stdout_and_beside_data_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """With `to_stderr` stdout is left to data."""
    Console().say("hello")
    Console(to_stderr=True).say("there")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("hello\n", "there\n")


def test_quiet_says_only_what_went_wrong_and_lines_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages are dropped, warnings and lines are not."""
    console = Console(quiet=True)
    console.say("hello")
    console.warn("beware")
    console.line("step 1/2")
    assert capsys.readouterr().out == "beware\nstep 1/2\n"


def test_elsewhere_than_on_a_terminal_lines_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """No colours, no markup taken for a command, no wrapping of long lines, no bar."""
    console = Console()
    text = "[bold]" + "x" * 300
    console.say(text, "bold green")
    with console.progress("training", 10) as bar:
        assert not bar.is_shown
        bar.update(5, "loss 1")
    assert capsys.readouterr().out == text + "\n"


class _FullDisk(io.StringIO):
    """A stream into a file that has no room, or onto a terminal that is gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:  # noqa: ARG002  # the name is TextIO's
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_cannot_be_printed_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """It is told once on stderr, and the log keeps every message."""
    monkeypatch.setattr(sys, "stdout", _FullDisk(number))
    console = Console()
    console.log = tmp_path / "log.txt"
    console.say("hello")
    console.warn("beware")
    console.line("step 1/2")
    assert capsys.readouterr().err == (
        f"Printing: {os.strerror(number)}. Going on without; a run's log.txt keeps what is said.\n"
    )
    log = console.log.read_text()
    assert "hello" in log
    assert "beware" in log


def test_a_pipe_that_nobody_reads_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`| head` wants no more, and is not worked for."""
    monkeypatch.setattr(sys, "stdout", _FullDisk(errno.EPIPE))
    with pytest.raises((BrokenPipeError, SystemExit)):
        Console().line("step 1/2")


class _Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_lines_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of talk or warning is longer than the terminal is wide; what is to be copied stays on its line."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", terminal := _Terminal())
    console = Console()
    text = "  note: twelve pictures of kinds that are not read were left out of the training set"
    console.say(text)
    console.warn(text)
    lines = [line.removeprefix("\x1b[33m").removesuffix("\x1b[0m") for line in terminal.getvalue().splitlines()]
    assert max(map(len, lines)) <= 40 and len(lines) == 6
    assert " ".join(lines).split() == [*text.split(), *text.split()]
    console.say(text, wrap=False)
    assert terminal.getvalue().endswith(f"{text}\n")
