from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from holdfast.checkpoints import files
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.tensors import (
    DTYPE_NAMES,
    DTYPES,
    TensorEntry,
    TensorFile,
    WrittenFile,
    tensor_bytes,
    write_tensors,
)
from holdfast.errors import CheckpointCorrupt


def _one_of_each_dtype() -> dict[str, Tensor]:
    """Returns a tensor of every dtype, with odd sizes so that many lie at odd places."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for number, (dtype, name) in enumerate(DTYPE_NAMES.items()):
        raw = torch.randint(0, 2 if dtype is torch.bool else 100, (3, 1 + number % 2), generator=generator)
        tensors[name] = raw.to(torch.float32).to(dtype) if dtype.is_floating_point else raw.to(dtype)
    tensors["scalar"] = torch.tensor(-0.5)
    tensors["flag"] = torch.tensor([True])
    tensors["count"] = torch.tensor(7)
    tensors["empty"] = torch.empty(0, 3)
    return tensors


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> WrittenFile:
    """Writes tensors to a new file on the real disk."""
    return write_tensors(partial(files.write_durably, path), tensors, metadata)


def _file(path: Path, header: object, data: bytes = b"") -> Path:
    """Writes a file in the format's frame around any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_what_is_written_reads_back_with_every_dtype(tmp_path: Path) -> None:
    """Tensors of all dtypes come back with the same dtype, shape and bytes, in the same order."""
    tensors = _one_of_each_dtype()
    _write(tmp_path / "a.safetensors", tensors)
    file = TensorFile(tmp_path / "a.safetensors")
    assert file.keys() == list(tensors)
    for name, tensor in tensors.items():
        read = file.tensor(name)
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape), name
        assert bytes(tensor_bytes(read)) == bytes(tensor_bytes(tensor)), name


def test_the_safetensors_library_opens_what_we_write(tmp_path: Path) -> None:
    """The reference library reads our file to the same tensors, all at once and one by one."""
    tensors = _one_of_each_dtype()
    _write(tmp_path / "a.safetensors", tensors, {"format": "pt"})
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        one_by_one = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    for read in (safetensors.torch.load_file(tmp_path / "a.safetensors"), one_by_one):
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
            assert bytes(tensor_bytes(read[name])) == bytes(tensor_bytes(tensor)), name


def test_the_safetensors_library_opens_what_we_write_from_memory(tmp_path: Path) -> None:
    """So does its way of reading from bytes, for the types which that way knows (it has none for 8-bit exponents)."""
    tensors = {name: tensor for name, tensor in _one_of_each_dtype().items() if name != "F8_E8M0"}
    _write(tmp_path / "a.safetensors", tensors, {"format": "pt"})
    read = safetensors.torch.load((tmp_path / "a.safetensors").read_bytes())
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
        assert bytes(tensor_bytes(read[name])) == bytes(tensor_bytes(tensor)), name


def test_our_names_of_types_are_the_librarys(tmp_path: Path) -> None:
    """For each dtype of ours the library writes the very name that we write."""
    tensors = {str(dtype): torch.zeros(2, dtype=torch.uint8).to(torch.bool).to(dtype) for dtype in DTYPE_NAMES}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        names = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # not a dict
    assert names == {str(dtype): name for dtype, name in DTYPE_NAMES.items()}


def test_we_open_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    """A file of the reference library, metadata included, reads to the tensors it was given."""
    tensors = _one_of_each_dtype()
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"epoch": "3"})
    file = TensorFile(tmp_path / "a.safetensors")
    assert file.metadata == {"epoch": "3"}
    assert set(file.keys()) == set(tensors)
    for name, tensor in tensors.items():
        assert file.tensor(name).dtype == tensor.dtype, name
        assert bytes(tensor_bytes(file.tensor(name))) == bytes(tensor_bytes(tensor)), name


