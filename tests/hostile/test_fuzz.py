from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_KINDS = 21  # of files and folders


def test_damaged_files_of_every_reader_end_in_the_right_answer_or_in_an_error(long_form: bool, tmp_path: Path) -> None:
    """2,000 of them (100,000 in the long form), in 2 seconds and 1 GB each; and nothing else is written."""
    number = 100_000 if long_form else 2_000
    done = subprocess.run(
        [sys.executable, HERE / "fuzz.py", tmp_path, str(number), "a"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert len(told["ended"]) == _KINDS
    assert sum(sum(ways.values()) for ways in told["ended"].values()) == number
    assert [name for name, ways in told["ended"].items() if ways["refused"] < number // 100] == []
    assert told["left"] == ["place"]


@pytest.mark.slow
def test_the_fuzz_notices_a_wrong_answer(tmp_path: Path) -> None:
    """Weights that are not those of the file end it with a message."""
    program = f"""
import runpy, sys
from holdfast.formats.lazy_tensor import LazyTensor
made, right = [], LazyTensor.to_torch
def wrong(self):
    made.append(self.shape)
    return right(self) if len(made) < 300 else right(self) + 1
LazyTensor.to_torch = wrong
sys.argv = ["fuzz.py", {str(tmp_path)!r}, "500", "a"]
runpy.run_path({str(HERE / "fuzz.py")!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
