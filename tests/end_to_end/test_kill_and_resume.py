"""The promise itself: kill it whenever you like, run the same command, and it ends on the same bytes."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

# --import-mode=importlib keeps test folders off sys.path; the campaign's own process finds it through PYTHONPATH.
_spec = importlib.util.spec_from_file_location("campaign", Path(__file__).with_name("campaign.py"))
assert _spec is not None and _spec.loader is not None
campaign = importlib.util.module_from_spec(_spec)
sys.modules["campaign"] = campaign
_spec.loader.exec_module(campaign)

EVERYTHING: list[str | Path] = [
    "--model", "campaign:NetWithEverything", "--train-transform", "campaign:augment", "--img-size", "48",
    "--epochs", "4", "--batch-size", "16", "--optimizer", "sgd", "--lr", "0.05",
    "--save-every", "3", "--log-every", "1",
]  # fmt: skip


def _survives(data: str | Path, flags: list[str | Path], folder: Path, kills: int, *, most_steps: int) -> None:
    """Trains undisturbed, then with `kills` SIGKILLs under changing numbers of workers, and compares the bytes."""
    chance = random.Random(7)
    campaign.run_to_end([data, *flags, "--out", "whole"], folder)
    killed = 0
    while killed < kills:
        workers = ["--workers", str(chance.choice([0, 1, 2, 3]))]
        if not campaign.run_and_kill([data, *flags, "--out", "killed", *workers], folder, chance, most_steps):
            break
        killed += 1
    assert killed >= kills // 2, f"it reached its end after {killed} kills; give it more steps to live through"
    last_words = campaign.run_to_end([data, *flags, "--out", "killed"], folder)
    assert "done:" in last_words or "is finished" in last_words
    assert campaign.last_weights(folder / "killed") == campaign.last_weights(folder / "whole")
    assert (folder / "killed/predictions.csv").read_bytes() == (folder / "whole/predictions.csv").read_bytes()


@pytest.mark.row("S10", "T1", "D5", "D6")
def test_killed_runs_end_on_the_same_bytes(real_data: Path, tmp_path: Path, long_form: bool) -> None:
    """SIGKILL at random moments, workers changed at every restart, every kind of randomness: the same weights."""
    kills, most_steps = (25, 4) if long_form else (4, 20)
    _survives(real_data / "hymenoptera_data", [*EVERYTHING, "--workers", "2"], tmp_path, kills, most_steps=most_steps)


@pytest.mark.row("M3", "S10")
def test_killed_runs_of_the_dynamic_net_end_on_the_same_bytes(tmp_path: Path, long_form: bool) -> None:
    """The graph changes at every call, and still a killed run ends on the same weights."""
    kills, most_steps = (25, 8) if long_form else (3, 50)
    flags: list[str | Path] = ["--model", "dynamic", "--epochs", "4", "--save-every", "10", "--log-every", "1"]
    _survives("digits", flags, tmp_path, kills, most_steps=most_steps)


@pytest.mark.row("D6", "S10")
def test_killed_runs_with_balanced_classes_end_on_the_same_bytes(tmp_path: Path, long_form: bool) -> None:
    """What an epoch draws is a function of its number: a run killed within one draws the rest of it."""
    kills, most_steps = (25, 8) if long_form else (2, 50)
    flags: list[str | Path] = ["--sampling", "balanced", "--epochs", "3", "--save-every", "7", "--log-every", "1"]
    _survives("digits", flags, tmp_path, kills, most_steps=most_steps)
