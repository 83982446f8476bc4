from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from holdfast.checkpoints import files, read_single_file, write_single_file
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import write_tensors
from holdfast.errors import CheckpointCorrupt, CheckpointError, UnsupportedState

METADATA = {"classes": ["ants", "bees", "Wespe ü"], "mean": [0.485, 0.456], "step": 7, "nested": {"size": None}}


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"w": torch.randn(2, 3), "n": torch.tensor(5), "half": torch.ones(3, dtype=torch.bfloat16)}


@pytest.mark.row("S1")
def test_weights_and_metadata_come_back(tmp_path: Path) -> None:
    """Tensors come back bit for bit, and the metadata as they were."""
    write_single_file(tmp_path / "a.safetensors", _tensors(), METADATA)
    read = read_single_file(tmp_path / "a.safetensors")
    assert read.path == tmp_path / "a.safetensors"
    assert list(read.tensors) == list(_tensors())
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in _tensors().items())
    assert read.metadata == METADATA


@pytest.mark.row("S1")
def test_a_model_saved_as_weights_predicts_the_same_after_loading(tmp_path: Path) -> None:
    """The state dict of a trained net, batch statistics included, gives a fresh net the same answers."""
    torch.manual_seed(0)

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2))

    net, x = build(), torch.rand(5, 3, 8, 8)
    net(x)
    write_single_file(tmp_path / "a.safetensors", net.state_dict(), {})
    fresh = build()
    fresh.load_state_dict(read_single_file(tmp_path / "a.safetensors").tensors)
    assert torch.equal(fresh.eval()(x), net.eval()(x))


def test_any_safetensors_reader_gets_the_plain_weights(tmp_path: Path) -> None:
    """The library reads the same tensors, and finds the format that it expects in the header."""
    write_single_file(tmp_path / "a.safetensors", _tensors(), METADATA)
    read = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in _tensors().items())
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_tied_weights_are_under_each_of_their_names(tmp_path: Path) -> None:
    """A reader that knows nothing of ties finds every name."""
    weight = torch.ones(2)
    write_single_file(tmp_path / "a.safetensors", {"a": weight, "b": weight}, {})
    assert set(safetensors.torch.load_file(tmp_path / "a.safetensors")) == {"a", "b"}


def test_an_older_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """Writing again replaces the file; leftovers of a broken attempt are no obstacle."""
    (tmp_path / f"{files.HIDDEN_PREFIX}a.safetensors").write_bytes(b"half")
    for step in (1, 2):
        write_single_file(tmp_path / "a.safetensors", _tensors(), {"step": step})
    assert read_single_file(tmp_path / "a.safetensors").metadata == {"step": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_header_alone_gives_the_metadata(tmp_path: Path) -> None:
    """`header_only` reads no tensor and still proves the metadata."""
    write_single_file(tmp_path / "a.safetensors", _tensors(), METADATA)
    read = read_single_file(tmp_path / "a.safetensors", header_only=True)
    assert (read.tensors, read.metadata) == ({}, METADATA)


@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_writing_fails_in_words_and_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """When the disk refuses, the older file still opens and nothing is left beside it."""
    path = tmp_path / "a.safetensors"
    write_single_file(path, _tensors(), {"step": 1})

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse) if call == "rename" else patch.setattr(os, call, refuse)
        with pytest.raises(
            CheckpointError, match=r"Writing .*a\.safetensors: No space left on device\. What was there"
        ):
            write_single_file(path, _tensors(), {"step": 2})
    assert read_single_file(path).metadata == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_writing_fails_when_there_is_no_such_folder(tmp_path: Path) -> None:
    """A missing folder is named."""
    with pytest.raises(CheckpointError, match=r"Writing .*gone/a\.safetensors: No such file or directory"):
        write_single_file(tmp_path / "gone" / "a.safetensors", _tensors(), {})


@pytest.mark.parametrize("key", ["version", "tensors", "digest"])
def test_writing_fails_when_metadata_take_a_name_of_the_formats(tmp_path: Path, key: str) -> None:
    """Metadata under a name that the format keeps to itself would spoil the file; they are refused before writing."""
    path = tmp_path / "a.safetensors"
    write_single_file(path, _tensors(), {"step": 1})
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: found metadata called {key}; the format keeps"):
        write_single_file(path, _tensors(), {key: 1, "step": 2})
    assert read_single_file(path).metadata == {"step": 1}


def test_writing_fails_when_a_tensor_takes_the_headers_name(tmp_path: Path) -> None:
    """A tensor called as the header's metadata is refused before writing."""
    with pytest.raises(CheckpointError, match="found a tensor called __metadata__; safetensors keeps that name"):
        write_single_file(tmp_path / "a.safetensors", {"__metadata__": torch.ones(1)}, {})
    assert list(tmp_path.iterdir()) == []


