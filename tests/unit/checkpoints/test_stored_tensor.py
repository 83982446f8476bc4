from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast.checkpoints.stored_tensor import StoredTensor, obstacle, restore_tensor, store_tensor
from holdfast.checkpoints.tensors import DTYPE_NAMES, tensor_bytes
from holdfast.errors import CheckpointError

NAMED = [str(dtype).removeprefix("torch.") for dtype in DTYPE_NAMES]
UNNAMED = {
    "complex32": torch.float16, "complex128": torch.float64, "bcomplex32": torch.bfloat16,
    "float4_e2m1fn_x2": torch.uint8, "bits8": torch.uint8, "bits1x8": torch.uint8, "uint4": torch.uint8,
    "int2": torch.uint8, "bits16": torch.uint16,
}  # fmt: skip


def _from_file(values: Tensor) -> Tensor:
    """Returns what a file gives back: the same values, row-major, in memory of their own."""
    raw = bytearray(tensor_bytes(values))
    if not raw:
        return torch.empty(values.shape, dtype=values.dtype)
    return torch.frombuffer(raw, dtype=torch.uint8).view(values.dtype).reshape(values.shape)


def _round_trip(tensor: Tensor) -> tuple[StoredTensor, Tensor]:
    """Returns what was stored of a tensor, and the tensor that comes of it."""
    stored = store_tensor(tensor)
    assert stored.values.dtype in DTYPE_NAMES
    facts = json.loads(json.dumps(stored.facts | {fact: fact for fact in stored.beside}, allow_nan=False))
    beside = {fact: _from_file(numbers) for fact, numbers in stored.beside.items()}
    return stored, restore_tensor(_from_file(stored.values), facts, beside)


def _bits(dtype: torch.dtype, *shape: int) -> Tensor:
    """Returns a tensor of every bit pattern, not-a-numbers among them."""
    generator = torch.Generator().manual_seed(0)
    num_bytes = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (num_bytes,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).view(shape)


def _raw(tensor: Tensor) -> bytes:
    """Returns the bits of a tensor of any unquantised dtype, as they lie in its memory from its first value on."""
    storage = tensor.untyped_storage()
    start = tensor.storage_offset() * tensor.element_size()
    return bytes(storage[start : start + tensor.numel() * tensor.element_size()])


def _quantized(values: Tensor, scale: float = 0.1, zero_point: int = 3) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch._make_per_tensor_quantized_tensor(values, scale, zero_point)


def _by_channel(values: Tensor, scales: Tensor, zero_points: Tensor, axis: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch._make_per_channel_quantized_tensor(values, scales, zero_points, axis)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (2, 1, 4)], ids=str)
@pytest.mark.parametrize("name", NAMED)
def test_a_row_major_tensor_of_a_named_type_is_stored_as_it_is(name: str, shape: tuple[int, ...]) -> None:
    """It needs no facts, and the very object is handed on."""
    tensor = _bits(getattr(torch, name), *shape)
    stored, read = _round_trip(tensor)
    assert stored.values is tensor
    assert (stored.facts, stored.beside) == ({}, {})
    assert (read.dtype, read.shape, read.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert _raw(read) == _raw(tensor)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (2, 1, 4)], ids=str)
