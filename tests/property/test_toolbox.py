"""Laws of the toolbox: conversions there and back, differences, averages."""

from __future__ import annotations

import math
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.formats import open_checkpoint
from holdfast.toolbox import average, convert, diff
from holdfast.toolbox.averaging import mean_of
from holdfast.toolbox.tensor_difference import compare_values

_EVERYWHERE = [
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip
_IN_OURS = [*_EVERYWHERE, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
_WORDS = st.sampled_from(["conv", "weight", "0", "1", "norm", "ünï", "a-b", "x y"])
_NAMES = st.lists(_WORDS, min_size=2, max_size=4).map(".".join)


@st.composite
def _tensors(draw: st.DrawFn, dtypes: list[torch.dtype]) -> Tensor:
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    size = math.prod(shape)
    raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    if dtype is torch.bool:
        raw = bytes(value & 1 for value in raw)
    tensor = torch.frombuffer(bytearray(raw or b"\0"), dtype=torch.uint8)[: len(raw)].clone().view(dtype).reshape(shape)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


def _bits(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    plain = tensor.contiguous()
    raw = plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return tensor.dtype, tuple(tensor.shape), raw


@st.composite
def _models(draw: st.DrawFn, dtypes: list[torch.dtype]) -> dict[str, Tensor]:
    names = draw(st.lists(_NAMES, min_size=1, max_size=5, unique=True))
    names = [f"block.{name}" for name in names]
    model = {name: draw(_tensors(dtypes)) for name in names}
    model["block.anchor.weight"] = torch.ones(2)  # something that nobody takes for random state
    for name in draw(st.lists(st.sampled_from(names), max_size=2)):
        model[f"tied.{name}"] = model[name]
    return model


def _there_and_back(model: dict[str, Tensor], kinds: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        torch.save({"model": model}, root / "0.pt")
        before = root / "0.pt"
        for number, kind in enumerate(kinds, 1):
            after = root / f"{number}"
            shard = "40B" if kind == "sharded" else None
            convert(before, after, to=kind, shard_size=shard, keep_names=True)
            assert diff(root / "0.pt", after, weights_only=True, names="file").equal
            before = after
        convert(before, root / "last.pth", keep_names=True)
        found = torch.load(root / "last.pth", weights_only=True)
        assert {name: _bits(value) for name, value in found.items()} == {n: _bits(v) for n, v in model.items()}


@settings(max_examples=25, deadline=None)
@given(
    _models(_IN_OURS),
    st.lists(st.sampled_from(["safetensors", "sharded", "checkpoint", "pth"]), min_size=1, max_size=3),
)
def test_any_chain_of_conversions_changes_no_bit(model: dict[str, Tensor], kinds: list[str]) -> None:
    """Through safetensors, shards, checkpoints and state dicts, in any order, names, types and bits are the same."""
    _there_and_back(model, kinds)


@settings(max_examples=15, deadline=None)
@given(_models(_EVERYWHERE), st.sampled_from(["safetensors", "checkpoint", "pth"]))
def test_npz_keeps_every_bit_of_the_types_it_has(model: dict[str, Tensor], other: str) -> None:
    """Into NumPy's archive and out of it again."""
    _there_and_back(model, ["npz", other, "npz"])


@settings(max_examples=60, deadline=None)
@given(_tensors(_IN_OURS), st.data())
def test_a_difference_is_found_if_and_only_if_a_bit_differs(tensor: Tensor, data: st.DataObject) -> None:
    """A tensor equals itself; with any one bit flipped it does not; and the order of the two does not matter."""
    assert compare_values(tensor, tensor.clone()).same_bits
    if not tensor.numel():
        return
    other = tensor.contiguous().clone()
    raw = other.as_strided((other.numel(),), (1,)).view(torch.uint8)
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 if tensor.dtype is torch.bool else 1 << data.draw(st.integers(0, 7))
    there, back = compare_values(tensor, other), compare_values(other, tensor)
    assert not there.same_bits
    assert there.num_different <= 1
    assert (there.num_different, there.max_abs, there.num_nan) == (back.num_different, back.max_abs, back.num_nan)


_FLOATS = st.floats(-(2.0**60), 2.0**60, width=32)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_FLOATS, st.integers(0, 100)), min_size=1, max_size=6).filter(lambda p: any(w for _, w in p)))
def test_the_mean_is_the_exact_one_to_a_few_roundings(pairs: list[tuple[float, int]]) -> None:
    """The weighted mean lies within a few units of float64 of the one computed with fractions, and among the values."""
    total = sum(weight for _, weight in pairs)
    mean = mean_of((torch.tensor([value]) for value, _ in pairs), [weight / total for _, weight in pairs]).item()
    exact = sum(Fraction(value) * weight for value, weight in pairs) / total
    largest = max(abs(value) for value, weight in pairs if weight)
    assert abs(Fraction(mean) - exact) <= Fraction(largest) * 16 * Fraction(2) ** -52
    used = [value for value, weight in pairs if weight]
    assert min(used) - largest * 2**-45 <= mean <= max(used) + largest * 2**-45


@settings(max_examples=10, deadline=None)
@given(_models([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64]), st.integers(2, 5))
def test_the_average_of_copies_is_the_model(model: dict[str, Tensor], copies: int) -> None:
    """However many, and whatever is in it: infinities, numbers at the ends of their range."""
    clean = {n: torch.where(v.isnan(), 0.0, v) if v.is_floating_point() else v for n, v in model.items()}
    clean |= {n: clean[n.removeprefix("tied.")] for n in clean if n.startswith("tied.")}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(clean, Path(folder) / "0.pt")
        paths = [shutil.copy(Path(folder) / "0.pt", Path(folder) / f"{n}.pt") for n in range(1, copies + 1)]
        average(paths, Path(folder) / "out.safetensors", keep_names=True)
        found = open_checkpoint(Path(folder) / "out.safetensors")
        assert diff(paths[0], Path(folder) / "out.safetensors", weights_only=True, names="file", atol=1e-323).equal
        assert found.kind == "safetensors"
