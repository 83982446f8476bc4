from __future__ import annotations

import math
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.checkpoints import Best, CheckpointStore, Last, files, read_single_file, write_single_file
from holdfast.checkpoints.flatten import flatten, unflatten
from holdfast.checkpoints.retention import Saved
from holdfast.checkpoints.tensors import DTYPE_NAMES, TensorFile, tensor_bytes, write_tensors
from holdfast.errors import UnsupportedState

LAW = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
UNNAMED = [
    getattr(torch, name)
    for name in ("complex32", "complex128", "bcomplex32", "float4_e2m1fn_x2", "bits8", "bits16", "uint4", "int3")
    if hasattr(torch, name)
]
ARRAY_DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def dense(draw: st.DrawFn, dtype: torch.dtype, shape: list[int]) -> Tensor:
    """A row-major tensor of any bit pattern, not-a-numbers among them."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (num_bytes,), dtype=torch.uint8, generator=generator)
    return raw.view(dtype).view(shape)


def in_some_layout(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """The tensor or a view of it."""
    match draw(st.sampled_from(["as it is", "permuted", "last", "strided", "narrowed", "expanded", "lazy"])):
        case "permuted":
            return tensor.permute(draw(st.permutations(range(tensor.ndim))))
        case "last" if tensor.ndim in (4, 5):
            return tensor.movedim(-1, 1)  # what channels_last and channels_last_3d are
        case "strided" if tensor.ndim:
            return tensor[::2]
        case "narrowed" if tensor.ndim and tensor.shape[-1] > 1:
            return tensor[..., 1:]
        case "expanded":
            return tensor.unsqueeze(0).expand(3, *tensor.shape)
        case "lazy" if tensor.dtype in (torch.complex64, torch.complex128):
            return tensor.conj().imag if draw(st.booleans()) else tensor.conj()
    return tensor


@st.composite
def file_tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor of a type that safetensors has a name for, 0 to 5 dimensions, in any layout."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3) | st.lists(st.integers(1, 3), min_size=4, max_size=5))
    return in_some_layout(draw, dense(draw, draw(st.sampled_from(list(DTYPE_NAMES))), shape))


@st.composite
def unnamed_tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor of a type that safetensors has no name for."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3) | st.lists(st.integers(1, 3), min_size=4, max_size=5))
    return in_some_layout(draw, dense(draw, draw(st.sampled_from(UNNAMED)), shape))


@st.composite
def quantized_tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor quantised as a whole or by channel."""
    shape = draw(st.lists(st.integers(1, 3), max_size=5))
    values = dense(draw, draw(st.sampled_from([torch.int8, torch.uint8, torch.int32])), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        if not shape or draw(st.booleans()):
            scale, zero_point = draw(st.floats(1e-9, 1e9)), draw(st.integers(-9, 9))
            whole = torch._make_per_tensor_quantized_tensor(values, scale, zero_point)
            return whole.permute(draw(st.permutations(range(whole.ndim))))
        axis = draw(st.integers(0, len(shape) - 1))
        scales = torch.rand(shape[axis], dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
        zero_points = torch.arange(shape[axis])
        by_channel = torch._make_per_channel_quantized_tensor(values, scales, zero_points, axis)
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(len(shape), torch.contiguous_format)
        return by_channel.contiguous(memory_format=last if draw(st.booleans()) else torch.contiguous_format)


def tensors() -> st.SearchStrategy[Tensor]:
    """Any tensor that can be stored."""
    return file_tensors() | file_tensors() | unnamed_tensors() | quantized_tensors()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Any NumPy array of numbers, dense, backwards or transposed."""
    dtype = np.dtype(draw(st.sampled_from(ARRAY_DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    generator = np.random.default_rng(draw(st.integers(0, 2**31)))
    array = generator.integers(0, 100, shape).astype(dtype)
    return array[::-1] if array.ndim and draw(st.booleans()) else array.T


numpy_scalars = st.builds(
    lambda kind, value: np.dtype(kind).type(value), st.sampled_from(ARRAY_DTYPES), st.integers(0, 1)
)
numbers = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])
    | st.complex_numbers()
)
keys = st.text(max_size=6) | st.integers() | st.sampled_from(["$tensor", "$", "a.b", "__metadata__", "value", ""])
leaves = (
    st.none() | st.booleans() | numbers | st.text() | st.binary() | tensors() | arrays() | numpy_scalars
    | st.sets(st.integers() | st.text(max_size=3), max_size=3) | st.sampled_from([torch.float16, torch.Size([2, 3])])
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def bits(tensor: Tensor) -> Any:
    """The values of a tensor of any kind, row-major, as something to compare to the bit."""
    if tensor.is_quantized:
        if tensor.qscheme() is torch.per_tensor_affine:
            return tensor.int_repr().tolist(), tensor.qscheme(), tensor.q_scale(), tensor.q_zero_point()
        scales, zero_points = tensor.q_per_channel_scales().tolist(), tensor.q_per_channel_zero_points().tolist()
        return tensor.int_repr().tolist(), tensor.qscheme(), scales, zero_points, tensor.q_per_channel_axis()
    if tensor.dtype in UNNAMED and tensor.dtype.is_complex:
        tensor = torch.view_as_real(tensor.resolve_conj())
    elif tensor.dtype in UNNAMED:
        tensor = tensor.view({1: torch.uint8, 2: torch.int16}[tensor.dtype.itemsize])
    return bytes(tensor_bytes(tensor))


def restored_strides(tensor: Tensor) -> tuple[int, ...]:
    """The strides that a tensor comes back with: its own where it is dense, and the row-major ones elsewhere."""
    if tensor.numel() and torch.ops.aten.is_non_overlapping_and_dense(tensor):
        return tensor.stride()
    return torch.empty(tensor.shape, device="meta").stride()


def leaves_of(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in its order."""
    if isinstance(tree, Tensor):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else []
    return [leaf for item in items for leaf in leaves_of(item)]


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal to the bit and of the same types; not-a-numbers are equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and bits(one) == bits(other)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return repr(one) == repr(other)
    return bool(one == other) or repr(one) == repr(other)


def test_the_comparison_sees_differences() -> None:
    """The measure of these tests tells signs of zero, types, orders and bits apart."""
    assert same({"a": [math.nan, -0.0, (1,)]}, {"a": [math.nan, -0.0, (1,)]})
    for one, other in [(0.0, -0.0), (1, True), (1, 1.0), ([1], (1,)), ({1: 0, 2: 0}, {2: 0, 1: 0}), (np.int8(1), 1)]:
        assert not same(one, other)
    for dtype in [*DTYPE_NAMES, *UNNAMED]:
        zeros, one = (
            torch.tensor([0] * (dtype.itemsize - 1) + [last], dtype=torch.uint8).view(dtype) for last in (0, 1)
        )
        assert not same(zeros, one)
    assert not same(torch.zeros(2), torch.zeros(2, 1))
    assert restored_strides(torch.ones(2, 3).T) == (1, 3)
    assert restored_strides(torch.ones(2, 3)[:, 1:]) == (2, 1)


@pytest.mark.row("S3")
@LAW
@given(tree=trees, background=st.booleans())
def test_saving_and_restoring_is_the_identity(tree: Any, background: bool) -> None:
    """Whatever can be saved comes back the same, to the bit, of the same type and in the same memory order."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder, background=background)
        store.save(1, {"tree": tree, "other": {"x": tree}})
        checkpoint = store.open(1)
        checkpoint.verify()
        read = checkpoint.read("tree")
        assert same(read, tree)
        assert [leaf.stride() for leaf in leaves_of(read)] == [restored_strides(leaf) for leaf in leaves_of(tree)]
        place: dict[str, Any] = {"x": None, "gone": 1}
        assert store.restore_latest({"other": place}) == 1
        assert same(place, {"x": tree})
        assert [leaf.stride() for leaf in leaves_of(place["x"])] == [restored_strides(leaf) for leaf in leaves_of(tree)]


@LAW
@given(tree=trees)
def test_saving_twice_gives_the_same_bytes(tree: Any) -> None:
    """What was restored saves to the very files it came from; only the time of the save is another."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (CheckpointStore(Path(folder) / name, background=False) for name in "ab")
        first.save(1, {"tree": tree})
        second.save(1, {"tree": first.open(1).read("tree")})
        one, other = first.open(1).path, second.open(1).path
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
        for path in one.iterdir():
            if path.name != "evaluation.json":
                assert path.read_bytes() == (other / path.name).read_bytes(), path.name


@LAW
@given(tree=trees)
def test_taking_apart_leaves_the_tree_alone_and_names_each_tensor_once(tree: Any) -> None:
    """Flattening changes nothing, and no two tensors share a name."""
    before = [(leaf.stride(), leaf.data_ptr(), bits(leaf)) for leaf in leaves_of(tree)]
    flat = flatten(tree, "part")
    assert [(leaf.stride(), leaf.data_ptr(), bits(leaf)) for leaf in leaves_of(tree)] == before
    assert not flat.tensors.keys() & flat.aliases.keys()
    assert set(flat.aliases.values()) <= flat.tensors.keys()


@LAW
@given(named=st.dictionaries(keys, tensors(), max_size=5), picks=st.lists(st.integers(0, 4), max_size=5))
def test_tied_tensors_stay_tied(named: dict[Any, Tensor], picks: list[int]) -> None:
    """Names of one tensor come back as names of one tensor."""
    values = [tensor for tensor in named.values() if tensor.numel()]
    ties = [values[pick % len(values)] for pick in picks] if values else []
    flat = flatten({"named": named, "ties": ties}, "part")
    stored = dict(flat.tensors)
    read = unflatten(flat.skeleton, stored | {alias: stored[name] for alias, name in flat.aliases.items()})
    for tie, original in zip(read["ties"], ties, strict=True):
        assert any(tie is candidate and same(tie, original) for candidate in read["named"].values())


@LAW
@given(
    named=st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), file_tensors(), max_size=6)
)
def test_the_safetensors_library_and_we_read_each_other(named: dict[str, Tensor]) -> None:
    """Any tensors under any names cross over in both directions."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.safetensors", Path(folder) / "theirs.safetensors"
        write_tensors(partial(files.write_durably, ours), named, {"format": "pt"})
        read = safetensors.torch.load_file(ours)
        assert read.keys() == named.keys()
        assert all(same(read[name], tensor) for name, tensor in named.items())
        safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in named.items()}, theirs)
        file = TensorFile(theirs)
        assert set(file.keys()) == named.keys()
        assert all(same(file.tensor(name), tensor) for name, tensor in named.items())


@LAW
@given(named=st.dictionaries(st.text(), tensors(), max_size=4), tied=st.integers(0, 3))
def test_any_safetensors_reader_gets_plain_values_under_the_names_of_a_checkpoint(
    named: dict[str, Tensor], tied: int
) -> None:
    """Whatever the kind of a tensor, the library opens its file, and finds its own values in row-major order there."""
    named |= {"tied": list(named.values())[tied % len(named)]} if named else {}
    flat = flatten({"tensors": named}, "part")
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder, background=False)
        store.save(1, {"part": {"tensors": named}})
        path = store.open(1).path / "part.safetensors"
        read = safetensors.torch.load_file(path) if named else {}
    assert read.keys() == flat.tensors.keys()
    for name, values in flat.tensors.items():
        assert same(read[name], values)
        assert read[name].is_contiguous()
    for key, tensor in named.items():
        if tensor.dtype in DTYPE_NAMES and key != "tied":
            name = f"tensors.{key}"
            assert same(read[flat.aliases.get(name, name)], tensor)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@LAW
@given(metadata=st.dictionaries(st.text(), json_values, max_size=4), metric=st.floats(allow_nan=False))
def test_metadata_and_metrics_come_back(metadata: dict[str, Any], metric: float) -> None:
    """Any JSON that the saver adds comes back equal, from a checkpoint and from a single file."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder)
        store.save(1, {}, {"metric": metric}, metadata)
        store.annotate(1, {"later": metric})
        expected = {"metric": metric, "later": metric} if math.isfinite(metric) else {}
        assert same(store.open(1).metadata, metadata)
        assert store.open(1).metrics == expected
        write_single_file(Path(folder) / "a.safetensors", {}, {"user": metadata})
        assert same(read_single_file(Path(folder) / "a.safetensors").metadata, {"user": metadata})


