"""Every specimen of the zoo opens with its tensors bit for bit, or is refused by the right name.

What is made is made once a session, in processes of its own, by the programs that are installed here. A zoo that was
made before is used when HOLDFAST_ZOO names its folder: `python tests/formats/make.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor
from zoo.make import RECORD, make, modules, together
from zoo.page import PAGE, render
from zoo.specimen import installed

from holdfast import OpenedCheckpoint, open_checkpoint
from holdfast.errors import CheckpointError
from holdfast.formats import LazyTensor

ZOO: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
HOME = {name: module for module, made in ZOO.items() for name in made["specimens"]}
REFUSED = [n for n, module in HOME.items() if "refusal" in ZOO[module]["specimens"][n]]
OPENED = [n for n in HOME if n not in REFUSED]
PLAIN = [n for n in OPENED if ZOO[HOME[n]]["specimens"][n]["plain"]]

pytestmark = [
    pytest.mark.row("S1", "S2", "S4", "S6", "S7", "S11"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),  # torch's, of any such tensor
]


Get = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="session")
def specimen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Get:
    """Gives the folder of a specimen and the truth about it; skips where its program is not installed."""
    given = os.environ.get("HOLDFAST_ZOO")
    out = Path(given) if given else tmp_path_factory.mktemp("zoo")
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    wanted = sorted({HOME[name] for name in asked if name in HOME})
    with ThreadPoolExecutor(2) as both:  # importing torch and a program is most of it
        batches = together(module for module in wanted if _can_be_made(module, out))
        told = list(both.map(lambda batch: make(batch, out), batches))
        said = {module: words for batch, words in zip(batches, told, strict=True) for module in batch}

    def get(name: str) -> tuple[Path, dict[str, Any]]:
        module, folder = HOME[name], out / name
        if not (out / f"{module}.json").is_file():
            assert module not in said, said[module]
            pytest.skip(f"{', '.join(_missing(module))} not installed: pip install '.[zoo]', or HOLDFAST_ZOO=FOLDER")
        assert (folder / "truth.json").is_file(), _why_not(folder)
        return folder, json.loads((folder / "truth.json").read_text(encoding="utf-8"))

    return get


def _missing(module: str) -> list[str]:
    return [package for package in ZOO[module]["needs"] if installed(package) is None]


def _can_be_made(module: str, out: Path) -> bool:
    return not (out / f"{module}.json").is_file() and not _missing(module)


def _why_not(folder: Path) -> str:
    error = folder / "error.txt"
    return error.read_text(encoding="utf-8") if error.is_file() else f"{folder} was not made"


class Told:
    """The truth about one specimen, its tensors made again from their bytes by safetensors and torch alone."""

    def __init__(self, folder: Path, truth: dict[str, Any]) -> None:
        self.bytes = safetensors.torch.load_file(folder / "truth.safetensors")
        self.truth = truth
        self.memory: dict[int, list[str]] = {}

    def tensor(self, entry: dict[str, Any]) -> Tensor:
        """Returns a tensor."""
        dtype = getattr(torch, entry["dtype"].removeprefix("torch."))
        return self.bytes[entry["$tensor"]].view(dtype).reshape(entry["shape"])

    def roles(self, key: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns role → name → entry of a tensor."""
        return {role: dict(names["$dict"]) for role, names in self.truth[key]["$dict"]}

    def compare(self, found: Any, entry: Any, at: str) -> None:
        """Holds a value of the file against what was live."""
        if isinstance(entry, dict) and "$tensor" in entry:
            assert isinstance(found, (LazyTensor, Tensor)), (at, found)
            assert_same(found if isinstance(found, Tensor) else found.to_torch(), self.tensor(entry), at)
        elif isinstance(entry, dict) and "$dict" in entry:
            assert isinstance(found, Mapping), (at, found)
            assert list(found) == [key for key, _ in entry["$dict"]], at
            for key, value in entry["$dict"]:
                self.compare(found[key], value, f"{at}.{key}")
        elif isinstance(entry, list):
            assert isinstance(found, (list, tuple)) and len(found) == len(entry), (at, found)
            for number, value in enumerate(entry):
                self.compare(found[number], value, f"{at}.{number}")
        else:
            assert found == (float(entry["$float"]) if isinstance(entry, dict) else entry), (at, found, entry)


def assert_same(found: Tensor, truth: Tensor, at: str) -> None:
    """Holds type, shape and bits of two tensors against each other."""
    assert (found.dtype, tuple(found.shape)) == (truth.dtype, tuple(truth.shape)), at
    bits = [t.resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8) for t in (found, truth)]
    assert torch.equal(*bits), f"{at} has other values"


