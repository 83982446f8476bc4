from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import open_checkpoint
from holdfast.errors import CheckpointError


class OfDevice:
    """Pickles a tensor as torch does one of a device without storages: a call with its values, type and device."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.made = (function, args)

    def __reduce__(self) -> Any:
        return self.made


def _opened(path: Path, function: Any, values: Any, dtype: torch.dtype, *, grad: bool = False) -> Any:
    torch.save({"fc.weight": OfDevice(function, values, dtype, "xla:1", grad)}, path)
    return open_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
def test_a_tensor_kept_as_an_array_is_that_tensor(dtype: torch.dtype, tmp_path: Path) -> None:
    """Type, shape and bits are those of the device's tensor; under the name of the function of older versions too."""
    truth = torch.arange(6).reshape(2, 3).to(dtype)
    opened = _opened(tmp_path / "c.pt", torch._utils._rebuild_device_tensor_from_numpy, truth.numpy(), dtype)
    found: Tensor = opened.weights()["fc.weight"]
    assert found.dtype == dtype and torch.equal(found, truth)
    data = (tmp_path / "c.pt").read_bytes()
    assert b"_rebuild_device_tensor_from_numpy" in data


def test_bfloat16_kept_as_float32_is_bfloat16_again(tmp_path: Path) -> None:
    """NumPy has no such type; values that are no bfloat16 are never rounded in silence, and stay a record."""
    truth, make = torch.randn(3, 5).bfloat16(), torch._utils._rebuild_device_tensor_from_numpy
    found = _opened(tmp_path / "c.pt", make, truth.float().numpy(), torch.bfloat16).weights()["fc.weight"]
    assert found.dtype == torch.bfloat16 and torch.equal(found, truth)
    with pytest.raises(CheckpointError, match="expected a dense tensor"):
        _opened(tmp_path / "c.pt", make, torch.full((2,), 0.1).numpy(), torch.bfloat16).weights()


def test_a_tensor_kept_as_one_of_the_cpu_is_that_tensor(tmp_path: Path) -> None:
    """Its storage is shared as it was saved, and what needed a gradient is known."""
    truth, make = torch.randn(4, 2), torch._utils._rebuild_device_tensor_from_cpu_tensor
    opened = _opened(tmp_path / "c.pt", make, truth.t(), torch.float32, grad=True)
    assert torch.equal(opened.weights()["fc.weight"], truth.t())
    assert opened.role()["fc.weight"].requires_grad


@pytest.mark.parametrize("values", [None, "text", torch.ones(2).double()])
def test_other_values_stay_a_record(values: Any, tmp_path: Path) -> None:
    """What torch never writes is not guessed at."""
    opened = _opened(tmp_path / "c.pt", torch._utils._rebuild_device_tensor_from_cpu_tensor, values, torch.float32)
    with pytest.raises(CheckpointError, match=r"c.pt: fc.weight is <inert torch._utils._rebuild_device_tensor"):
        opened.weights()