def test_writing_fails_with_the_names_of_all_tensors_that_do_not_fit(tmp_path: Path) -> None:
    """Tensors that safetensors has no type for, or that have no values, are all named; nothing is written."""
    tensors = {**_tensors(), "wave": torch.zeros(2, dtype=torch.complex128), "ghost": torch.empty(2, device="meta")}
    with pytest.raises(UnsupportedState) as caught:
        write_single_file(tmp_path / "a.safetensors", tensors, {})
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("a.safetensors: 2 tensors do not fit:")
    assert lines[1].startswith("  wave: found a tensor of torch.complex128; expected a type that safetensors has (F64,")
    assert lines[2].startswith("  ghost: found a tensor on the meta device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.row("S1")
def test_weights_in_another_memory_order_have_their_values_in_the_file(tmp_path: Path) -> None:
    """Channels-last, sliced and expanded weights are written in the order in which they print."""
    image = torch.arange(48.0).reshape(2, 3, 2, 4)
    tensors = {
        "last": image.contiguous(memory_format=torch.channels_last),
        "slice": image[:, 1:, :, ::2],
        "wide": torch.tensor(3.0).expand(4),
    }
    write_single_file(tmp_path / "a.safetensors", tensors, {})
    theirs = safetensors.torch.load_file(tmp_path / "a.safetensors")
    for read in (read_single_file(tmp_path / "a.safetensors").tensors, theirs):
        assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_reading_fails_when_the_file_is_someone_elses(tmp_path: Path) -> None:
    """A plain safetensors file is sound and still not enough; the message says what it lacks."""
    safetensors.torch.save_file(_tensors(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="without Holdfast's metadata: weights only") as caught:
        read_single_file(tmp_path / "a.safetensors")
    assert not isinstance(caught.value, CheckpointCorrupt)


def test_a_flipped_bit_is_found_or_changes_nothing_that_is_read(tmp_path: Path) -> None:
    """Whichever bit flips, reading fails, or gives the very same weights and metadata."""
    path = tmp_path / "a.safetensors"
    write_single_file(path, {"w": torch.tensor([1.0, 2.0])}, {"classes": ["ants", "bees"]})
    data, unnoticed = path.read_bytes(), 0
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            read = read_single_file(path)
        except CheckpointError:
            continue
        unnoticed += 1
        assert (read.tensors["w"].tolist(), read.metadata) == ([1.0, 2.0], {"classes": ["ants", "bees"]})
    assert unnoticed < len('"format":"pt"') * 8


def test_reading_fails_with_the_name_of_the_tensor_that_was_hit(tmp_path: Path) -> None:
    """One changed byte of one tensor is reported under the tensor's name; the header alone still opens."""
    path = tmp_path / "a.safetensors"
    write_single_file(path, _tensors(), {"step": 1})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=r"a\.safetensors: damaged \(tensor half does not match its digest\)"):
        read_single_file(path)
    assert read_single_file(path, header_only=True).metadata == {"step": 1}


def _write_raw(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    """Writes a safetensors file with any metadata in its header."""
    write_tensors(partial(files.write_durably, path), tensors, header)


def _signed(table: dict[str, Any]) -> str:
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    return json.dumps({**table, "digest": digest_of(text.encode())}, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "tensor w is missing"),
        ({"w": ["F32", [2], "xxh3-128:00"]}, "tensor w does not match its digest"),
        ({"w": ["F32", [3], "xxh3-128:00"]}, r"tensor w is F32 \[2\], not F32 \[3\]"),
        ({"w": ["F16", [2], "xxh3-128:00"]}, r"tensor w is F32 \[2\], not F16 \[2\]"),
        ({"w": []}, "not enough values"),
    ],
)
def test_reading_fails_when_the_metadata_tell_of_other_tensors(tmp_path: Path, entries: Any, message: str) -> None:
    """Metadata with a right digest that do not describe these tensors are refused."""
    table = _signed({"version": 1, "tensors": entries})
    _write_raw(tmp_path / "a.safetensors", {"w": torch.zeros(2)}, {"holdfast": table})
    with pytest.raises(CheckpointCorrupt, match=message):
        read_single_file(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["", "[]", "5", "{}", '{"digest": "x"}', '{"digest": "x", "tensors": {}}'])
def test_reading_fails_when_the_metadata_are_damaged(tmp_path: Path, text: str) -> None:
    """Whatever else stands in their place is damage, in words."""
    _write_raw(tmp_path / "a.safetensors", {"w": torch.zeros(2)}, {"holdfast": text})
    with pytest.raises(CheckpointCorrupt, match=r"a\.safetensors: damaged \("):
        read_single_file(tmp_path / "a.safetensors")


def test_reading_a_newer_version_says_to_install_it(tmp_path: Path) -> None:
    """A later version's file is not called damaged."""
    _write_raw(tmp_path / "a.safetensors", {}, {"holdfast": _signed({"version": 2, "tensors": {}})})
    with pytest.raises(CheckpointError, match=r"newer Holdfast \(version 2 of the format; .*\)\. Install that"):
        read_single_file(tmp_path / "a.safetensors")


def test_reading_fails_when_there_is_no_file(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: cannot be read"):
        read_single_file(tmp_path / "gone.safetensors")
