from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError
from holdfast.formats.limits import LIMITS
from holdfast.formats.nested_file import read_nested


def saved(value: Any, **how: Any) -> bytes:
    """Returns what torch.save writes of a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


STATE = {"fc.weight": torch.arange(60.0).reshape(6, 10), "fc.bias": torch.ones(6)}
FILES = {
    "zip": saved(STATE),
    "legacy": saved(STATE, _use_new_zipfile_serialization=False),
    "pickle": pickle.dumps(STATE),
}


class Fitted:
    """Keeps what it was made from, and what was fitted in a file within its pickle, as skorch does."""

    def __init__(self, inner: bytes) -> None:
        self.module = nn.Linear(2, 2)
        self.device_parts = inner


@pytest.mark.parametrize("kind", FILES)
def test_weights_in_a_file_within_the_file_are_read(kind: str, tmp_path: Path) -> None:
    """Bytes that are a torch.save of either layout, or a pickle, are opened too."""
    torch.save({"epoch": 3, "model": FILES[kind]}, tmp_path / "c.pt")
    opened = open_checkpoint(tmp_path / "c.pt")
    assert opened.metadata == {"epoch": 3}
    assert list(opened.roles) == ["model"]
    assert all(torch.equal(opened.weights()[name], tensor) for name, tensor in STATE.items())


def test_what_was_fitted_is_the_model_and_not_what_it_was_made_from(tmp_path: Path) -> None:
    """`module_` within wins over `module` beside it: the one is trained, the other is not."""
    trained = nn.Linear(3, 4)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Fitted(pickle.dumps({"module_": trained}))))
    opened = open_checkpoint(tmp_path / "net.pkl")
    assert list(opened.roles) == ["model"]
    assert torch.equal(opened.weights()["weight"], trained.weight)


def test_bytes_that_are_no_file_stay_bytes(tmp_path: Path) -> None:
    """Short ones, others, and those that begin like a pickle by chance."""
    others = {"short": b"PK\3\4", "text": b"x" * 500, "chance": b"\x80\4" + b"\xff" * 500 + b"."}
    torch.save({"model": STATE, **others}, tmp_path / "c.pt")
    assert open_checkpoint(tmp_path / "c.pt").metadata == others


def test_a_damaged_file_within_is_named() -> None:
    """The message says in which file it lies."""
    with pytest.raises(CheckpointCorrupt, match=r"Reading c.pt \(a file within it\): it is a zip archive with"):
        read_nested(FILES["zip"][:-100], "c.pt")


def test_no_more_than_a_few_files_within_are_opened(tmp_path: Path) -> None:
    """A file that holds many stays cheap: the fifth is left as bytes, and so is one that is there twice."""
    many = {f"net{number}": saved({"a.b": torch.full((1,), float(number))}) for number in range(6)}
    torch.save(many, tmp_path / "c.pt")
    opened = open_checkpoint(tmp_path / "c.pt")
    assert list(opened.roles) == ["net0", "net1", "net2", "net3"]
    assert opened.metadata == {name: many[name] for name in ("net4", "net5")}


def test_weights_in_a_buffer_within_the_file_are_read(tmp_path: Path) -> None:
    """An `io.BytesIO` is its bytes."""
    torch.save({"model": io.BytesIO(FILES["zip"])}, tmp_path / "c.pt")
    assert torch.equal(open_checkpoint(tmp_path / "c.pt").weights()["fc.weight"], STATE["fc.weight"])


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_program_of_torchscript_within_the_file_is_read(tmp_path: Path) -> None:
    """It cannot be pickled, so scripts keep its file's bytes."""
    net, buffer = nn.Linear(3, 4), io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    torch.save({"model": buffer.getvalue()}, tmp_path / "c.pt")
    assert torch.equal(open_checkpoint(tmp_path / "c.pt").weights()["weight"], net.weight)


def test_pickles_one_behind_another_are_all_read(tmp_path: Path) -> None:
    """Scripts call pickle.dump several times on one file; a cut one is damage, and other bytes behind are not read."""
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"epoch": 3}) + FILES["pickle"])
    opened = open_checkpoint(path)
    assert torch.equal(opened.weights()["fc.weight"], STATE["fc.weight"])
    assert opened.metadata == {"value": [{"epoch": 3}]}
    path.write_bytes(FILES["pickle"] + b"\n\x80")
    assert list(open_checkpoint(path).weights()) == list(STATE)
    path.write_bytes(pickle.dumps({"epoch": 3}) + FILES["pickle"][:-30])
    with pytest.raises(CheckpointCorrupt, match=r"m\.pkl"):
        open_checkpoint(path)
    path.write_bytes(pickle.dumps(1) * 9)
    with pytest.raises(CheckpointError, match="more than 8 pickles"):
        open_checkpoint(path)


def test_later_pickles_keep_to_the_limits_that_were_asked_for(tmp_path: Path) -> None:
    """Narrower ones refuse them, and wider ones, which a refusal advises, open them."""
    path = tmp_path / "two.pkl"
    path.write_bytes(pickle.dumps({"epoch": 1}) + pickle.dumps({"losses": [[] for _ in range(300)]}))
    with pytest.raises(CheckpointError, match="more than 250 steps"):
        open_checkpoint(path, limits=LIMITS._replace(opcodes=1000))
    assert len(open_checkpoint(path, limits=LIMITS._replace(opcodes=10_000)).tree) == 2
