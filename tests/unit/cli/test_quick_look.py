from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from holdfast.cli.quick_look import quick_look


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A small checkpoint with a long name in it."""
    state = {
        "backbone.a_very_long_name_of_a_block.with_another_within.projection.weight": torch.ones(2, 3),
        "b.b": torch.ones(1),
    }
    torch.save({"model": state, "ema": {"b.b": torch.ones(1)}, "epoch": 3}, tmp_path / "a.pt")
    return str(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "options", [[], ["--json"], ["--part", "ema"], ["--role=ema"], ["--depth", "1", "--json"], ["--traceback"]]
)
def test_the_plain_forms_say_what_the_whole_command_says(
    file: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is answered without the command-line library is what its command would print, to the letter."""
    from click.testing import CliRunner

    from holdfast.cli.commands import cli

    assert quick_look(["inspect", *options, file]) == 0
    quick = capsys.readouterr().out
    slow = CliRunner().invoke(cli, ["inspect", file, *options], standalone_mode=False)
    assert (slow.output, slow.exception) == (quick, None)
    assert quick.startswith("{" if "--json" in options else file)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["val", "x"],
        ["inspect"],
        ["inspect", "--help"],
        ["inspect", "a.pt", "-h"],
        ["inspect", "a.pt", "b.pt"],
        ["inspect", "a.pt", "--part"],
        ["inspect", "a.pt", "--part", "--json"],
        ["inspect", "a.pt", "--depth", "two"],
        ["inspect", "a.pt", "--depth", "-1"],
        ["inspect", "a.pt", "--dept", "1"],
        ["inspect", "--", "a.pt"],
    ],
)
def test_anything_else_is_left_to_the_whole_command(arguments: list[str]) -> None:
    """Help, mistakes and other commands are not answered here."""
    assert quick_look(arguments) is None


def _on_a_terminal(arguments: list[str], columns: int) -> str:
    """Runs the command line on a terminal of so many columns; returns what it shows."""
    ours, theirs = pty.openpty()
    size = (
        f"import fcntl, struct, termios; fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, {columns}, 0, 0))"
    )
    program = f"{size}\nfrom holdfast.cli import main\nmain({arguments!r})"
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the terminal is closed when the process has ended
                break
            if not piece:
                break
            shown += piece
        assert process.wait() == 0
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(("columns", "shortened"), [(60, True), (140, False)])
def test_a_terminal_is_filled_and_not_overrun(file: str, columns: int, shortened: bool) -> None:
    """On a real terminal no line of the table wraps; names are shortened only where they have to be."""
    shown = _on_a_terminal(["inspect", file, "--part", "model"], columns)
    table = [line for line in shown.splitlines() if "float32" in line]
    assert len(table) == 2
    assert max(map(len, table)) <= columns
    assert ("…" in table[0]) is shortened


def test_into_a_pipe_names_are_whole(file: str) -> None:
    """What another program reads is not shortened, whatever the width of the terminal around it."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "inspect", file], capture_output=True, text=True, check=True
    )
    assert "  backbone.a_very_long_name_of_a_block.with_another_within.projection.weight  float32" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """`| head -1` ends without a word on stderr."""
    torch.save({f"layer{n}.weight": torch.ones(1) for n in range(20_000)}, tmp_path / "many.pt")
    command = f"{sys.executable} -m holdfast inspect {tmp_path / 'many.pt'} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'many.pt'}  (torch zip)\n", "")


def test_names_that_are_no_text_are_printed_all_the_same(tmp_path: Path) -> None:
    """Half of a surrogate pair in a name makes valid JSON and no traceback."""
    torch.save({"model": {"a.w": torch.ones(1)}, "note\udc80": "x\udcff"}, tmp_path / "a.pt")
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "inspect", "--json", str(tmp_path / "a.pt")], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["metadata"] == {"note\udc80": "x\udcff"}
