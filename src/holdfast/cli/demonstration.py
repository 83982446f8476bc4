"""What `holdfast demo` does: it runs the real command line, kills it for good, and lets the bytes speak."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import click

from holdfast.data.arrays import load_digits
from holdfast.data.looking.grid import draw_grid
from holdfast.errors import ConfigError, RunError

_EPOCHS = 8
_KILL_AT = 0.55  # of the training


def demonstrate(out: Path) -> int:
    """Trains on digits twice into `out`, once undisturbed and once killed half-way, and compares.

    Returns:
        0 when the weights are the same to the last byte, 4 when they are not.

    Raises:
        ConfigError: `out` is in use.
        RunError: a command that should have worked did not.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is there already. Remove it, or give another --out.")
    whole, killed = out / "undisturbed", out / "killed"
    click.echo(f"1. Training on 1,797 handwritten digits, undisturbed ({_EPOCHS} epochs).")
    _run(whole)
    click.echo("\n2. The same again, but this one is killed half-way with SIGKILL: no warning, no clean-up.")
    step = _run_and_kill(killed)
    click.echo(f"   killed after step {step}.")
    click.echo("\n3. The same command again:")
    click.echo(f"   $ {_shown(killed)}")
    _run(killed, show="resuming")
    first, second = _digest(whole), _digest(killed)
    click.echo("\n4. The last checkpoint's weights, SHA-256 of model.safetensors:")
    click.echo(f"   undisturbed       {first}\n   killed, resumed   {second}")
    if first != second:
        click.secho("   They differ. That is a bug: please report it with both folders.", fg="red")
        return 4
    click.secho("   The same, to the last bit.", fg="green")
    _predict_some(whole, out / "pictures")
    click.echo(
        f"\nEverything lies in {out}. Try next, on your own pictures (one folder a class):\n"
        "   holdfast train path/to/pictures\n"
        "   press Ctrl-C whenever you like, and run the same command again"
    )
    return 0


def _command(out: Path) -> list[str]:
    flags = ["--epochs", str(_EPOCHS), "--save-every", "25", "--log-every", "1", "--out", str(out)]
    return [sys.executable, "-m", "holdfast", "train", "digits", *flags]


def _shown(out: Path) -> str:
    return " ".join(["holdfast", *_command(out)[3:]])


def _run(out: Path, show: str = "") -> None:
    with subprocess.Popen(_command(out), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(("epoch", "done")) or (show and line.startswith(show)):
                click.echo(f"   {line.rstrip()}")
    if process.returncode:
        raise RunError(f"`{_shown(out)}` ended with exit code {process.returncode}; what it said stands above.")


def _run_and_kill(out: Path) -> int:
    step = 0
    with subprocess.Popen(_command(out), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):
                step, total = (int(number) for number in line.split()[1].split("/"))
                if step >= total * _KILL_AT:
                    process.send_signal(signal.SIGKILL)
                    break
    return step


def _digest(run: Path) -> str:
    newest = max((run / "checkpoints").glob("step-*"))
    return hashlib.sha256((newest / "model.safetensors").read_bytes()).hexdigest()


def _predict_some(run: Path, folder: Path) -> None:
    """Writes a few digits as PNGs and has the command line name them."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    for index in (1700, 1710, 1720):
        draw_grid([digits.read(index)], [""], cell=64).crop((4, 4, 68, 68)).convert("L").save(
            folder / f"digit-{index}.png"
        )
    click.echo(f"\n5. A few pictures:\n   $ holdfast predict {run} {folder} --top-k 2")
    arguments = [sys.executable, "-m", "holdfast", "predict", str(run), str(folder), "--top-k", "2"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"predict failed: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        click.echo(f"   {line}")
