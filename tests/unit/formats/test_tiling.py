from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.formats.byte_file import Buffer
from holdfast.formats.inert import Damage
from holdfast.formats.lazy_tensor import LazyTensor, Storage, StoredBytes
from holdfast.formats.safetensors_file import row_major
from holdfast.formats.tiling import Box, check_tiling, side_by_side


def test_pieces_that_tile_are_accepted() -> None:
    """Rows, a grid, uneven pieces that are no grid, empty ones, a single figure, and a tensor without values."""
    check_tiling((4, 6), [Box((0, 0), (2, 6)), Box((2, 0), (2, 6))])
    check_tiling((2, 2), [Box((r, c), (1, 1)) for r in (1, 0) for c in (0, 1)])
    check_tiling((3, 3), [Box((0, 0), (1, 2)), Box((0, 2), (2, 1)), Box((2, 1), (1, 2)), Box((1, 0), (2, 1)),
                          Box((1, 1), (1, 1))])  # fmt: skip
    check_tiling((3, 2), [Box((0, 0), (3, 2)), Box((3, 0), (0, 2))])
    check_tiling((), [Box((), ())])
    check_tiling((0, 5), [Box((0, 0), (0, 5))])
    check_tiling((0, 5), [])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([Box((0, 0), (2, 4))], "pieces of 8 values for 16: a hole is left"),
        ([Box((0, 0), (4, 4)), Box((1, 1), (1, 1))], "pieces of 17 values for 16: they overlap"),
        ([Box((0, 0), (2, 4)), Box((1, 0), (2, 4))], "pieces that overlap and leave a hole"),
        ([Box((0, 0), (4, 5))], r"a piece \[4, 5\] at \[0, 0\] that reaches beyond \[4, 4\]"),
        ([Box((0,), (4,))], "a piece of 1 axes in a tensor of 2"),
        ([], "pieces of 0 values for 16: a hole is left"),
    ],
)
def test_pieces_that_do_not_tile_are_refused(boxes: list[Box], message: str) -> None:
    """The flaw is named."""
    with pytest.raises(Damage, match=message):
        check_tiling((4, 4), boxes)


def test_more_corners_than_any_tensor_has_are_not_counted() -> None:
    """Eight pieces that are cut along three axes each, together along 24, would have 134 million corners."""
    check_tiling((2,) * 24, [Box((n, *(0,) * 23), (1, *(2,) * 23)) for n in (0, 1)])
    boxes = [Box((0,) * 24, tuple(1 if axis // 3 == n else 2 for axis in range(24))) for n in range(8)]
    with pytest.raises(Damage, match="8 pieces cut along 24 axes, more than any tensor has"):
        check_tiling((2,) * 24, boxes)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.lists(st.tuples(*[st.integers(0, 3)] * 4), max_size=5),
)
def test_the_verdict_is_that_of_counting_every_place(shape: tuple[int, int], raw: list[tuple[int, ...]]) -> None:
    """Boxes tile a whole exactly when every place of it is in one of them, and none lies outside."""
    boxes = [Box((r, c), (height, width)) for r, c, height, width in raw]
    inside = all(r + h <= shape[0] and c + w <= shape[1] for (r, c), (h, w) in boxes)
    places = [p for (r, c), (h, w) in boxes for p in itertools.product(range(r, r + h), range(c, c + w))]
    tiles = inside and sorted(places) == list(itertools.product(range(shape[0]), range(shape[1])))
    try:
        check_tiling(shape, boxes)
    except Damage:
        assert not tiles
    else:
        assert tiles


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64, torch.bfloat16, torch.float8_e5m2])
def test_pieces_are_put_side_by_side_bit_for_bit(dtype: torch.dtype) -> None:
    """Of any type, with gaps between their rows."""
    raw = torch.arange(24 * dtype.itemsize, dtype=torch.uint8)
    whole = (raw % 2 if dtype is torch.bool else raw).view(dtype).reshape(4, 6)
    boxes = [Box((0, 0), (4, 2)), Box((0, 2), (1, 4)), Box((1, 2), (3, 4))]
    name = str(dtype).removeprefix("torch.")
    pieces = []
    for box in boxes:
        data = StoredBytes("here", "0", 24 * dtype.itemsize)
        data.fetch = lambda: Buffer(bytearray(whole.contiguous().view(torch.uint8).numpy().tobytes()), 0, whole.nbytes)
        start = box.offsets[0] * 6 + box.offsets[1]
        pieces.append((box, LazyTensor(Storage(data, name, 24), name, start, box.sizes, row_major((4, 6)))))
    made = side_by_side(name, (4, 6), pieces)
    assert bytes(made.view()) == whole.contiguous().view(torch.uint8).numpy().tobytes()