@pytest.mark.parametrize("name", UNNAMED)
def test_a_type_that_safetensors_cannot_name_comes_back_to_the_bit(name: str, shape: tuple[int, ...]) -> None:
    """Its bits are stored under another type, in its own memory, and the facts name its own."""
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    tensor = _bits(getattr(torch, name), *shape)
    stored, read = _round_trip(tensor)
    assert stored.facts == {"dtype": name}
    assert stored.values.dtype is UNNAMED[name]
    assert tuple(stored.values.shape) == ((*shape, 2) if tensor.dtype.is_complex else shape)
    assert stored.values.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert (read.dtype, read.shape, read.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert _raw(read) == _raw(tensor)


@pytest.mark.parametrize(
    ("tensor", "strides"),
    [
        (torch.arange(120).reshape(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), [60, 1, 15, 3]),
        (torch.arange(20).reshape(2, 1, 2, 5).to(memory_format=torch.channels_last), [10, 1, 5, 1]),
        (torch.arange(240).reshape(2, 3, 4, 5, 2).contiguous(memory_format=torch.channels_last_3d), None),
        (torch.arange(6).reshape(2, 3).T, [1, 3]),
        (torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1), [1, 12, 4]),
        (torch.arange(24).reshape(2, 3, 4).permute(1, 2, 0), [4, 1, 12]),
        (torch.arange(3).reshape(3, 1).T, [1, 1]),
        (torch.tensor([5, 6])[::2], [2]),
    ],
    ids=["last", "one channel last", "last 3d", "transposed", "permuted", "permuted again", "row of one", "one value"],
)
@pytest.mark.parametrize(
    "name", ["float32", "float8_e4m3fn", "uint16", "complex64", "complex128", "complex32", "bits8"]
)
def test_a_dense_tensor_in_another_order_comes_back_in_that_order(
    tensor: Tensor, strides: list[int] | None, name: str
) -> None:
    """Strides are remembered where they are not the row-major ones and every place holds one value."""
    dtype = getattr(torch, name)
    storage = _bits(dtype, tensor.untyped_storage().nbytes() // 8)
    other = storage.as_strided(tensor.shape, tensor.stride())
    stored, read = _round_trip(other)
    assert stored.facts["strides"] == (strides or list(tensor.stride()))
    assert (read.dtype, read.shape, read.stride()) == (dtype, other.shape, other.stride())
    assert _raw(read) == _raw(other)


@pytest.mark.parametrize("name", ["float32", "float8_e5m2", "complex128", "bits8"])
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:, 1:],
        lambda t: t[::2, ::2],
        lambda t: t[0].expand(4, *t.shape[1:]),
        lambda t: t[:, :1].expand(-1, 3, -1),
        lambda t: t[:0].permute(2, 1, 0),
        lambda t: t.as_strided((3, 4), (1, 1)),
    ],
    ids=["narrowed", "strided", "expanded", "expanded within", "empty", "overlapping"],
)
def test_a_tensor_with_gaps_or_overlaps_comes_back_row_major(view: Any, name: str) -> None:
    """Sliced, expanded and overlapping views keep their values and get memory of their own."""
    base = _bits(getattr(torch, name), 3, 3, 4)
    numbers = view(torch.arange(36).reshape(3, 3, 4))  # which value of `base` stands where
    stored, read = _round_trip(view(base))
    assert "strides" not in stored.facts
    assert read.is_contiguous()
    size = base.element_size()
    expected = [_raw(base)[number * size : number * size + size] for number in numbers.flatten().tolist()]
    assert _raw(read) == b"".join(expected)


def test_views_that_change_signs_lazily_come_back_with_their_values() -> None:
    """Conjugated and negated views of complex and real numbers are stored by value."""
    wide = torch.tensor([[1 + 2j, 3 - 4j], [0j, complex(5, float("nan"))]], dtype=torch.complex128)
    for tensor in (wide.conj(), wide.to(torch.complex64).conj(), wide.T.conj(), wide.conj().imag, wide[1:].conj()):
        assert tensor.is_conj() or tensor.is_neg()
        _, read = _round_trip(tensor)
        assert (read.dtype, read.shape, read.is_conj(), read.is_neg()) == (tensor.dtype, tensor.shape, False, False)
        assert bytes(tensor_bytes(torch.view_as_real(read) if read.is_complex() else read)) == bytes(
            tensor_bytes(torch.view_as_real(tensor.resolve_conj()) if read.is_complex() else tensor.resolve_neg())
        )
    negated = torch._neg_view(wide.conj())
    assert torch.equal(_round_trip(negated)[1][0], torch.tensor([-1 + 2j, -3 - 4j], dtype=torch.complex128))


def test_half_precision_complex_numbers_are_conjugated_by_their_sign_bit() -> None:
    """The conjugate of 32-bit complex numbers, for which torch has few operations, has its imaginary signs flipped."""
    tensor = _bits(torch.complex32, 5)
    _, read = _round_trip(tensor.conj())
    flipped = torch.view_as_real(tensor).clone()
    flipped.view(torch.int16)[:, 1] ^= -(2**15)
    assert _raw(read) == _raw(flipped)


