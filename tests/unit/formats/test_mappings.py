from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from holdfast import open_checkpoint
from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import Global, InertObject
from holdfast.formats.mappings import by_text, tensor_dict

WEIGHT, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
WRITTEN: dict[str, Any] = {
    "bytes": {b"fc.weight": WEIGHT, b"fc.bias": BIAS},
    "bytes within": {b"epoch": 3, b"state_dict": {b"fc.weight": WEIGHT, b"fc.bias": BIAS}},
    "words": {("fc", "weight"): WEIGHT, ("fc", "bias"): BIAS},
    "Paddle": {"fc.weight": ("linear_0.w_0", WEIGHT), "fc.bias": ("linear_0.b_0", BIAS)},
    "Paddle, with a table": {
        "fc.weight": ("linear_0.w_0", WEIGHT), "fc.bias": ("linear_0.b_0", BIAS), "StructuredToParameterName@@": {},
    },
}  # fmt: skip


@pytest.mark.parametrize("how", WRITTEN)
def test_names_that_are_no_text_and_arrays_in_pairs_are_weights(how: str, tmp_path: Path) -> None:
    """Bytes, words in a tuple, and Paddle's pairs all mean names and arrays."""
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(WRITTEN[how]))
    found = open_checkpoint(tmp_path / "m.pkl").weights()
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "fc.weight": WEIGHT.tolist(), "fc.bias": BIAS.tolist(),
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [{b"a": 1, "a": 2}, {b"\xff": 1}, {(): 1}, {("a", 1): 1}, {1: 2}, {("a", "b"): 1, "a.b": 2}, {"a": (1, 2)}]
)
def test_keys_that_do_not_plainly_mean_names_are_left(value: dict[Any, Any]) -> None:
    """Two that would become one, bytes that are no text, numbers: the mapping stays as it is."""
    assert by_text(value) is value


def _td(**held: Any) -> InertObject:
    return InertObject(
        "tensordict._reductions", "_make_td", (Global("tensordict._td", "TensorDict"), {"_tensordict": held})
    )


def test_a_tensordict_is_its_tensors_by_names_with_dots() -> None:
    """TensorDicts within it are words of the names; as a call and as an object with a state alike."""
    array = InertArray()
    state = InertObject("tensordict", "TensorDict")
    state.build({"_tensordict": {"fc": _td(weight=array, bias=array)}, "_batch_size": ()})
    assert tensor_dict(_td(a=array, b=state)) == {"a": array, "b.fc.weight": array, "b.fc.bias": array}
    assert tensor_dict(InertObject("other", "TensorDict")) is None
    assert tensor_dict(InertObject("tensordict", "Thing")) is None


def test_a_tensordict_larger_than_any_is_none() -> None:
    """One that contains itself, one that holds another twice on each level, and names without end."""
    inner: dict[str, Any] = {"x": 1}
    inner["again"] = _td(**inner)
    inner["again"].args[1]["_tensordict"] = inner
    assert tensor_dict(inner["again"]) is None
    twice = _td(x=1)
    for _ in range(40):
        twice = _td(a=twice, b=twice)
    assert tensor_dict(twice) is None
    assert tensor_dict(_td(**{"x" * 5000: 1})) is None


def test_a_name_of_endless_words_is_none() -> None:
    """A key that says one long text a thousand times is not put together."""
    value = {("x" * 1000,) * 999: 1}
    assert by_text(value) is value


def test_weights_as_a_tensordict_are_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those that the module's own state dict has."""
    module = types.ModuleType("tensordict")

    class TensorDict:
        def __init__(self, **held: Any) -> None:
            self._tensordict, self._batch_size = held, torch.Size([])

    TensorDict.__module__, TensorDict.__qualname__ = "tensordict", "TensorDict"
    monkeypatch.setattr(module, "TensorDict", TensorDict, raising=False)
    monkeypatch.setitem(sys.modules, "tensordict", module)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    held = TensorDict(**{"0": TensorDict(weight=net[0].weight.detach(), bias=net[0].bias.detach())})
    torch.save({"policy": held, "step": 3}, tmp_path / "c.pt")
    opened = open_checkpoint(tmp_path / "c.pt")
    assert (list(opened.roles), opened.metadata) == (["policy"], {"step": 3})
    assert all(torch.equal(opened.weights()[name], value) for name, value in net.state_dict().items())
