from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
GALLERY = runpy.run_path(str(HERE / "gallery.py"))["SPECIMENS"]


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like any other."""
    path = tmp_path_factory.mktemp("harmless") / "good.pt"
    torch.save({"epoch": 1, "model": {"fc.weight": torch.ones(2, 2)}}, path)
    return path


def watched(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Opens a file in a process of its own, under watch."""
    return subprocess.run(
        [sys.executable, HERE / "open_under_watch.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", GALLERY)
def test_a_hostile_file_runs_nothing_and_costs_little(name: str, harmless: Path, tmp_path: Path) -> None:
    """It opens inertly or is refused as expected; nothing is run or written, within 20 CPU seconds and 1.5 GB."""
    generate, expected = GALLERY[name]
    folder = tmp_path / "hostile"
    folder.mkdir()
    path = generate(folder, f"touch {tmp_path / 'canary'}")
    files = sorted(tmp_path.rglob("*"))
    done = watched(harmless, path)
    assert (done.returncode, done.stderr) == (0, "")
    outcome, _, said = done.stdout.partition(" ")
    if expected is None:
        assert outcome == "opened", said
    else:
        assert outcome == "refused", said
        assert re.search(expected, said), said
        assert str(folder) in said
    assert sorted(tmp_path.rglob("*")) == files


def _that_open() -> list[Any]:
    return [name for name, (_, expected) in GALLERY.items() if expected is None]


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("system_call_in_a_zip", "opened"),
        ("code_in_a_value_of_a_dcp_directory", "refused Reading .* lies <inert (posix|nt).system>"),
        ("code_among_the_attributes_of_a_script", "opened"),
    ],
)
def test_values_of_hostile_files_are_made_without_running_anything(
    name: str, outcome: str, harmless: Path, tmp_path: Path
) -> None:
    """Making the tensors of one that opens runs nothing either; what is no tensor is refused by then."""
    (tmp_path / "hostile").mkdir()
    path = GALLERY[name][0](tmp_path / "hostile", f"touch {tmp_path / 'canary'}")
    done = watched(harmless, path, "weights")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(outcome, done.stdout), done.stdout
    assert not (tmp_path / "canary").exists()


def test_the_watch_sees_what_torch_would_do(harmless: Path, tmp_path: Path) -> None:
    """The canary is real: the same file, opened by torch without its guard, runs the command."""
    path = GALLERY["system_call_in_a_zip"][0](tmp_path, f"touch {tmp_path / 'canary'}")
    torch.load(path, weights_only=False)
    assert (tmp_path / "canary").exists()
    program = (
        f"import os, sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import open_under_watch\n"
        "sys.addaudithook(open_under_watch.watch)\n"
        "os.system('true')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:22]) == (66, "FORBIDDEN os.system (b")


def test_the_gallery_is_large() -> None:
    """There are at least 25 kinds, some that open and some that are refused."""
    assert len(GALLERY) >= 25
    assert 10 <= len(_that_open()) <= len(GALLERY) - 10