def test_we_open_what_its_numpy_side_writes(tmp_path: Path) -> None:
    """A file written from NumPy arrays reads to equal tensors."""
    arrays = {"a": np.arange(5, dtype=np.int16), "b": np.eye(2, dtype=np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    file = TensorFile(tmp_path / "a.safetensors")
    assert all(np.array_equal(file.tensor(name).numpy(), array) for name, array in arrays.items())


def test_our_table_of_dtypes_is_one_to_one() -> None:
    """Each dtype has one name and each name one dtype."""
    assert len(DTYPES) == len(DTYPE_NAMES)
    assert all(DTYPES[name] is dtype for dtype, name in DTYPE_NAMES.items())


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.arange(6).reshape(2, 3).T, [0, 3, 1, 4, 2, 5]),
        (torch.arange(10)[::3], [0, 3, 6, 9]),
        (torch.tensor(4).expand(3), [4, 4, 4]),
        (torch.arange(6).reshape(2, 3)[:, 1:], [1, 2, 4, 5]),
        (torch.tensor(-1), [-1]),
        (torch.tensor([5, 6])[::2], [5]),
        (torch.arange(6).reshape(2, 3)[1:, 2:], [5]),
        (torch.empty(2, 0, dtype=torch.int64), []),
    ],
    ids=["transposed", "strided", "expanded", "narrowed", "scalar", "one value strided", "one value of many", "empty"],
)
def test_tensor_bytes_are_the_values_in_row_major_order(tensor: Tensor, expected: list[int]) -> None:
    """Whatever the strides, the bytes are the values as they print."""
    assert np.frombuffer(tensor_bytes(tensor), np.int64).tolist() == expected


def test_tensor_bytes_of_lazily_conjugated_values_are_the_values() -> None:
    """A conjugated or negated view has its own values stored, not those of the memory it looks at."""
    base = torch.tensor([1 + 2j, 3 - 4j])
    assert np.frombuffer(tensor_bytes(base.conj()), np.complex64).tolist() == [1 - 2j, 3 + 4j]
    assert np.frombuffer(tensor_bytes(base.conj().imag), np.float32).tolist() == [-2.0, 4.0]


def test_tensor_bytes_of_a_dense_tensor_are_not_a_copy() -> None:
    """Where the values lie right on the CPU, a change to the tensor shows in the bytes."""
    tensor = torch.zeros(1, dtype=torch.uint8)
    view = tensor_bytes(tensor)
    tensor.fill_(9)
    assert bytes(view) == b"\x09"


def test_a_parameter_is_stored_as_its_values(tmp_path: Path) -> None:
    """A tensor that asks for gradients is stored like any other and comes back without asking."""
    _write(tmp_path / "a.safetensors", {"w": torch.nn.Parameter(torch.ones(2))})
    read = TensorFile(tmp_path / "a.safetensors").tensor("w")
    assert read.tolist() == [1.0, 1.0]
    assert not read.requires_grad


def test_the_file_is_laid_out_as_the_format_says(tmp_path: Path) -> None:
    """Eight bytes of length, a JSON header padded to a multiple of eight, then the values in order."""
    _write(tmp_path / "a.safetensors", {"x": torch.tensor([1, 2], dtype=torch.uint8)}, {"format": "pt"})
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "__metadata__": {"format": "pt"},
        "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
    }
    assert data[8 + length :] == b"\x01\x02"


def test_write_tensors_reports_size_digest_and_an_entry_a_tensor(tmp_path: Path) -> None:
    """What it returns is true of the file on disk."""
    tensor = torch.arange(3, dtype=torch.int16)
    written = _write(tmp_path / "a.safetensors", {"x": tensor})
    data = (tmp_path / "a.safetensors").read_bytes()
    assert (written.num_bytes, written.digest) == (len(data), digest_of(data))
    assert written.tensors == {"x": TensorEntry("I16", (3,), digest_of(tensor.numpy().tobytes()))}


def test_write_tensors_fails_when_the_file_exists(tmp_path: Path) -> None:
    """An existing file is an error and stays."""
    (tmp_path / "a.safetensors").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        _write(tmp_path / "a.safetensors", {})
    assert (tmp_path / "a.safetensors").read_bytes() == b"old"


def test_no_tensors_make_a_file_of_a_header_only(tmp_path: Path) -> None:
    """A file of no tensors is a file that we and the library open."""
    _write(tmp_path / "a.safetensors", {})
    assert TensorFile(tmp_path / "a.safetensors").keys() == []
    assert safetensors.torch.load_file(tmp_path / "a.safetensors") == {}


def test_tensors_that_lie_at_odd_places_are_read(tmp_path: Path) -> None:
    """A float that other writers put behind a single byte is read right."""
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]},
    }
    path = _file(tmp_path / "a.safetensors", header, b"\x07" + np.float32(2.5).tobytes())
    assert TensorFile(path).tensor("b").tolist() == [2.5]


