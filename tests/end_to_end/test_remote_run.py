"""`train --out s3://…`: the run is at the URL, and any machine takes it up."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

_spec = importlib.util.spec_from_file_location(
    "s3_on_loopback", Path(__file__).parents[1] / "fault" / "s3_on_loopback.py"
)
assert _spec is not None and _spec.loader is not None
loopback = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("s3_on_loopback", loopback)
_spec.loader.exec_module(loopback)

RECIPE = [
    *("train", "digits", "--model", "lenet", "--epochs", "1", "--batch-size", "32"),  # some 40 steps
    *("--save-every", "10", "--log-every", "1"),
]
URL = "s3://bucket/runs/digits"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server with a bucket; child processes find it through the environment."""
    for name, value in loopback.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with loopback.s3_server() as (host, port):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        files.mkdir("bucket")
        yield files


def _train(cache: Path, out: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast", *RECIPE, "--out", out, *more],
        cwd=cache.parent,
        env={**os.environ, "HOLDFAST_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_killed_on_one_machine_ends_on_another_as_if_nothing_had_been(bucket: Any, tmp_path: Path) -> None:
    """SIGKILL, then the same command with an empty cache: the weights of a run into a local folder, to the bit."""
    with _train(tmp_path / "one", URL) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("step 22/"):  # the save of step 20 waited until that of step 10 was durable
                first.send_signal(signal.SIGKILL)
                break
        else:
            pytest.fail("it never came to step 22")
    assert bucket.exists("bucket/runs/digits/checkpoints/step-00000010/manifest.json")
    assert bucket.exists("bucket/runs/digits/owner.json")
    assert not bucket.exists("bucket/runs/digits/best.safetensors")
    with _train(tmp_path / "two", URL) as second, _train(tmp_path / "three", str(tmp_path / "local")) as local:
        said, _ = second.communicate(timeout=400)
        words, _ = local.communicate(timeout=400)
    assert (second.returncode, local.returncode) == (0, 0), said + words
    assert re.search(rf"resuming {URL} from step [12]0\b", said), said
    assert "done: best epoch 1" in said
    for name in ("best.safetensors", "results.csv", "predictions.csv", "summary.json", "split.csv"):
        assert bucket.cat_file(f"bucket/runs/digits/{name}") == (tmp_path / "local" / name).read_bytes(), name
    assert not bucket.exists("bucket/runs/digits/owner.json")
    assert list((tmp_path / "two" / "fetched").iterdir()) == []
