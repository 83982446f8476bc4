from __future__ import annotations

import fcntl
import importlib
import inspect
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from holdfast.cli.app import COMMANDS, cli, main
from holdfast.config import FIELDS
from holdfast.errors import ConfigError, DataError, HoldfastError


def _command(name: str) -> click.Command:
    found: click.Command = importlib.import_module(f"holdfast.cli.{name}").command
    return found


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Runs the command line in this process; returns exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


@pytest.fixture(autouse=True)
def _path_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps what the command line does to sys.path to the test, which runs in an empty folder."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """`holdfast COMMAND --help` names the command's usage and every option, and exits with 0."""
    code, out, err = _run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: holdfast {name} ")
    for parameter in _command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(name: str) -> None:
    """Nothing on the command line goes unexplained, and each command can show where an error arose."""
    command = _command(name)
    assert command.name == name
    assert inspect.getdoc(command.callback)
    for one in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert inspect.getdoc(one.callback)
        options = [p for p in one.params if isinstance(p, click.Option)]
        assert [o.name for o in options if not o.help] == []
        assert "--traceback" in {flag for option in options for flag in option.opts}


def test_the_overview_lists_every_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast --help` has each command and what it does; the list and the files agree."""
    code, out, _ = _run(capsys, "--help")
    assert code == 0
    for name, text in COMMANDS.items():
        assert f"  {name} " in out and text in " ".join(out.split())
    folder = Path(importlib.import_module("holdfast.cli").__file__ or "").parent
    files = {
        p.stem
        for p in folder.glob("*.py")
        if "@click.command(" in (text := p.read_text(encoding="utf-8")) or '@click.group("' in text
    }
    assert files == set(COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    """The command line, its overview and every command's help come without torch, NumPy or Pillow."""
    program = (
        "import sys\n"
        "import holdfast.cli\n"
        "try:\n"
        "    holdfast.cli.main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    print(sorted({'torch', 'numpy', 'PIL', 'torchvision', 'timm'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_a_command_the_overview_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast` alone shows what there is, and is a usage error."""
    code, out, err = _run(capsys)
    assert code == 2
    assert "Commands:" in out + err


@pytest.mark.row("T5")
def test_every_setting_with_a_flag_is_in_the_help_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    """Each setting of a run has its flags, with every alias, on the command line."""
    _, out, _ = _run(capsys, "train", "--help")
    words = set(out.replace(",", " ").replace("/", " ").split())
    options = {option.name: option for option in _command("train").params}
    for name, field in FIELDS.items():
        if name == "data" or not field.metadata["flags"]:
            continue
        for flag in "/".join(field.metadata["flags"]).split("/"):
            assert flag in words, (name, flag)
        assert field.metadata["help"] in str(getattr(options[name], "help", ""))
        assert options[name].default in (None, click.core.UNSET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "There is no command 'trian'. Did you mean 'train'?"),
        (["inspekt", "x"], "There is no command 'inspekt'. Did you mean 'inspect'?"),
        (["qqqqq"], "There is no command 'qqqqq'."),
        (["train", "digits", "--epoch", "3"], "--epochs"),
        (["predict", "m", "p", "--top_k", "3"], "--top-k"),
        (["--versoin"], "--version"),
    ],
)
def test_an_unknown_command_or_option_fails_with_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """A misspelt word is a usage error that offers the right one, on stderr."""
    code, out, err = _run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train"], 2, "DATA is missing: a folder of class folders"),
        (["train", "nowhere"], 3, "nowhere"),
        (["train", "digits", "--epochs", "many"], 2, "epochs is 'many' on the command line; expected a whole number"),
        (["train", "digits", "--epochs", "+x"], 2, "--epochs +x: expected a number of epochs, or +N for N more"),
        (
            ["train", "digits", "--set", "epoch=1"],
            2,
            "Unknown setting 'epoch' in --set epoch=1. Did you mean 'epochs'?",
        ),
        (["train", "digits", "--schedule", "cosin"], 2, "Did you mean 'cosine'?"),
        (["train", "digits", "-c", "nowhere.yaml"], 2, "Reading the settings in nowhere.yaml"),
        (["train", "digits", "--save-every", "often"], 2, "save_every is 'often'"),
        (["val", "nowhere"], 2, "There is no model at nowhere"),
        (["predict", "nowhere", "x.png"], 2, "There is no model at nowhere"),
        (["predict", "nowhere"], 2, "Missing argument 'IMAGES...'"),
        (["inspect", "nowhere"], 1, "nowhere"),
        (["show", "nowhere"], 3, "nowhere"),
        (["show", "digits", "-o", "nowhere/a.png"], 2, "Writing nowhere/a.png: No such file or directory."),
        (["models", "--show", "lenett"], 2, "There is no model 'lenett'"),
        (["models", "no such model"], 1, "no model has 'no such model' in its name"),
    ],
)
def test_errors_are_one_message_with_the_right_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """What is wrong is said on stderr, without a traceback, and stdout stays empty."""
    found, out, err = _run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (HoldfastError("broken so"), 1, "holdfast: broken so\n"),
        (ConfigError("asked so"), 2, "holdfast: asked so\n"),
        (DataError("read so"), 3, "holdfast: read so\n"),
        (KeyError("a bug"), 1, "holdfast: unexpected KeyError: 'a bug'\nRun again with --traceback to see where.\n"),
        (MemoryError(), 1, "holdfast: unexpected MemoryError: \nRun again with --traceback to see where.\n"),
        (KeyboardInterrupt(), 130, "\nstopped\n"),
    ],
)
def test_whatever_goes_wrong_ends_in_a_message_and_a_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    """Errors of ours print as they are with their own code; a bug is one line and the way to its traceback."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("holdfast.models.list_models", fail)
    assert _run(capsys, "models") == (code, "", message)


