import numpy as np
import pytest

from holdfast.data.decoding.depth import from_bits, from_signed, from_wide


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
def test_every_value_of_a_depth_is_its_share_of_white_rounded(bits: int) -> None:
    """Black is 0, the depth's largest value 255, and between them the nearest level."""
    values = np.arange(1 << bits, dtype=np.uint16)
    exact = values / ((1 << bits) - 1) * 255
    scaled = from_bits(values, bits)
    assert (scaled[0], scaled[-1]) == (0, 255)
    assert np.abs(scaled - exact).max() <= 0.5


def test_scaling_does_not_look_at_the_pictures_own_maximum() -> None:
    """A dark picture's pixel has the level that it has in a bright one."""
    dark, bright = np.array([100, 4000], np.uint16), np.array([100, 4000, 65535], np.uint16)
    assert from_bits(dark, 16).tolist() == from_bits(bright, 16).tolist()[:2]


def test_signed_values_run_from_the_lowest_to_the_highest_possible() -> None:
    """-32768 is black, 0 mid-grey, 32767 white."""
    assert from_signed(np.array([-32768, 0, 32767], np.int16), 16).tolist() == [0, 128, 255]
    assert from_signed(np.array([-128, 0, 127], np.int8), 8).tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 128, 255], [0, 128, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([0, 500_000, 1_000_000], [0, 128, 255]),
        ([-100, 0, 100], [0, 128, 255]),
        ([7, 7, 7], [7, 7, 7]),
        ([0, 0, 0], [0, 0, 0]),
    ],
)
def test_wide_integers_are_read_from_their_values(values: list[int], expected: list[int]) -> None:
    """Within 8 or 16 bits they are that; beyond, they run from 0 or their lowest to their highest."""
    assert from_wide(np.array(values, np.int32)).tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.5, 0.5], [0, 128, 128]),
        ([0.0, 128.0, 255.0], [0, 128, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([0.0, 1e30, 2e30], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([np.nan, 0.5, np.inf], [0, 128, 128]),
        ([-np.inf, 0.0, 1.0], [0, 0, 255]),
    ],
)
def test_floats_are_read_from_their_values(values: list[float], expected: list[int]) -> None:
    """Shares of white up to 1, else 8-bit, 16-bit or their own range; NaN is 0 and infinities are the ends."""
    assert from_wide(np.array(values)).tolist() == expected


def test_floats_without_any_number_are_refused() -> None:
    """A picture of NaN is no picture, and does not become black."""
    with pytest.raises(ValueError, match="none of its values is a finite number"):
        from_wide(np.full((2, 2), np.nan, np.float32))


def test_the_whole_range_of_doubles_is_scaled() -> None:
    """The distance of the lowest and the highest double is more than a double holds; they are black and white."""
    ends = np.finfo(np.float64)
    assert from_wide(np.array([[ends.min, 0.0, ends.max]])).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("shape", [(3000, 700), (5, 700_000), (900, 500, 3), (1, 1), (0, 4)])
def test_bands_change_nothing(shape: tuple[int, ...]) -> None:
    """However many bands a picture is scaled in, its values are those of each sample on its own."""
    values = np.random.default_rng(0).integers(0, 1 << 16, shape).astype(np.uint16)
    exact = ((values.astype(np.uint64) * 255 + 32767) // 65535).astype(np.uint8)
    assert np.array_equal(from_bits(values, 16), exact)
    assert np.array_equal(from_signed((values.astype(np.int32) - 32768).astype(np.int16), 16), exact)
    if values.size > 1:
        deep = values.astype(np.int64) * 1000
        assert np.array_equal(from_wide(deep), np.rint(deep / deep.max() * 255).astype(np.uint8))