@LAW
@given(tree=trees, bad=st.sampled_from([object(), print, 1j.__class__, torch.zeros(1, device="meta")]))
def test_one_unsupported_value_anywhere_keeps_everything_off_the_disk(tree: Any, bad: Any) -> None:
    """However good the rest is, nothing is written when one value cannot be stored."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder) / "a")
        with pytest.raises(UnsupportedState, match=r"Saving part\.b\.0"):
            store.save(1, {"good": tree, "part": {"a": tree, "b": [bad]}})
        assert not store.root.exists()


scores = st.lists(st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12)


@pytest.mark.row("S8", "S9")
@LAW
@given(scores=scores, last=st.integers(1, 4) | st.none(), direction=st.sampled_from(["max", "min"]))
def test_retention_keeps_the_newest_and_the_best_at_every_moment(
    scores: list[float | None], last: int | None, direction: Any
) -> None:
    """Saving and pruning in turns, the newest `last` and the best of all so far are never gone."""
    best = Best("m", direction)
    kept: list[Saved] = []
    for step, score in enumerate(scores):
        kept.append(Saved(step, {} if score is None else {"m": score}))
        steps = (Last(last) | best).keep(kept)
        kept = [saved for saved in kept if saved.step in steps]
        known = [(s, n) for n, s in enumerate(scores[: step + 1]) if s is not None]
        assert set(range(max(0, step + 1 - (last or step + 1)), step + 1)) <= steps
        if known:
            top = (max if direction == "max" else min)(s for s, _ in known)
            assert best.keep(kept) == {next(n for s, n in known if s == top)}
        assert last is None or len(kept) <= last + 1
