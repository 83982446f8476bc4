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
    Image.fromarray(pixels).save(file, "TIFF", compression="tiff_lzw")
    data = bytearray(file.getvalue())
    data[200:400] = b"\xff" * 200
    return bytes(data)


def _decode_by_pillow(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="decoder error"):
        image.load()


@pytest.mark.skipif(_set_libtiff_handler() is None, reason="this Pillow has no libtiff that can be asked")
def test_libtiff_prints_outside_and_not_inside(damaged_tiff: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """What libtiff says of a damaged file is swallowed where we decode it, and nowhere else."""
    _decode_by_pillow(damaged_tiff)
    assert "code not yet in table" in capfd.readouterr().err
    with quiet():
        _decode_by_pillow(damaged_tiff)
    assert capfd.readouterr().err == ""
    _decode_by_pillow(damaged_tiff)
    assert "code not yet in table" in capfd.readouterr().err


def test_a_damaged_tiff_is_an_error_and_no_noise(damaged_tiff: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """In any number of threads, damage is raised as our own error, and stderr stays empty."""

    def decode(_: int) -> str:
        with pytest.raises(DataError) as caught:
            decode_image(damaged_tiff)
        return str(caught.value)

    with ThreadPoolExecutor(4) as pool:
        said = set(pool.map(decode, range(32)))
    assert len(said) == 1
    assert said.pop().startswith("damaged or cut short (libtiff says Using code not yet in table")
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(_set_libtiff_handler() is None, reason="this Pillow has no libtiff that can be asked")
def test_what_libtiff_says_and_pillow_does_not_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A fax with a bad code word is filled up by libtiff and handed on as a picture; we refuse it, and say why."""
    file = io.BytesIO()
    rings = np.hypot(*np.mgrid[-80:80, -80:80]) % 20 < 10
    Image.fromarray(rings).save(file, "TIFF", compression="group4")
    data = bytearray(file.getvalue())
    assert decode_image(bytes(data)).shape == (3, 160, 160)
    data[300] ^= 0x10
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # no error
    assert "Bad code word" in capfd.readouterr().err
    with pytest.raises(
        DataError, match=r"damaged or cut short \(libtiff says Fax4Decode: Bad code word at line \d+ of"
    ):
        decode_image(bytes(data))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(_set_libtiff_handler() is None, reason="this Pillow has no libtiff that can be asked")
def test_complaints_are_those_of_the_thread_and_of_the_innermost_block(damaged_tiff: bytes) -> None:
    """Eight threads, each with a whole and a damaged picture: nobody is blamed for another's file."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "TIFF", compression="tiff_lzw")

    def decode(turn: int) -> int:
        with quiet() as outer:
            with quiet() as inner:
                if turn % 2:
                    _decode_by_pillow(damaged_tiff)
                else:
                    Image.open(io.BytesIO(file.getvalue())).load()
            assert outer == []
            return len(inner)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(decode, range(64)))
    assert all(count >= 1 for count in told[1::2])
    assert set(told[::2]) == {0}