def test_traceback_shows_where_an_error_arose(capsys: pytest.CaptureFixture[str]) -> None:
    """With --traceback the whole story is on stderr, and the code is the same."""
    code, _, err = _run(capsys, "val", "nowhere", "--traceback")
    assert code == 2
    assert "Traceback" in err and "ConfigError: There is no model at nowhere" in err


def test_your_own_modules_are_found_in_the_folder_you_stand_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`package.module:Class` means the user's folder, also for the installed program, which has it not on its path."""
    (tmp_path / "net_in_this_folder.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(48, num_classes))\n"
    )
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    code, out, err = _run(capsys, "models", "--show", "net_in_this_folder:Net", "--img-size", "4", "--num-classes", "2")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "98 parameters, 0 buffer values"


def test_a_closed_pipe_is_no_error() -> None:
    """When nobody reads its output any more (`| head -1`), the program ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [["inspect", "a.pt"], ["models"], ["--help"], ["verify", "a.pt", "--json"]])
def test_a_full_disk_behind_stdout_is_said_as_that(tmp_path: Path, arguments: list[str]) -> None:
    """`> file` on a full disk is exit code 1 and a line of what happened, not something unexpected."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("holdfast: Printing to standard output: No space left on device.")


@pytest.mark.row("M5")
def test_models_shows_names_shapes_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast models --show` lists every tensor and the totals, as text and as JSON."""
    import json

    arguments = ["models", "--show", "lenet", "--channels", "1", "--img-size", "28"]
    code, out, _ = _run(capsys, *arguments)
    assert code == 0
    assert out.splitlines()[0].split() == ["conv1.weight", "parameter", "float32", "[6,", "1,", "5,", "5]", "150"]
    assert out.splitlines()[-1] == "61,706 parameters, 0 buffer values"
    _, out, _ = _run(capsys, *arguments, "--json")
    table = json.loads(out)
    assert (table["name"], table["num_parameters"], table["num_trained"]) == ("lenet", 61706, 61706)
    assert table["tensors"][0] == {
        "name": "conv1.weight",
        "shape": [6, 1, 5, 5],
        "dtype": "float32",
        "kind": "parameter",
    }


@pytest.mark.row("M4")
def test_models_lists_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    """A pattern narrows the list; --json gives it as data."""
    assert _run(capsys, "models", "cifar") == (0, "cifar-net\n", "")
    assert _run(capsys, "models", "cifar", "--json") == (0, '[\n "cifar-net"\n]\n', "")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast --version` names the installed version."""
    from importlib.metadata import version

    code, out, _ = _run(capsys, "--version")
    assert code == 0 and version("holdfast") in out


def test_python_m_holdfast_is_the_same_program(tmp_path: Path) -> None:
    """`python -m holdfast` starts the same command line, with no console script installed."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "--help"], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout == CliRunner().invoke(cli, ["--help"], prog_name="holdfast").stdout


def test_an_error_is_broken_between_words_on_a_terminal(tmp_path: Path) -> None:
    """No line of it is wider than the terminal, and no word is cut; in a pipe it is one line."""
    command = [sys.executable, "-m", "holdfast", "train", str(tmp_path / "nowhere")]
    terminal, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("4H", 24, 50, 0, 0))
    assert subprocess.run(command, stderr=inner, check=False).returncode == 3
    os.close(inner)
    shown = os.read(terminal, 10_000).decode().splitlines()
    os.close(terminal)
    piped = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False).stderr
    assert piped.count("\n") == 1
    assert " ".join(shown).split() == piped.split()
    assert len(shown) > 2 and all(len(line) <= 50 for line in shown if "/" not in line)
