from __future__ import annotations

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
