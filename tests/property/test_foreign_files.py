"""Whatever torch can save and load without code, is read the same; and whatever bytes do, they end in an answer."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import runpy
import tempfile
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointError
from holdfast.formats.inert import TorchName
from holdfast.formats.lazy_tensor import LazyTensor

LAW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64,
    torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Tensors of any type, bits and view."""
    shape, dtype = draw(st.lists(st.integers(0, 4), max_size=4)), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    count = torch.Size(shape).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (count,), dtype=torch.uint8, generator=generator)
    tensor = raw.view(dtype).view(shape)
    match draw(st.sampled_from(["as it is", "permuted", "strided", "expanded", "parameter", "conj"])):
        case "permuted":
            return tensor.permute(draw(st.permutations(range(tensor.ndim))))
        case "strided" if tensor.ndim:
            return tensor[::2]
        case "expanded":
            return tensor.unsqueeze(0).expand(3, *tensor.shape)
        case "parameter" if dtype.is_floating_point:
            return nn.Parameter(tensor)
        case "conj" if dtype.is_complex:
            return tensor.conj()
    return tensor


KEYS = st.text(max_size=6) | st.integers() | st.tuples(st.text(max_size=3), st.integers(-9, 9)) | st.booleans()
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(min_size=1, max_size=9)
    | tensors()
    | st.complex_numbers() | st.sampled_from([torch.float32, torch.int8, torch.device("cpu"), torch.Size([2, 3])])
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict)
        | st.tuples(inner, inner)
        | st.sets(KEYS, max_size=3)
        | st.builds(Counter, st.text(max_size=5))
        | st.tuples(inner).map(lambda one: [one[0], one[0]])
    ),
    max_leaves=12,
)


def agree(found: Any, truth: Any) -> bool:
    """Returns whether a tree read inertly is the one that torch loads, bit for bit."""
    if isinstance(truth, Tensor):
        made = found.to_torch()
        raw = [t.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8) for t in (made, truth)]
        alike = (made.dtype, made.shape, made.stride()) == (truth.dtype, truth.shape, truth.stride())
        return type(found) is LazyTensor and alike and torch.equal(*raw)
    if isinstance(truth, (torch.dtype, torch.device)):
        return isinstance(found, TorchName) and found.name == str(truth).removeprefix("torch.")
    if isinstance(truth, dict):
        kind = dict if type(truth) is Counter else type(truth)
        same_keys = list(found) == list(truth) and [type(k) for k in found] == [type(k) for k in truth]
        return type(found) is kind and same_keys and all(agree(found[k], v) for k, v in truth.items())
    if isinstance(truth, (list, tuple)):
        kinds = type(found) is type(truth) or isinstance(truth, torch.Size)
        return kinds and len(found) == len(truth) and all(map(agree, found, truth))
    if isinstance(truth, (float, complex)):
        return type(found) is type(truth) and repr(found) == repr(truth)
    return type(found) is type(truth) and bool(found == truth)


@LAW
@given(TREES, st.booleans(), st.booleans())
def test_any_tree_is_read_as_torch_loads_it(tree: Any, as_zip: bool, deflated: bool) -> None:
    """What torch.load(weights_only=True) returns is what stands in the tree: values, types, strides, bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.pt"
        torch.save({"tree": tree}, path, _use_new_zipfile_serialization=as_zip)
        truth = torch.load(path, weights_only=True)
        if as_zip and deflated:
            with zipfile.ZipFile(path) as old:
                held = {name: old.read(name) for name in old.namelist()}
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
                for name, data in held.items():
                    new.writestr(name, data)
        assert agree(open_checkpoint(path).tree, truth)


def _originals() -> dict[str, bytes]:
    """Files of every reader, to be damaged."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 3)).sum().backward()
    optimizer.step()
    tree = {"epoch": 3, "model": net.state_dict(), "optimizer": optimizer.state_dict(), "best": np.float64(0.5)}
    files = {}
    for name, value, how in (
        ("zip", tree, {}),
        ("zip-5", tree, {"pickle_protocol": 5}),
        ("legacy", tree, {"_use_new_zipfile_serialization": False}),
        ("module", {"model": net}, {}),
    ):
        buffer = io.BytesIO()
        torch.save(value, buffer, **how)
        files[name] = buffer.getvalue()
    with zipfile.ZipFile(io.BytesIO(files["zip"])) as old:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        files["deflated"] = buffer.getvalue()
    files["gzip"] = gzip.compress(files["zip"])
    files["safetensors"] = safetensors.torch.save(net.state_dict())
    buffer = io.BytesIO()
    np.savez(buffer, **{name: tensor.numpy() for name, tensor in net.state_dict().items()})
    files["npz"] = buffer.getvalue()
    files["pickle"] = pickle.dumps(tree, 4)
    write_tar = runpy.run_path(str(Path(__file__).parents[1] / "unit/formats/conftest.py"))["_write_tar"]
    with tempfile.TemporaryDirectory() as folder:
        write_tar({name: t for name, t in net.state_dict().items() if t.ndim}, Path(folder) / "t.tar")
        files["tar"] = (Path(folder) / "t.tar").read_bytes()
    return files


PROVEN = {"zip", "zip-5", "module", "deflated", "gzip", "npz"}  # these carry checksums: what is read is right


def _damaged(data: bytes, dice: random.Random) -> bytes:
    """Returns the bytes with a few of them changed, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) or 1)
        match dice.randrange(6):
            case 0 | 1:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case 2:
                changed[at : at + 1] = bytes([changed[at] ^ (1 << dice.randrange(8))]) if changed else b""
            case 3:
                del changed[at : at + dice.choice((1, 2, 8, 100))]
            case 4:
                start = dice.randrange(len(changed) or 1)
                changed[at:at] = changed[start : start + dice.choice((1, 4, 30))]
            case 5:
                changed[at : at + 8] = dice.choice((bytes(8), b"\xff" * 8, dice.randbytes(8)))
    return bytes(changed)


def _weights(path: Path) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in open_checkpoint(path).weights().items()}


@pytest.mark.parametrize("name", [*sorted(PROVEN), "legacy", "pickle", "safetensors", "tar"])
def test_damaged_files_end_in_the_right_answer_or_in_an_error(name: str, long_form: bool, tmp_path: Path) -> None:
    """2,000 mutated files (100,000 in the long form): the right weights, or CheckpointError; nothing else."""
    dice = random.Random(f"damage {name}")
    original, path = _originals()[name], tmp_path / "f.bin"
    path.write_bytes(original)
    truth = _weights(path)
    messages = []
    for _ in range(10_000 if long_form else 200):
        path.write_bytes(_damaged(original, dice))
        try:
            found = _weights(path)
        except CheckpointError as error:
            messages.append(str(error))
            continue
        if name in PROVEN:
            assert found.keys() == truth.keys()
            assert all(torch.equal(found[key], tensor) for key, tensor in truth.items())
    assert len(messages) > 20
    assert [message for message in messages if str(path) not in message] == []
    assert list(tmp_path.iterdir()) == [path]
