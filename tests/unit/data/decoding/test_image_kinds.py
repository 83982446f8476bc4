import io

import numpy as np
import pytest
from PIL import Image

from holdfast.data.decoding.image_kinds import FORMATS, HEAD_BYTES, describe, kind_of


def test_random_bytes_are_no_picture() -> None:
    """Of 20,000 files of random bytes, many with the zeros of a TGA's header, none is taken for a picture."""
    generator = np.random.default_rng(0)
    for number in range(20_000):
        data = bytearray(generator.bytes(200))
        if number % 2:
            data[:3] = b"\0\0\2"  # what TGA's header asks of its first bytes
        assert kind_of(bytes(data)) is None


@pytest.mark.parametrize("kind", [k for k in FORMATS if k != "DIB"])
def test_what_pillow_writes_is_recognised(kind: str) -> None:
    """Every kind that is opened is told by its content, from its first 4 kB and its last bytes alone too."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    data = stream.getvalue()
    assert kind_of(data) == kind
    assert kind_of(data[:HEAD_BYTES], data[-26:], len(data)) == kind


def test_any_bytes_are_described_in_one_line() -> None:
    """Whatever a file is, the message about it is short and has no line break."""
    generator = np.random.default_rng(1)
    for _ in range(500):
        said = describe(generator.bytes(int(generator.integers(1, 300))))
        assert said
        assert "\n" not in said
        assert len(said) < 120
