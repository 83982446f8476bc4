from __future__ import annotations

import json
import platform
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from holdfast.run.fingerprint import differences, fingerprint


@pytest.fixture
def here() -> dict[str, Any]:
    """What this process runs on."""
    return fingerprint(torch.device("cpu"), "fp32")


@pytest.mark.row("T5")
def test_it_names_what_bits_depend_on(here: dict[str, Any]) -> None:
    """Versions, device, threads and decoder are there, as JSON values that survive writing and reading."""
    assert json.loads(json.dumps(here)) == here
    assert here["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert here["versions"]["python"] == platform.python_version()
    assert here["threads"] == torch.get_num_threads()
    assert here["device"] == "cpu" and here["precision"] == "fp32"
    assert here["decoder"].split()[0] in ("simplejpeg", "torchcodec", "pillow")


def test_the_same_place_has_no_differences(here: dict[str, Any]) -> None:
    """Asked twice, it answers the same."""
    assert differences(here, fingerprint(torch.device("cpu"), "fp32")) == []
    assert differences(json.loads(json.dumps(here)), here) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("device",), "H1"),
        (("threads",), 99),
        (("machine",), "abacus"),
        (("decoder",), "eyes"),
        (("versions", "torch"), "0.1"),
    ],
)
def test_each_thing_that_can_change_bits_is_a_difference(
    here: dict[str, Any], path: tuple[str, ...], value: object
) -> None:
    """Another device, thread count, machine, decoder or version is named with what it was and is."""
    then = deepcopy(here)
    inner = then
    for key in path[:-1]:
        inner = inner[key]
    now = inner[path[-1]]
    inner[path[-1]] = value
    assert differences(then, here) == [f"{path[-1]} {value} → {now}"]


def test_the_hosts_name_is_no_difference(here: dict[str, Any]) -> None:
    """Host and commit are written down for people, and change no bits."""
    assert differences({**here, "host": "elsewhere", "git_commit": "0" * 40, "system": "another"}, here) == []


def test_a_record_that_is_gone_is_a_difference(here: dict[str, Any]) -> None:
    """Without a record of the beginning nobody can say that nothing changed."""
    assert len(differences({}, here)) == 5


def test_the_commit_is_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: dict[str, Any]
) -> None:
    """Outside any repository there is no commit."""
    monkeypatch.chdir(tmp_path)
    assert fingerprint(torch.device("cpu"), "fp32")["git_commit"] is None
