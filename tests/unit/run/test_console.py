from __future__ import annotations

import io

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
