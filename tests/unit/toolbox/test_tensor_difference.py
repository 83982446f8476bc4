from __future__ import annotations

import math

import pytest
import torch

from holdfast.toolbox.tensor_difference import compare_values

NAN, INF = math.nan, math.inf


def test_equal_tensors_have_no_difference() -> None:
    """The same bits are the same, NaN included, whatever the strides."""
    a = torch.tensor([[1.0, NAN], [INF, -0.0]])
    found = compare_values(a, a.clone().t().contiguous().t())
    assert (found.num_different, found.same_bits, found.max_abs, found.cosine) == (0, True, 0, 1.0)
    assert compare_values(torch.zeros(0, 3), torch.zeros(0, 3)).same_bits


def test_the_largest_difference_and_the_angle_are_measured() -> None:
    """Absolute and relative differences are exact in float64, and the cosine is that of the vectors."""
    found = compare_values(torch.tensor([3.0, 4.0, 0.0]), torch.tensor([3.0, 0.0, 4.0]))
    assert (found.num_values, found.num_different, found.max_abs, found.max_rel) == (3, 2, 4.0, 1.0)
    assert found.cosine == 9 / 25
    tiny = compare_values(torch.tensor([1.0]), torch.tensor([1.0 + 2**-23]))
    assert (tiny.max_abs, tiny.max_rel) == (2**-23, 2**-23 / (1 + 2**-23))


def test_differences_beyond_one_piece_are_found() -> None:
    """A tensor larger than a piece is compared to its last value."""
    a = torch.zeros((1 << 20) + 5)
    b = a.clone()
    b[-1] = 2
    found = compare_values(a, b)
    assert (found.num_different, found.max_abs, found.cosine) == (1, 2.0, None)


def test_tolerances_are_those_of_allclose() -> None:
    """|a - b| may be atol + rtol * |b|, and no more."""
    a, b = torch.tensor([1.0, 10.0, 0.0]), torch.tensor([1.5, 10.5, 0.5])
    assert compare_values(a, b, atol=0.5).num_different == 0
    assert compare_values(a, b, atol=0.25).num_different == 3
    assert compare_values(a, b, rtol=0.1).num_different == 2
    assert compare_values(a, b, rtol=0.25, atol=0.25).num_different == 1


def test_nan_and_infinity_equal_themselves_alone() -> None:
    """NaN equals NaN of any bits; an infinity one of its sign; anything else differs without bound."""
    other_nan = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    found = compare_values(torch.tensor([NAN]), other_nan)
    assert (found.num_different, found.num_nan, found.same_bits) == (0, 0, False)
    found = compare_values(torch.tensor([INF, -INF, 1.0]), torch.tensor([INF, INF, 1.0]), atol=1e30)
    assert (found.num_different, found.max_abs) == (1, INF)
    found = compare_values(torch.tensor([NAN, 1.0]), torch.tensor([1.0, 1.0]))
    assert (found.num_different, found.num_nan, found.max_abs) == (1, 1, INF)


def test_a_signed_zero_is_the_same_value_in_other_bits() -> None:
    """No value differs, and the bits do."""
    found = compare_values(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert (found.num_different, found.max_abs, found.same_bits) == (0, 0.0, False)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "gap"),
    [
        (torch.int64, -(2**63), 2**63 - 1, 2**64 - 1),
        (torch.uint64, 0, 2**64 - 1, 2**64 - 1),
        (torch.int8, -128, 127, 255),
        (torch.uint16, 0, 65535, 65535),
        (torch.bool, False, True, 1),
    ],
)
def test_integers_are_compared_exactly(dtype: torch.dtype, low: int, high: int, gap: int) -> None:
    """The largest difference of a type, and one of 1 beside 2^53, come out to the unit; tolerances do not count."""
    found = compare_values(torch.tensor([low], dtype=dtype), torch.tensor([high], dtype=dtype), rtol=9.0, atol=9.0)
    assert (found.num_different, found.max_abs) == (1, gap)
    near = compare_values(torch.tensor([2**53]), torch.tensor([2**53 + 1]))
    assert (near.num_different, near.max_abs) == (1, 1)


def test_tensors_of_two_types_are_compared_by_value() -> None:
    """half against float, integers against floats, real against complex."""
    assert compare_values(torch.tensor([1.5]), torch.tensor([1.5], dtype=torch.float16)).num_different == 0
    assert compare_values(torch.tensor([2]), torch.tensor([2.5])).max_abs == 0.5
    assert compare_values(torch.tensor([2]), torch.tensor([3], dtype=torch.uint8)).max_abs == 1
    found = compare_values(torch.tensor([3 + 4j]), torch.tensor([3.0]))
    assert (found.num_different, found.max_abs) == (1, 4.0)
    assert found.cosine == pytest.approx(9 / 15)


def test_types_without_arithmetic_are_compared_by_their_bytes() -> None:
    """Eight-bit floats have values; packed bits are the same or not, and no more is said."""
    a = torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn)
    assert compare_values(a, torch.tensor([1.0, 4.0]).to(torch.float8_e4m3fn)).max_abs == 2.0
    packed = torch.arange(4, dtype=torch.uint8).view(torch.bits8)
    other = torch.arange(1, 5, dtype=torch.uint8).view(torch.bits8)
    assert compare_values(packed, packed.clone()).same_bits
    assert compare_values(packed, other).max_abs is None
