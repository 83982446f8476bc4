"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: processes side by side share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from PIL import Image


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --long: the full form of the campaigns."""
    parser.addoption("--long", action="store_true", help="run the long form of the campaigns (faults, kills)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests marked `slow` to the long form."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="the long form: pytest --long"))


@pytest.fixture(scope="session")
def long_form(pytestconfig: pytest.Config) -> bool:
    """Whether the long form of the campaigns was asked for."""
    return bool(pytestconfig.getoption("--long"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures (MNIST, ants and bees, faces, CIFAR, large photos); skips where there is none."""
    named = os.environ.get("HOLDFAST_TEST_DATA")
    candidates = [Path(named)] if named else [Path(__file__).resolve().parents[2] / "shared" / "data"]
    for candidate in candidates:
        if (candidate / "README.md").is_file():
            return candidate
    pytest.skip(f"no real pictures at {candidates[0]}; name their folder in HOLDFAST_TEST_DATA")


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was() -> object:
    """Puts back the process-wide switches of torch that a run sets."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """A folder of three classes with eight small JPEGs each, every class a colour of its own."""
    root = tmp_path / "pictures"
    generator = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            pixels = generator.integers(0, 60, (24, 32, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 150
            Image.fromarray(pixels).save(root / name / f"{number}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def faulty() -> ModuleType:
    """`faulty_folder.py`, which makes folders with every fault; --import-mode=importlib keeps it off sys.path."""
    spec = importlib.util.spec_from_file_location("faulty_folder", Path(__file__).with_name("faulty_folder.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs the real command line in a process of its own, in an empty folder; returns exit code, stdout and stderr."""

    def run(*arguments: str | Path, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
            check=False,
        )

    return run


@dataclass
class Said:
    """How a command ended: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def holdfast(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Runs the command line in this process, in an empty folder: as `cli`, without five seconds of imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str | Path) -> Said:
        from holdfast.cli import main

        capfd.readouterr()
        with pytest.raises(SystemExit) as ending:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Said(int(ending.value.code or 0), out, err)

    return run