@pytest.mark.parametrize(("values", "kind"), [(torch.int8, "qint8"), (torch.uint8, "quint8"), (torch.int32, "qint32")])
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t[0, 0, 0, 0],
        lambda t: t[:0],
        lambda t: t.permute(3, 1, 0, 2),
        lambda t: t.contiguous(memory_format=torch.channels_last),
    ],
    ids=["dense", "scalar", "empty", "permuted", "channels last"],
)
def test_a_tensor_quantised_as_a_whole_comes_back(values: torch.dtype, kind: str, view: Any) -> None:
    """Integers, scale, zero point and strides are the same; the file holds plain integers."""
    tensor = view(_quantized(_bits(values, 2, 3, 4, 5)))
    stored, read = _round_trip(tensor)
    assert stored.values.dtype is values
    assert (stored.facts["dtype"], stored.facts["scale"], stored.facts["zero_point"]) == (kind, 0.1, 3)
    assert (read.dtype, read.shape, read.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert (read.q_scale(), read.q_zero_point()) == (0.1, 3)
    assert torch.equal(read.int_repr(), tensor.int_repr())


def test_a_scale_that_json_has_no_word_for_comes_back() -> None:
    """An infinite scale is stored as text."""
    stored, read = _round_trip(_quantized(torch.ones(2, dtype=torch.int8), float("inf"), 0))
    assert stored.facts["scale"] == "inf"
    assert read.q_scale() == float("inf")


@pytest.mark.parametrize(
    ("scales", "zero_points", "last"),
    [
        (torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, -2]), False),
        (torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, -2]), True),
        (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, -1.0]), False),
    ],
    ids=["row-major", "channels last", "zero points in floating point"],
)
def test_a_tensor_quantised_by_channel_comes_back(scales: Tensor, zero_points: Tensor, last: bool) -> None:
    """Integers, scales, zero points, axis, scheme and strides are the same."""
    tensor = _by_channel(_bits(torch.uint8, 2, 3, 4, 5), scales, zero_points, 1)
    tensor = tensor.contiguous(memory_format=torch.channels_last) if last else tensor
    stored, read = _round_trip(tensor)
    assert stored.facts == {"dtype": "quint8", "axis": 1} | ({"strides": [60, 1, 15, 3]} if last else {})
    assert (read.dtype, read.shape, read.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert (read.qscheme(), read.q_per_channel_axis()) == (tensor.qscheme(), 1)
    assert torch.equal(read.q_per_channel_scales(), scales)
    assert torch.equal(read.q_per_channel_zero_points(), zero_points)
    assert torch.equal(read.int_repr(), tensor.int_repr())


def test_strides_that_torch_would_not_set_again_are_not_remembered() -> None:
    """A single channel in channels-last order counts as row-major for torch, and comes back so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        tensor = torch._empty_per_channel_affine_quantized(
            [2, 1, 2, 5],
            scales=torch.ones(1, dtype=torch.float64),
            zero_points=torch.zeros(1, dtype=torch.int64),
            axis=1,
            dtype=torch.qint8,
            memory_format=torch.channels_last,
        ).copy_(
            _by_channel(_bits(torch.int8, 2, 1, 2, 5), torch.ones(1, dtype=torch.float64), torch.zeros(1).long(), 1)
        )
    assert tensor.stride() == (10, 1, 5, 1)
    stored, read = _round_trip(tensor)
    assert "strides" not in stored.facts
    assert read.stride() == (10, 10, 5, 1)
    assert torch.equal(read.int_repr(), tensor.int_repr())


def test_other_strides_of_channels_are_not_remembered() -> None:
    """A tensor quantised by channel, in an order that is not channels-last, comes back row-major."""
    scales, zero_points = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    tensor = _by_channel(_bits(torch.int8, 2, 3, 4, 5), scales, zero_points, 1)
    tensor.set_(tensor.untyped_storage(), 0, (2, 3, 4, 5), (1, 2, 6, 24))
    stored, read = _round_trip(tensor)
    assert "strides" not in stored.facts
    assert read.stride() == (60, 20, 5, 1)
    assert torch.equal(read.int_repr(), tensor.int_repr())


def test_restoring_says_nothing_of_deprecated_types() -> None:
    """In a program in which every warning is an error, quantised tensors come back."""
    code = """
import torch
from holdfast.checkpoints.stored_tensor import restore_tensor
values, beside = torch.ones(2, 3, dtype=torch.int8), {"s": torch.ones(3), "z": torch.zeros(3, dtype=torch.int64)}
whole = restore_tensor(values, {"dtype": "qint8", "scale": 0.5, "zero_point": 0}, {})
facts = {"dtype": "qint8", "axis": 1, "scales": "s", "zero_points": "z"}
print(whole.dtype, restore_tensor(values, facts, beside).dtype)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("torch.qint8 torch.qint8\n", "")


def test_a_tensor_that_wants_gradients_is_stored_as_its_values() -> None:
    """A parameter of a type without a name comes back as a plain tensor that asks for no gradient."""
    _, read = _round_trip(nn.Parameter(torch.ones(2, dtype=torch.complex128)))
    assert (type(read), read.requires_grad, read.tolist()) == (Tensor, False, [1, 1])


class _Wrapper(Tensor):
    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError


class _Marked(Tensor):
    """A subclass that adds a name and nothing else."""


def _nested(layout: torch.layout) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prototype
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


def _sparse_rows() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # beta
        return torch.eye(2).to_sparse_csr()


def _packed() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return torch.quantize_per_tensor(torch.ones(4), 0.5, 0, torch.quint4x2)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Tensor._make_wrapper_subclass(_Wrapper, [2]), "_Wrapper, which stands for other tensors"),
        (lambda: _nested(torch.jagged), "a nested tensor, which stands for other tensors"),
        (lambda: _nested(torch.strided), "a nested tensor, which stands for other tensors"),
        (lambda: nn.LazyLinear(3).weight, "a parameter without a shape"),
        (lambda: torch.eye(2).to_sparse(), "a tensor of layout torch.sparse_coo"),
        (_sparse_rows, "a tensor of layout torch.sparse_csr"),
        (lambda: torch.ones(2, device="meta"), "a tensor on the meta device"),
        (_packed, "a tensor of torch.quint4x2"),
    ],
    ids=["wrapper", "jagged", "nested", "lazy", "coo", "csr", "meta", "packed"],
)
def test_a_tensor_without_plain_values_has_an_obstacle(make: Any, found: str) -> None:
    """What holds no values of its own is refused, with what was found, expected and to do."""
    problem = obstacle(make())
    assert problem is not None
    assert problem.startswith("found ")
    assert found in problem
    assert "; expected " in problem
    assert problem.endswith(".") and problem.count(". ") == 1


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2), nn.Parameter(torch.ones(2)), torch.ones(2).as_subclass(_Marked), torch.empty(0)],
    ids=["tensor", "parameter", "subclass", "empty"],
)
def test_a_tensor_with_values_has_no_obstacle(tensor: Tensor) -> None:
    """Plain tensors, parameters and subclasses with memory of their own can be stored."""
    assert obstacle(tensor) is None


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"colour": 1}, "colour"),
        ({"dtype": "complex64"}, "torch.complex64 is not stored as torch.float32"),
        ({"dtype": "complex32"}, "torch.complex32 is not stored as torch.float32"),
        ({"strides": [1, 2, 3]}, "are not those of a dense tensor"),
        ({"strides": [1]}, "are not those of a dense tensor"),
        ({"strides": [10**9, 1]}, "are not those of a dense tensor"),
        ({"strides": [-3, 1]}, "are not those of a dense tensor"),
        ({"strides": [0, 1]}, "are not those of a dense tensor"),
        ({"strides": [3.0, 1.0]}, "are not those of a dense tensor"),
        ({"strides": "31"}, "are not those of a dense tensor"),
        ({"strides": None}, "are not those of a dense tensor"),
    ],
    ids=str,
)
def test_facts_that_do_not_fit_the_values_are_refused(facts: dict[str, Any], message: str) -> None:
    """No facts make a tensor that looks beyond the memory of its values."""
    with pytest.raises(ValueError, match=message):
        restore_tensor(torch.zeros(2, 3), facts, {})


def test_a_last_axis_that_is_no_pair_is_refused() -> None:
    """Complex numbers are two reals each."""
    with pytest.raises(ValueError, match="not stored in the shape"):
        restore_tensor(torch.zeros(2, 4, dtype=torch.float64), {"dtype": "complex128"}, {})
    with pytest.raises(ValueError, match="not stored in the shape"):
        restore_tensor(torch.zeros((), dtype=torch.float64), {"dtype": "complex128"}, {})


def test_a_type_that_this_torch_lacks_says_what_to_install() -> None:
    """A checkpoint of a later torch is not called damaged."""
    with pytest.raises(CheckpointError, match=r"of torch\.float2: torch .* has no such type\. Install the torch that"):
        restore_tensor(torch.zeros(2, dtype=torch.uint8), {"dtype": "float2"}, {})
