import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decoding.decode import decode_image
from holdfast.data.decoding.quiet import _set_libtiff_handler, quiet
from holdfast.errors import DataError

pytestmark = pytest.mark.row("D2")


@pytest.fixture(scope="module")
def damaged_tiff() -> bytes:
    """A TIFF whose packed bytes were written over."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(file.getvalue())
    data[200:400] = bytes(200)
    return bytes(data)


def _decode_by_pillow(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="decoder error"):
        image.load()


@pytest.mark.skipif(_set_libtiff_handler() is None, reason="this Pillow has no libtiff that can be asked")
def test_libtiff_prints_outside_and_not_inside(damaged_tiff: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What libtiff says of a damaged file is swallowed where we decode it, and nowhere else."""
    _decode_by_pillow(damaged_tiff)
    assert "ZIPDecode" in capfd.readouterr().err
    with quiet():
        _decode_by_pillow(damaged_tiff)
    assert capfd.readouterr().err == ""
    _decode_by_pillow(damaged_tiff)
    assert "ZIPDecode" in capfd.readouterr().err


def test_a_damaged_tiff_is_an_error_and_no_noise(damaged_tiff: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """In any number of threads, damage is raised as our own error, and stderr stays empty."""

    def decode(_: int) -> str:
        with pytest.raises(DataError) as caught:
            decode_image(damaged_tiff)
        return str(caught.value)

    with ThreadPoolExecutor(4) as pool:
        said = set(pool.map(decode, range(32)))
    assert said == {"damaged or cut short (decoder error -2)."}
    assert capfd.readouterr().err == ""