def _memory(tensor: Tensor) -> tuple[int, ...]:
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), *tensor.shape


def _check_role(told: Told, opened: OpenedCheckpoint, role: str) -> None:
    expected, found = told.roles("roles")[role], opened.role(role)
    records = told.truth["records"] if role == "model" else []
    dense = {n: t for n, t in found.items() if isinstance(t, LazyTensor)}
    assert sorted(set(found) - dense.keys() - set(records)) == [n for n in sorted(found) if n.endswith("_extra_state")]
    assert sorted(dense) == sorted(expected)
    made = {name: tensor.to_torch() for name, tensor in dense.items()}
    for name, entry in expected.items():
        assert_same(made[name], told.tensor(entry), f"{role}: {name}")
    if told.truth["ties"]:
        groups: dict[int, set[tuple[int, ...]]] = {}
        for name, entry in expected.items():
            if entry["memory"] >= 0:
                groups.setdefault(entry["memory"], set()).add(_memory(made[name]))
        assert all(len(places) == 1 for places in groups.values()), f"{role}: tied tensors are no longer tied"


@pytest.mark.parametrize("name", OPENED)
def test_a_specimen_opens_bit_for_bit(name: str, specimen: Get) -> None:
    """Kind, program, every role, tensor and tie, optimizers, schedules and facts are as they were live."""
    folder, truth = specimen(name)
    told = Told(folder, truth)
    opened = open_checkpoint(folder / truth["path"])
    assert (opened.kind, opened.made_by) == (truth["kind"], truth["made_by"])
    assert sorted(opened.roles) == sorted(told.roles("roles"))
    for role in told.roles("roles"):
        _check_role(told, opened, role)
    assert sorted(opened.optimizers) == sorted(key for key, _ in truth["optimizers"]["$dict"])
    for key, state in truth["optimizers"]["$dict"]:
        if state is not None:
            told.compare(opened.optimizers[key], state, key)
    assert sorted(opened.schedules) == sorted(truth["schedules"])
    for path, value in truth["facts"]["$dict"]:
        found: Any = opened.metadata
        for key in path.split("."):
            found = found[key]
        told.compare(found, value, path)


@pytest.mark.parametrize("name", PLAIN)
def test_a_specimen_gives_the_plain_model_its_weights(name: str, specimen: Get) -> None:
    """`weights()` has the names of the plain model's own state dict, whatever was wrapped around it, and its bits."""
    folder, truth = specimen(name)
    told = Told(folder, truth)
    opened = open_checkpoint(folder / truth["path"])
    for role, expected in told.roles("plain").items():
        found = opened.weights(role)
        assert sorted(expected.keys() - found.keys()) == []
        assert {n for n in found.keys() - expected.keys() if n.rpartition(".")[2] != "n_averaged"} == set()
        for key, entry in expected.items():
            assert_same(found[key], told.tensor(entry), f"{role}: {key}")


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_weights_is_called_what_it_is(name: str, specimen: Get) -> None:
    """The refusal names the file, what it is, and what to do."""
    folder, truth = specimen(name)
    path = folder / truth["path"]
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path).weights()
    said = str(refused.value)
    assert str(path) in said
    assert re.search(".*".join(map(re.escape, truth["refusal"].split(".*"))), said, re.DOTALL), said


@pytest.mark.parametrize("name", list(HOME))
def test_the_record_tells_what_was_made(name: str, specimen: Get) -> None:
    """zoo.json, and so docs/formats.md, has the kind, program, roles and facts that the program left here and now."""
    folder, _ = specimen(name)
    made = json.loads((folder.parent / f"{HOME[name]}.json").read_text(encoding="utf-8"))
    assert made["specimens"][name] == ZOO[HOME[name]]["specimens"][name]


def test_the_zoo_is_large_enough() -> None:
    """There are more than a hundred specimens, and every program of the list is among them."""
    assert len(HOME) >= 150
    assert {made["program"] for made in ZOO.values()} >= {
        "torch", "torchvision", "timm", "numpy", "safetensors", "lightning", "accelerate", "transformers", "fastai",
        "pytorch-ignite", "mosaicml", "skorch", "ultralytics", "onnx", "h5py",
    }  # fmt: skip


def test_the_record_of_the_zoo_is_that_of_its_generators() -> None:
    """Every generator has an entry in zoo.json and no entry is without one."""
    assert sorted(ZOO) == modules()


def test_the_page_of_formats_tells_what_the_zoo_proves() -> None:
    """docs/formats.md is what `python tests/formats/make.py --page` writes."""
    assert PAGE.read_text(encoding="utf-8") == render()
