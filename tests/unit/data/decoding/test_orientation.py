from __future__ import annotations

import pytest
import torch

from holdfast.data.decoding.orientation import upright

TURNS = {
    1: lambda p: p,
    2: lambda p: p.flip(2),
    3: lambda p: p.flip(1, 2),
    4: lambda p: p.flip(1),
    5: lambda p: p.transpose(1, 2),
    6: lambda p: p.transpose(1, 2).flip(2),
    7: lambda p: p.transpose(1, 2).flip(1, 2),
    8: lambda p: p.transpose(1, 2).flip(1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("size", [(1, 30), (30, 1), (1, 1), (5, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_turned_and_a_single_column_lies_as_usual(
    orientation: int, size: tuple[int, int], channels: int
) -> None:
    """Pixels are where EXIF wants them. Of one row or column the strides are those of a new tensor: torch's resize
    goes by them, and past the end of the picture."""
    pixels = torch.arange(channels * size[0] * size[1], dtype=torch.uint8).view(channels, *size)
    found = upright(pixels, orientation)
    assert torch.equal(found, TURNS[orientation](pixels))
    if 1 in size:
        assert found.stride() == torch.empty(found.shape).stride()
