"""GIF, WebP, AVIF and HEIC: still and moving."""

# ruff: noqa: E501  # a specimen a line reads best

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, features

from odd.specimen import Section, encoded, exif, noise, on_white, tiles, turned

section = Section("GIF, WebP, AVIF, HEIC")
RGB = noise()
TILES = tiles()
VEIL = noise(channels=1, seed=3)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def gif(
    width: int, height: int, area: tuple[int, int, int, int], *, clear: int | None = None, tail: bytes = b";"
) -> bytes:
    """Returns a GIF whose one frame, at (left, top, width, height), is all of palette entry 1: green; entry 0 is red."""
    left, top, across, down = area
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes([*RED, *GREEN])
    control = b"" if clear is None else b"!\xf9\4" + bytes([1, 0, 0, clear, 0])
    frame = b"," + struct.pack("<HHHHB", left, top, across, down, 0) + b"\2"
    # codes of 3 bits: clear before every pixel keeps the code size; 1 is the pixel, 5 the end
    codes = [c for _ in range(across * down) for c in (4, 1)] + [5]
    number = sum(code << 3 * k for k, code in enumerate(codes))
    packed = number.to_bytes((3 * len(codes) + 7) // 8, "little")
    blocks = b"".join(bytes([len(packed[k : k + 255])]) + packed[k : k + 255] for k in range(0, len(packed), 255))
    return screen + control + frame + blocks + b"\0" + tail


_flat = Image.new("P", (9, 7))
_flat.putpalette([*RED, *GREEN, *BLUE])
_flat.putdata([k % 3 for k in range(63)])
_stripes = np.array([RED, GREEN, BLUE])[np.arange(63).reshape(7, 9) % 3]
section.shows("palette.gif", "a palette", encoded(_flat, "GIF"), _stripes, "the palette's colours")
section.shows(
    "clear.gif",
    "its second colour transparent",
    encoded(_flat, "GIF", transparency=1),
    np.where((_stripes == GREEN).all(axis=2, keepdims=True), 255, _stripes),
    "transparent pixels white",
)
section.shows("grey.gif", "a grey palette", encoded(RGB[..., 0], "GIF"), RGB[..., 0], "three equal channels")
section.shows(
    "moving.gif",
    "an animation",
    encoded(_flat, "GIF", save_all=True, append_images=[Image.new("RGB", (9, 7), c) for c in (BLUE, GREEN)]),
    _stripes,
    "the first frame",
)
section.shows("interlaced.gif", "interlaced", encoded(_flat, "GIF", interlace=True), _stripes)
_partly = np.full((4, 6, 3), 255)
_partly[1:3, 2:5] = GREEN
section.shows(
    "offset.gif", "a first frame that covers a part of the canvas", gif(6, 4, (2, 1, 3, 2)), _partly, "white around it"
)
section.shows(
    "offset-clear.gif",
    "the same, with another colour transparent",
    gif(6, 4, (2, 1, 3, 2), clear=0),
    _partly,
    "white around it",
)
section.shows(
    "no-trailer.gif",
    "no end mark",
    gif(6, 4, (0, 0, 6, 4), tail=b""),
    np.full((4, 6, 3), GREEN),
    "as stored: no pixel is missing",
)
section.shows("1x1.gif", "1 × 1 pixel", gif(1, 1, (0, 0, 1, 1)), np.array([[GREEN]]))
section.refuses("cut.gif", "cut in its pixels", gif(60, 40, (0, 0, 60, 40))[:900], "damaged or cut short")
section.refuses(
    "bomb.gif", "60,000 × 60,000 pixels", gif(60000, 60000, (0, 0, 1, 1)), "refused as a decompression bomb"
)
section.refuses(
    "frame-bomb.gif",
    "a canvas of 1 × 1 and a frame of 60,000 × 60,000",
    gif(1, 1, (0, 0, 1, 1)).replace(struct.pack("<HHHH", 0, 0, 1, 1), struct.pack("<HHHH", 0, 0, 60000, 60000)),
    "refused as a decompression bomb|damaged or cut short",
)

section.shows("lossless.webp", "WebP, lossless", encoded(RGB, "WEBP", lossless=True), RGB)
section.shows("lossy.webp", "WebP, lossy", encoded(TILES, "WEBP", quality=95), TILES, tolerance=8, margin=5)
section.shows(
    "alpha.webp",
    "WebP with alpha",
    encoded(np.dstack([RGB, VEIL]), "WEBP", lossless=True, exact=True),
    on_white(RGB, VEIL),
    "laid on white",
)
section.shows(
    "moving.webp",
    "an animated WebP",
    encoded(
        Image.fromarray(RGB),
        "WEBP",
        save_all=True,
        append_images=[Image.new("RGB", (9, 7), c) for c in (BLUE, GREEN)],
        lossless=True,
    ),
    RGB,
    "the first frame",
)
_plain = encoded(RGB, "WEBP", lossless=True)
section.refuses(
    "cut.webp",
    "a WebP cut in its pixels",
    encoded(noise(40, 40), "WEBP", lossless=True)[:2000],
    "damaged or cut short|not an image",
)
section.refuses(
    "sound.webp", "a sound named .webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), r"it is a video or a sound \(RIFF\)"
)
for _number in range(1, 9):
    section.shows(
        f"exif-{_number}.webp",
        f"WebP, EXIF orientation {_number}",
        encoded(RGB, "WEBP", lossless=True, exif=exif(_number)),
        turned(RGB, _number),
        "upright",
    )
if features.check("avif"):
    section.shows("still.avif", "AVIF", encoded(TILES, "AVIF", quality=95), TILES, tolerance=8, margin=5)
    section.shows(
        "alpha.avif",
        "AVIF with alpha",
        encoded(np.dstack([TILES, np.full((32, 48), 128, np.uint8)]), "AVIF", quality=95),
        on_white(TILES, np.full((32, 48), 128)),
        "laid on white",
        tolerance=8,
        margin=5,
    )
    section.shows(
        "moving.avif",
        "an animated AVIF",
        encoded(Image.fromarray(TILES), "AVIF", quality=95, save_all=True, append_images=[Image.new("RGB", (48, 32))]),
        TILES,
        "the first frame",
        tolerance=8,
        margin=5,
    )
    for _number in range(1, 9):
        section.shows(
            f"exif-{_number}.avif",
            f"AVIF, orientation {_number}",
            encoded(TILES, "AVIF", quality=95, exif=exif(_number)),
            turned(TILES, _number),
            "upright",
            tolerance=8,
            margin=5,
        )
    _turned = encoded(TILES, "AVIF", quality=95, exif=exif(6))
    section.shows(
        "exif-alone.avif",
        "AVIF, orientation 6 in EXIF and none in its container (irot)",
        _turned.replace(b"irot\3", b"irot\0"),
        TILES,
        "as stored: the container's turn counts",
        tolerance=8,
        margin=5,
    )
    section.refuses(
        "cut.avif",
        "an AVIF cut in its pixels",
        encoded(noise(40, 40), "AVIF", quality=95)[:1500],
        "damaged or cut short|not an image",
    )


def heic(orientation: int = 1) -> bytes:
    """Returns a HEIC as pillow-heif writes it."""
    import pillow_heif

    stream = io.BytesIO()
    image = Image.fromarray(TILES)
    pillow_heif.from_pillow(image).save(stream, quality=95, exif=exif(orientation))
    return stream.getvalue()


for _number in (1, 3, 6, 8):
    section.shows(
        f"orientation-{_number}.heic",
        f"HEIC, orientation {_number}",
        lambda n=_number: heic(n),
        turned(TILES, _number),
        "upright, where pillow-heif is installed",
        tolerance=10,
        margin=5,
        needs="pillow_heif",
    )
