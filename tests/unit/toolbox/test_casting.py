from __future__ import annotations

import pytest
import torch

from holdfast.errors import ConfigError
from holdfast.toolbox.casting import CastLoss, dtype_of, is_cast, is_exact, loss_line, measure_loss, overflow_text


def test_what_a_cast_loses_is_counted_exactly() -> None:
    """One value too large, one that vanishes, one that is rounded by a quarter of the last place, and fair ones."""
    values = torch.tensor([1.0, 70000.0, 1e-30, 1 + 2**-12, 0.0, float("inf"), float("nan")])
    loss = measure_loss("w", values, torch.float16)
    assert loss == CastLoss("w", "float32", "float16", 7, 1, 1, 2**-12 / (1 + 2**-12), 70000.0)


def test_what_fits_is_cast_without_loss() -> None:
    """Small integers are the same numbers in every type."""
    loss = measure_loss("w", torch.arange(100.0, dtype=torch.float64), torch.bfloat16)
    assert (loss.num_overflowed, loss.num_vanished, loss.max_relative) == (0, 0, 0.0)
    assert measure_loss("w", torch.zeros(0), torch.float16).max_relative == 0.0


@pytest.mark.parametrize(
    ("source", "to", "exact"),
    [
        (torch.float32, torch.float64, True),
        (torch.float16, torch.float32, True),
        (torch.bfloat16, torch.float32, True),
        (torch.float16, torch.bfloat16, False),
        (torch.bfloat16, torch.float16, False),
        (torch.float64, torch.float32, False),
        (torch.float8_e4m3fn, torch.float16, True),
        (torch.float8_e5m2, torch.float16, True),
    ],
)
def test_exact_casts_are_those_of_every_value(source: torch.dtype, to: torch.dtype, exact: bool) -> None:
    """A cast is exact when precision and range are at least as large; all 8- and 16-bit values prove it."""
    assert is_exact(source, to) is exact
    if source.itemsize <= 2 and exact:
        bits = torch.arange(256**source.itemsize, dtype=torch.int32)
        every = bits.to(torch.uint8 if source.itemsize == 1 else torch.uint16).view(source)
        there_and_back = every.to(to).to(torch.float64)
        expected = every.to(torch.float64)
        assert torch.equal(there_and_back.nan_to_num(7.0), expected.nan_to_num(7.0))


def test_integers_and_complex_numbers_are_not_cast() -> None:
    """Only floating types are changed, and only to another."""
    assert is_cast(torch.float32, torch.float16)
    assert not is_cast(torch.float16, torch.float16)
    assert not any(is_cast(dtype, torch.float16) for dtype in (torch.int64, torch.bool, torch.complex64))
    assert not is_cast(torch.float32, None)


def test_the_lines_say_what_is_lost() -> None:
    """Rounding, vanished and infinite values are in one line; values too large a line a tensor."""
    lossy = CastLoss("w", "float32", "float16", 10, 2, 3, 0.00048828125, 1e6)
    assert loss_line([lossy], 4, "float16") == (
        "cast from float32 to float16: 1 tensor, largest relative change 0.049 %; 3 values became 0; "
        "2 values became infinite; 4 more without loss"
    )
    assert loss_line([], 4, "float64") == "cast to float64: 4 tensors, without loss"
    assert overflow_text([lossy]) == ["w: 2 of 10 values, up to 1e+06 (at most 65504)"]


def test_casting_fails_when_the_type_is_none_to_cast_to() -> None:
    """Types that are no floating ones are refused with those that are."""
    with pytest.raises(ConfigError, match="Casting to 'int8': expected one of float16, bfloat16, float32, float64"):
        dtype_of("int8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0], "largest relative change 0 %"),
        ([1 + 2**-11], "largest relative change 0.049 %"),
        ([1.6 * 2**-24, 2**-30], "largest relative change 25 % (in values near 0); 1 value became 0"),
        ([0.501 * 2**-24], "largest relative change 100 % (in values near 0)"),
    ],
)
def test_a_large_relative_change_is_said_to_be_near_0(values: list[float], said: str) -> None:
    """Shares are percent; beyond the type's own precision only the smallest numbers are rounded, and that is said."""
    loss = measure_loss("w", torch.tensor(values, dtype=torch.float64), torch.float16)
    assert loss_line([loss], 0, "float16") == f"cast from float64 to float16: 1 tensor, {said}"
