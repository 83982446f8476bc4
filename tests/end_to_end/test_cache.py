"""The cache in the real command: killed in the epoch that fills it, it ends on the bytes of a run without one."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("campaign", Path(__file__).with_name("campaign.py"))
assert _spec is not None and _spec.loader is not None
campaign = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("campaign", campaign)
_spec.loader.exec_module(campaign)

FLAGS: list[str | Path] = [
    "--model", "campaign:NetWithEverything", "--img-size", "48", "--augment", "crop+flip+color", "--decode-size", "20",
    "--epochs", "3", "--batch-size", "4", "--optimizer", "sgd", "--lr", "0.05", "--save-every", "1", "--log-every", "1",
]  # fmt: skip


@pytest.mark.row("D6")
def test_killed_while_a_cache_is_filled_it_ends_on_the_bytes_without_one(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache; with one on disk, killed in the first epoch; taken up with one in memory: the same bytes."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    campaign.run_to_end([picture_folder, *FLAGS, "--out", "whole", "--cache", "off", "-j", "0"], tmp_path)
    disk: list[str | Path] = [picture_folder, *FLAGS, "--out", "killed", "--cache", "disk", "-j", "2"]
    assert campaign.run_and_kill(disk, tmp_path, random.Random(0), 3)
    assert list((tmp_path / "cache/pictures").glob("*.pictures"))
    said = campaign.run_to_end([picture_folder, *FLAGS, "--out", "killed", "--cache", "ram", "-j", "1"], tmp_path)
    assert "resuming" in said and "cache ram: " in said and "pictures are about" in said
    assert campaign.last_weights(tmp_path / "killed") == campaign.last_weights(tmp_path / "whole")
    assert (tmp_path / "killed/predictions.csv").read_bytes() == (tmp_path / "whole/predictions.csv").read_bytes()