def test_changing_a_read_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    """A tensor that was read can be written to, and the file keeps its bytes."""
    _write(tmp_path / "a.safetensors", {"x": torch.zeros(4)})
    before = (tmp_path / "a.safetensors").read_bytes()
    TensorFile(tmp_path / "a.safetensors").tensor("x").fill_(5)
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_size_and_bytes_of_a_file_are_told(tmp_path: Path) -> None:
    """The size, all bytes, and the bytes of one tensor are there without making tensors of them."""
    _write(tmp_path / "a.safetensors", {"x": torch.tensor([3], dtype=torch.int8)})
    file = TensorFile(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    assert (file.num_bytes, bytes(file.data()), bytes(file.tensor_data("x"))) == (len(data), data, b"\x03")


def test_opening_fails_when_there_is_no_file(tmp_path: Path) -> None:
    """A missing file is named, with the system's reason."""
    with pytest.raises(CheckpointCorrupt, match=r"gone\.safetensors: cannot be read \(No such file"):
        TensorFile(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("data", [b"", b"1234567", b"\x80\x04\x95" + b"\0" * 20, b"PK\x03\x04" + b"\0" * 40])
def test_opening_fails_when_it_is_not_a_safetensors_file(tmp_path: Path, data: bytes) -> None:
    """An empty file, a stub, a pickle and a zip archive are refused by name and size."""
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=rf"a\.safetensors: not a safetensors file.*\({len(data)} bytes\)"):
        TensorFile(tmp_path / "a.safetensors")


def test_opening_fails_when_the_header_claims_more_than_there_is(tmp_path: Path) -> None:
    """A header length beyond the file, or beyond all measure, is refused before anything is read."""
    path = tmp_path / "a.safetensors"
    for length in (100, 2**40, 2**64 - 1):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(CheckpointCorrupt, match="cut short"):
            TensorFile(path)


_FLOAT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'not': json}", "its header is damaged"),
        (b"\xff\xff\xff\xff", "its header is damaged"),
        (b"[" * 200_000, "its header is damaged"),
        ([1, 2], "not a table of tensors"),
        ({"__metadata__": [1]}, "not a table of tensors"),
        ({"x": 5}, "its header is damaged"),
        ({"x": {"dtype": "F32", "shape": [2]}}, "its header is damaged"),
        ({"x": {**_FLOAT, "dtype": ["F32"]}}, "its header is damaged"),
        ({"x": {**_FLOAT, "dtype": "F31"}}, "x has the type 'F31', which we do not know"),
        ({"x": {**_FLOAT, "shape": [3]}}, "x lies at bytes 0 to 8, which cannot be"),
        ({"x": {**_FLOAT, "data_offsets": [4, 12]}}, "x lies at bytes 4 to 12, which cannot be"),
        ({"x": {**_FLOAT, "shape": [-1, -2]}}, "its header is damaged"),
        ({"x": {**_FLOAT, "shape": [2.0]}}, "its header is damaged"),
        ({"x": {**_FLOAT, "data_offsets": [0.0, 8.0]}}, "its header is damaged"),
        ({"x": {**_FLOAT, "shape": [2**32, 2**32], "data_offsets": [0, 0]}}, "which cannot be"),
        ({"x": {**_FLOAT, "shape": [2**70]}}, "which cannot be"),
        ({"x": _FLOAT, "y": _FLOAT}, "lies at bytes 0 to 8, which cannot be"),
        ({}, "its header promises"),
    ],
)
def test_opening_fails_when_the_header_contradicts_the_file(tmp_path: Path, header: object, message: str) -> None:
    """Every header that cannot be true of eight bytes is refused in words, and none of them crashes."""
    path = _file(tmp_path / "a.safetensors", header, b"\0" * 8)
    with pytest.raises(CheckpointCorrupt, match=r"a\.safetensors: ") as caught:
        TensorFile(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("num_missing", [1, 3, 8])
def test_opening_fails_when_the_end_is_cut_off(tmp_path: Path, num_missing: int) -> None:
    """A file without its last bytes is refused."""
    path = tmp_path / "a.safetensors"
    _write(path, {"x": torch.zeros(2)})
    data = path.read_bytes()
    path.write_bytes(data[:-num_missing])
    with pytest.raises(CheckpointCorrupt, match=rf"{len(data) - num_missing} bytes; its header promises {len(data)}"):
        TensorFile(path)
