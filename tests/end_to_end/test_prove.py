"""`holdfast prove` on real runs, with real kills: equal where it should be, and the right cause where it is not."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

DIGITS = ("train", "digits", "--epochs", "1", "--save-every", "10", "--quiet", "--out", "run")


@pytest.fixture(autouse=True)
def _nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives `prove` a temporary folder with a short path (for sockets), and finds nothing of it there afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        left = [path.name for path in Path(folder).iterdir()]
        assert [name for name in left if name.startswith(("holdfast-prove-", "pymp-"))] == []


def _contents(run: Path) -> dict[str, tuple[int, int]]:
    """Returns each file and folder of a run with its times of change."""
    return {str(p.relative_to(run)): (p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in [run, *run.rglob("*")]}


@pytest.mark.row("S10")
def test_a_run_is_bit_exact_through_a_kill_and_equals_its_own_checkpoint(
    holdfast: Callable[..., Any], tmp_path: Path
) -> None:
    """Digits from a checkpoint to the next: every tensor at every step, the run's own checkpoint; nothing touched."""
    assert holdfast(*DIGITS).code == 0
    before = _contents(tmp_path / "run")
    said = holdfast("prove", "run")
    assert said.out.splitlines() == [
        "replaying steps 30 to 39 of run twice, once with a kill at 34",
        "steps 30 to 39: replayed, and replayed with a kill at step 34: 40 tensors equal at each of 9 steps",
        "the run's own checkpoint at step 39: equal",
        "bit-exact",
    ]
    assert said.code == 0
    assert _contents(tmp_path / "run") == before


@pytest.mark.slow
def test_a_net_whose_graph_changes_is_bit_exact_from_its_first_weights_on(holdfast: Callable[..., Any]) -> None:
    """The dynamic net from step 0, trained on one thread: the replays agree; a difference to the run has a cause."""
    threads = torch.get_num_threads()  # what a new process has too
    torch.set_num_threads(1)
    assert holdfast(*DIGITS, "--model", "dynamic").code == 0
    torch.set_num_threads(threads)
    said = holdfast("prove", "run", "--from", "0", "--steps", "20", "--json")
    proof = json.loads(said.out)
    assert (proof["difference"], proof["steps_compared"]) == (None, 20)
    assert proof["stretch"] == {"start": 0, "kill": 10, "end": 20}
    assert proof["workers"] == [0, 0, 1]
    assert [own["step"] for own in proof["own"]] == [20]
    told = proof["notes"] if proof["bit_exact"] else [proof["cause"]["text"]]
    if threads > 1:
        assert any(f"threads 1 → {threads}" in text for text in told)
    assert said.code == (0 if proof["bit_exact"] else 4)


def test_a_transform_that_no_seed_reaches_is_found_out(holdfast: Callable[..., Any], tmp_path: Path) -> None:
    """An unseeded generator at module level: the inputs differ at the first step, and that is said."""
    (tmp_path / "unseeded.py").write_text(
        "import numpy as np\nGENERATOR = np.random.default_rng()\n\n"
        "def noisy(image):\n    return image.float() / 255 + float(GENERATOR.normal()) / 10\n"
    )
    assert holdfast(*DIGITS, "--train-transform", "unseeded:noisy", "--model", "mlp", "--img-size", "8").code == 0
    said = holdfast("prove", "run", "--json")
    proof = json.loads(said.out)
    assert said.code == 4 and not proof["bit_exact"]
    assert proof["difference"]["step"] == 31 and proof["difference"]["tensors"][0].startswith("model.")
    assert proof["difference"]["max_abs_difference"] > 0
    assert proof["cause"]["kind"] == "inputs"
    assert "the same samples gave other inputs" in proof["cause"]["text"]


@pytest.mark.slow
def test_a_model_with_a_hidden_counter_is_found_out(holdfast: Callable[..., Any], tmp_path: Path) -> None:
    """A plain attribute that the forward pass uses is lost by the kill: the step after it differs, and it is named."""
    (tmp_path / "counting.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n        self.calls = 0\n        self.fc = nn.Linear(64, num_classes)\n\n"
        "    def forward(self, images):\n"
        "        self.calls += 1\n        return self.fc(images.flatten(1)) * (1 + self.calls / 100)\n"
    )
    assert holdfast(*DIGITS, "--model", "counting:Net", "--img-size", "8").code == 0
    said = holdfast("prove", "run", "--from", "20", "--steps", "6")
    *_, differs, cause, verdict = said.out.splitlines()
    assert (said.code, verdict) == (4, "not bit-exact")
    assert differs.startswith(
        "steps 20 to 26: replayed, and replayed with a kill at step 23: differs first at step 24, "
    )
    assert "model.fc.weight (max abs difference " in differs
    counts = re.fullmatch(
        r"likely cause: hidden state: before that step model\.calls was (\d+) without the kill and (\d+) after it, and "
        r"no checkpoint holds it; register it as a buffer .*",
        cause,
    )
    assert counts is not None and int(counts[1]) - int(counts[2]) == 3
