from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from holdfast.checkpoints import CheckpointStore, Retention, read_single_file, write_single_file
from holdfast.checkpoints.flatten import flatten, unflatten
from holdfast.checkpoints.tensors import DTYPE_NAMES, TensorFile, tensor_bytes, write_tensors
from holdfast.errors import UnsupportedState

LAW = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
ARRAY_DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8"]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any tensor: every dtype, 0 to 3 dimensions, empty ones, any bit pattern (NaNs too), and several layouts."""
    dtype = draw(st.sampled_from(list(DTYPE_NAMES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (num_bytes,), dtype=torch.uint8, generator=generator)
    dense = raw.view(dtype).reshape(shape) if num_bytes else torch.empty(shape, dtype=dtype)
    match draw(st.sampled_from(["dense", "transposed", "strided", "narrowed", "expanded"])):
        case "transposed":
            return dense.permute(tuple(reversed(range(dense.ndim))))
        case "strided" if dense.ndim:
            return dense[::2]
        case "narrowed" if dense.ndim and dense.shape[-1] > 1:
            return dense[..., 1:]
        case "expanded":
            return dense.unsqueeze(0).expand(3, *dense.shape)
    return dense


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


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal to the bit and of the same types; not-a-numbers are equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and bytes(tensor_bytes(one)) == bytes(tensor_bytes(other))
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
    assert not same(torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.row("S3")
@LAW
@given(tree=trees)
def test_saving_and_restoring_is_the_identity(tree: Any) -> None:
    """Whatever can be saved comes back the same, to the bit and of the same type."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder)
        store.save(1, {"tree": tree, "other": {"x": tree}})
        checkpoint = store.open(1)
        checkpoint.verify()
        assert same(checkpoint.read("tree"), tree)
        place: dict[str, Any] = {"x": None, "gone": 1}
        assert store.restore_latest({"other": place}) == 1
        assert same(place, {"x": tree})


@LAW
@given(tree=trees)
def test_saving_twice_gives_the_same_bytes(tree: Any) -> None:
    """What was restored saves to the very files it came from."""
    with tempfile.TemporaryDirectory() as folder:
        first = CheckpointStore(Path(folder) / "a").save(1, {"tree": tree})
        second = CheckpointStore(Path(folder) / "b").save(
            1, {"tree": CheckpointStore(first.parent).open(1).read("tree")}
        )
        for path in first.iterdir():
            assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@LAW
@given(tree=trees)
def test_taking_apart_leaves_the_tree_alone_and_names_each_tensor_once(tree: Any) -> None:
    """Flattening changes nothing, and no two tensors share a name."""
    before = repr(tree)
    flat = flatten(tree, "part")
    assert repr(tree) == before
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
@given(named=st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), tensors(), max_size=6))
def test_the_safetensors_library_and_we_read_each_other(named: dict[str, Tensor]) -> None:
    """Any tensors under any names cross over in both directions."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.safetensors", Path(folder) / "theirs.safetensors"
        write_tensors(ours, named, {"format": "pt"})
        read = safetensors.torch.load_file(ours)
        assert read.keys() == named.keys()
        assert all(same(read[name], tensor) for name, tensor in named.items())
        safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in named.items()}, theirs)
        file = TensorFile(theirs)
        assert set(file.keys()) == named.keys()
        assert all(same(file.tensor(name), tensor) for name, tensor in named.items())


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
@given(tree=trees, bad=st.sampled_from([object(), print, 1j.__class__, torch.zeros(1, dtype=torch.complex128)]))
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
    retention = Retention(last=last, metric="m", direction=direction)
    kept: dict[int, dict[str, float]] = {}
    for step, score in enumerate(scores):
        kept[step] = {} if score is None else {"m": score}
        kept = {old: kept[old] for old in retention.keep(kept)}
        known = [(s, n) for n, s in enumerate(scores[: step + 1]) if s is not None]
        assert set(range(max(0, step + 1 - (last or step + 1)), step + 1)) <= kept.keys()
        if known:
            top = (max if direction == "max" else min)(s for s, _ in known)
            assert retention.best(kept) == next(n for s, n in known if s == top)
        assert last is None or len(kept) <= last + 1
