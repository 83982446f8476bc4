from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError

CONFIG = "p/data/weights/model_weights_config.json"


class Net(nn.Module):
    """Tied weights, both kinds of buffers, a view of a larger storage."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("mean", torch.arange(12.0)[4:8])
        self.register_buffer("turned", torch.arange(8.0, dtype=torch.float64).reshape(2, 4).T)
        self.register_buffer("once", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Uses everything."""
        out: Tensor = self.second(self.first(x)) + self.mean + self.once + self.turned[:, 0].float()
        return out


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program as this torch saves it."""
    path = tmp_path_factory.mktemp("export") / "p.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about weights that are views
        torch.export.save(torch.export.export(Net().eval(), (torch.ones(1, 4),)), path)
    return path


@pytest.fixture
def changed(program: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """Writes the program again with another table of weights."""

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        with zipfile.ZipFile(program) as old, zipfile.ZipFile(tmp_path / "c.pt2", "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if name == CONFIG:
                    table = json.loads(data)
                    change(table)
                    data = json.dumps(table).encode()
                new.writestr(name, data)
        return tmp_path / "c.pt2"

    return write


def _equal(found: dict[str, Tensor], truth: dict[str, Tensor]) -> bool:
    return list(found) == list(truth) and all(
        (t.dtype, t.stride()) == (truth[n].dtype, truth[n].stride()) and torch.equal(t, truth[n])
        for n, t in found.items()
    )


def test_a_program_of_this_torch_gives_its_state_dict(program: Path) -> None:
    """Names, order, types, strides, bits and ties are those of torch.export.load."""
    opened = open_checkpoint(program)
    assert (opened.kind, opened.made_by, list(opened.roles)) == ("torch.export program", "torch.export", ["model"])
    assert _equal(opened.weights(), dict(torch.export.load(program).state_dict))
    found = opened.weights()
    assert found["first.weight"].data_ptr() == found["second.weight"].data_ptr()
    assert "once" not in found
    assert opened.role()["first.bias"].is_parameter and not opened.role()["mean"].is_parameter


@pytest.mark.parametrize("entry", ["serialized_state_dict.pt", "serialized_state_dict.json", "p/data/weights/model.pt"])
def test_older_layouts_give_the_same(entry: str, tmp_path: Path) -> None:
    """A state dict as a file of torch.save within the archive, under each of its names, stored or deflated."""
    truth, buffer = Net().state_dict(), io.BytesIO()
    torch.save(truth, buffer)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "old.pt2", "w", method) as archive:
            archive.writestr("version", "1")
            program = "p/archive_format" if "/" in entry else "serialized_exported_program.json"
            archive.writestr(program, "{}")
            archive.writestr(entry, buffer.getvalue())
        assert _equal(open_checkpoint(tmp_path / "old.pt2").weights(), dict(truth))


def test_several_programs_are_roles(program: Path, tmp_path: Path) -> None:
    """Each has its own table."""
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(tmp_path / "two.pt2", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr(CONFIG.replace("model_weights", "decoder_weights"), old.read(CONFIG))
    opened = open_checkpoint(tmp_path / "two.pt2")
    assert sorted(opened.roles) == ["decoder", "model"]
    assert _equal(opened.weights("decoder"), opened.weights("model"))


def test_compiled_code_without_weights_is_refused(tmp_path: Path) -> None:
    """The message says what it is and what to open."""
    with zipfile.ZipFile(tmp_path / "c.pt2", "w") as archive:
        archive.writestr("c/archive_format", "pt2")
        archive.writestr("c/data/aotinductor/model/a.so", b"\x7fELF")
    with pytest.raises(CheckpointError, match=r"c.pt2: it is an archive of torch.export without weights"):
        open_checkpoint(tmp_path / "c.pt2")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"path_name": "../../../etc/passwd"}, "a weight in '../../../etc/passwd', which the archive does not have"),
        ({"path_name": "weight_99"}, "a weight in 'weight_99', which the archive does not have"),
        ({"path_name": None}, "a weight in None"),
        ({"tensor_meta": None}, "a weight without a type"),
        ({"dtype": 99}, "a weight without a type"),
        ({"dtype": [7]}, "a weight without a type"),
        ({"layout": 1}, "in a layout that has none of its own"),
        ({"sizes": [{"as_int": 1000}]}, "a tensor of 1 extents and 2 strides|reaches to value"),
        ({"sizes": [{"as_int": 1000}, {"as_int": 4}]}, "a tensor that reaches to value 3,999 of a storage of 16"),
        ({"sizes": [{"as_expr": {"expr_str": "s0"}}]}, "a shape, a stride or an offset that is no count"),
        ({"storage_offset": {"as_int": -4}}, "a shape, a stride or an offset that is no count"),
        ({"sizes": [{"as_int": 1}] * 100}, "a shape that is no list"),
    ],
)
def test_a_table_that_contradicts_the_archive_is_refused(changed: Any, facts: dict[str, Any], message: str) -> None:
    """Places that are none, types that are none, shapes beyond the bytes: the table and the weight are named."""

    def change(table: dict[str, Any]) -> None:
        entry = table["config"]["first.weight"]
        for key, value in facts.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    with pytest.raises(
        CheckpointCorrupt, match=rf"c.pt2 \(p/data/weights/model_weights_config.json\): found .*({message}).* as 'first"
    ):
        open_checkpoint(changed(change))


def test_a_table_that_is_none_is_refused(program: Path, tmp_path: Path) -> None:
    """Something else than JSON, and JSON that is no table."""
    for data, message in ((b"{", "it is no JSON"), (b"[1]", "it has no `config` of weights")):
        with zipfile.ZipFile(tmp_path / "n.pt2", "w") as archive:
            archive.writestr("p/archive_format", "pt2")
            archive.writestr(CONFIG, data)
        with pytest.raises(CheckpointCorrupt, match=message):
            open_checkpoint(tmp_path / "n.pt2")
