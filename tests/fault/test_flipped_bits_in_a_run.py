"""A real run whose newest checkpoint has one bit flipped: it is found, passed over by name, and the end is the same."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from holdfast.config import Config
from holdfast.run import train
from holdfast.run.console import Console

SETTINGS = Config(data="digits", model="mlp", epochs=2, img_size=16, save_every="20", keep=100, batch_size=64)


def _cut_back(run: Path, steps: int) -> Path:
    """Makes a finished run one that was stopped after `steps` checkpoints; returns the newest."""
    (run / "summary.json").unlink()
    published = sorted((run / "checkpoints").glob("step-*"))
    for later in published[steps:]:
        shutil.rmtree(later)
    return published[steps - 1]


@pytest.mark.row("S10", "S9")
def test_one_flipped_bit_anywhere_is_found_and_the_run_ends_the_same(
    tmp_path: Path, long_form: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Any bit of any file of the newest checkpoint: named, set aside, and the final weights are the same bytes."""
    whole = tmp_path / "whole"
    train(SETTINGS.replace(out=str(whole)), console=Console(quiet=True))
    wanted = (max((whole / "checkpoints").glob("step-*")) / "model.safetensors").read_bytes()
    chance = random.Random(3)
    trials = 100 if long_form else 8
    for trial in range(trials):
        run = tmp_path / f"run-{trial}"
        shutil.copytree(whole, run)
        newest = _cut_back(run, 2)
        victim = chance.choice(sorted(newest.iterdir()))
        data = bytearray(victim.read_bytes())
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(8)
        victim.write_bytes(data)
        capfd.readouterr()
        outcome = train(SETTINGS.replace(out=str(run)), console=Console(quiet=True))
        said = capfd.readouterr().out
        assert f"Passed over {newest.name}" in said and victim.name in said, (victim, place, said)
        assert (run / "checkpoints" / f"damaged-{newest.name}").is_dir()
        end = max((run / "checkpoints").glob("step-*"))
        assert outcome.finished and (end / "model.safetensors").read_bytes() == wanted
        shutil.rmtree(run)
