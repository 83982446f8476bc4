"""TIFFs: byte orders, depths, signs, floats, planes, alpha, colour models."""

# ruff: noqa: E501  # a specimen a line reads best

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image

from odd.specimen import Pixels, Section, encoded, noise, on_white, tiles, turned
from odd.writers import tiff

section = Section("TIFF")
RGB = noise()
GREY = RGB[..., 0]
VEIL = noise(channels=1, seed=3)
DEEP = noise(top=65536)
DEEP_VEIL = noise(channels=1, top=65536, seed=3)
H, W = GREY.shape
ORDERS = {"<": "little-endian", ">": "big-endian"}


def _scaled(samples: Pixels, top: float = 65535) -> Pixels:
    return np.rint(samples.astype(np.float64) * 255 / top).astype(np.int64)


def _strip(samples: Pixels, order: str) -> bytes:
    return samples.astype(samples.dtype.newbyteorder(order)).tobytes()


def _add(
    name: str, what: str, stored: Pixels, pixels: Pixels, outcome: str, tolerance: int = 0, **tags: object
) -> None:
    """Each kind in both byte orders, as it is and deflated."""
    for order, word in ORDERS.items():
        strip = _strip(stored, order)
        for packed in (False, True):
            body = zlib.compress(strip) if packed else strip
            section.shows(
                f"{name}{'-be' * (order == '>')}{'-deflate' * packed}.tif",
                f"{what}, {word}{', deflated' * packed}",
                tiff(body, W, H, order, compression=8 if packed else 1, **tags),  # type: ignore[arg-type]
                pixels, outcome, tolerance=tolerance,
            )  # fmt: skip


_add("grey-8", "grey, 8 bits", GREY, GREY, "as stored")
_add("grey-8-white", "grey, 8 bits, white is 0", GREY, 255 - GREY, "inverted", photometric=0)
_add("grey-16", "grey, 16 bits", DEEP[..., 0], _scaled(DEEP[..., 0]), "· 255 / 65535, rounded", bits=16)
_add(
    "grey-16-dark",
    "grey, 16 bits, values up to 4095",
    DEEP[..., 0] // 16,
    _scaled(DEEP[..., 0] // 16),
    "still · 255 / 65535: dark",
    bits=16,
)
_add(
    "grey-16-white",
    "grey, 16 bits, white is 0",
    DEEP[..., 0],
    255 - _scaled(DEEP[..., 0]),
    "scaled, inverted",
    bits=16,
    photometric=0,
)
_signed = DEEP[..., 0].astype(np.int32) - 32768
_add(
    "grey-16-signed",
    "grey, 16 bits, signed",
    _signed.astype(np.int16),
    _scaled(DEEP[..., 0]),
    "-32768 is black, 32767 white",
    bits=16,
    format=2,
)
_add(
    "grey-8-signed",
    "grey, 8 bits, signed",
    (GREY.astype(np.int16) - 128).astype(np.int8),
    GREY,
    "-128 is black, 127 white",
    format=2,
)
_wide = noise(channels=1, top=65536, seed=8).astype(np.uint32) * 65537
_add("grey-32", "grey, 32 bits", _wide, _scaled(_wide, float(_wide.max())), "0 … its highest value", bits=32)
_add(
    "grey-32-signed",
    "grey, 32 bits, signed, with values below 0",
    (_wide >> 1).astype(np.int32) - 1000,
    np.rint(((_wide >> 1).astype(np.float64)) * 255 / float((_wide >> 1).max())).astype(int),
    "its lowest … its highest value",
    bits=32,
    format=2,
    tolerance=1,
)
_add("grey-32-small", "grey, 32 bits, values up to 255", GREY.astype(np.uint32), GREY, "taken as 8-bit", bits=32)
_add(
    "grey-32-middle",
    "grey, 32 bits, values up to 65535",
    DEEP[..., 0].astype(np.uint32),
    _scaled(DEEP[..., 0]),
    "taken as 16-bit",
    bits=32,
)
_share = noise(channels=1, top=65536, seed=9).astype(np.float32) / 65535
_add("float", "floats, 0 … 1", _share, _scaled(_share, 1), "· 255", bits=32, format=3)
_add(
    "float-255",
    "floats, 0 … 255",
    (_share * 255).astype(np.float32),
    _scaled(_share, 1),
    "taken as 8-bit",
    bits=32,
    format=3,
    tolerance=1,
)
_add(
    "float-65535",
    "floats, 0 … 65535",
    (_share * 65535).astype(np.float32),
    _scaled(_share, 1),
    "taken as 16-bit",
    bits=32,
    format=3,
    tolerance=1,
)
_add(
    "float-negative",
    "floats, -1 … 1",
    np.where(np.arange(W) == 0, -1, np.where(np.arange(W) == 1, 1, _share)).astype(np.float32),
    _scaled(np.where(np.arange(W) == 0, -1, np.where(np.arange(W) == 1, 1, _share)) + 1.0, 2),
    "its lowest … its highest value",
    bits=32,
    format=3,
    tolerance=1,
)
_holes = _share.copy()
_holes[0, :3] = (np.nan, np.inf, -np.inf)
_add(
    "float-nan",
    "floats with NaN and infinities",
    _holes,
    np.where(
        np.isfinite(_holes),
        _scaled(np.nan_to_num(_holes, posinf=0, neginf=0), 1),
        [[0, 255 * float(_share[1:].max()), 255 * float(_share.min())] + [0] * (W - 3)] * 1,
    ),
    "NaN is black, infinities the ends",
    bits=32,
    format=3,
    tolerance=2,
)
_add(
    "half",
    "floats of 16 bits, 0 … 1",
    _share.astype(np.float16),
    _scaled(_share.astype(np.float16), 1),
    "· 255",
    bits=16,
    format=3,
)
_add("double", "floats of 64 bits, 0 … 1", _share.astype(np.float64), _scaled(_share, 1), "· 255", bits=64, format=3)
_colour_share = noise(top=65536, seed=10).astype(np.float32) / 65535
_three = {"samples": 3, "photometric": 2}
_add(
    "float-rgb",
    "RGB, floats, 0 … 1",
    _colour_share,
    _scaled(_colour_share, 1),
    "· 255",
    bits=[32] * 3,
    format=[3] * 3,
    **_three,
)
_add("rgb-8", "RGB, 8 bits", RGB, RGB, "as stored", bits=[8] * 3, **_three)
_add("rgb-16", "RGB, 16 bits", DEEP, _scaled(DEEP), "· 255 / 65535, rounded", bits=[16] * 3, **_three)
_four = {"samples": 4, "photometric": 2}
_add(
    "rgba-8",
    "RGB with alpha",
    np.dstack([RGB, VEIL]),
    on_white(RGB, VEIL),
    "laid on white",
    bits=[8] * 4,
    extra=2,
    **_four,
)
_add(
    "rgba-16",
    "RGB with alpha, 16 bits",
    np.dstack([DEEP, DEEP_VEIL]),
    on_white(DEEP, DEEP_VEIL, 65535),
    "laid on white",
    1,
    bits=[16] * 4,
    extra=2,
    **_four,
)
_add(
    "rgbx-8",
    "RGB with a fourth sample that means nothing",
    np.dstack([RGB, VEIL]),
    RGB,
    "the fourth is left out",
    bits=[8] * 4,
    extra=0,
    **_four,
)
_dimmed = (RGB.astype(np.uint16) * VEIL[..., None] // 255).astype(np.uint8)
_add(
    "rgba-8-premultiplied",
    "RGB with alpha, premultiplied",
    np.dstack([_dimmed, VEIL]),
    _dimmed.astype(int) + 255 - VEIL[..., None],
    "laid on white",
    1,
    bits=[8] * 4,
    extra=1,
    **_four,
)
_deep_dimmed = (DEEP.astype(np.uint64) * DEEP_VEIL[..., None] // 65535).astype(np.uint16)
_add(
    "rgba-16-premultiplied",
    "RGB with alpha, premultiplied, 16 bits",
    np.dstack([_deep_dimmed, DEEP_VEIL]),
    _scaled(_deep_dimmed.astype(int) + 65535 - DEEP_VEIL[..., None]),
    "laid on white",
    1,
    bits=[16] * 4,
    extra=1,
    **_four,
)
_two = {"samples": 2}
_add(
    "grey-alpha",
    "grey with alpha",
    np.dstack([GREY, VEIL]),
    on_white(GREY, VEIL),
    "laid on white",
    bits=[8] * 2,
    extra=2,
    **_two,
)
_add(
    "grey-alpha-premultiplied",
    "grey with alpha, premultiplied",
    np.dstack([_dimmed[..., 0], VEIL]),
    _dimmed[..., 0].astype(int) + 255 - VEIL,
    "laid on white",
    1,
    bits=[8] * 2,
    extra=1,
    **_two,
)
_add(
    "grey-alpha-16",
    "grey with alpha, 16 bits",
    np.dstack([DEEP[..., 0], DEEP_VEIL]),
    on_white(DEEP[..., 0], DEEP_VEIL, 65535),
    "laid on white",
    1,
    bits=[16] * 2,
    extra=2,
    **_two,
)
_ink = np.dstack([255 - RGB, np.zeros_like(GREY)])
_add("cmyk", "CMYK", _ink, RGB, "converted by parts, no profile", bits=[8] * 4, samples=4, photometric=5)
_add(
    "lab",
    "CIE L*a*b*: white, black, mid-grey",
    np.dstack(
        [
            np.where(np.arange(W) % 3 == 0, 255, np.where(np.arange(W) % 3 == 1, 0, 137))[None].repeat(H, 0),
            np.zeros((H, W, 2), int),
        ]
    ).astype(np.uint8),
    np.where(np.arange(W) % 3 == 0, 255, np.where(np.arange(W) % 3 == 1, 0, 128))[None].repeat(H, 0),
    "converted to sRGB",
    2,
    bits=[8] * 3,
    samples=3,
    photometric=8,
)
_add(
    "ycbcr",
    "YCbCr",
    np.asarray(Image.fromarray(RGB).convert("YCbCr")),
    RGB,
    "converted to RGB",
    3,
    bits=[8] * 3,
    samples=3,
    photometric=6,
    subsampling=[1, 1],
)
_palette = noise(1, 256, 3, seed=4)[0]
_add(
    "palette",
    "palette",
    GREY,
    _palette[GREY],
    "the palette's colours",
    photometric=3,
    colours=[int(v) * 257 for v in _palette.T.reshape(-1)],
)

for _number in range(1, 9):
    section.shows(
        f"orientation-{_number}.tif",
        f"orientation {_number}",
        tiff(RGB.tobytes(), W, H, bits=[8] * 3, orientation=_number, **_three),
        turned(RGB, _number),
        "upright",
    )
    section.shows(
        f"orientation-16-{_number}.tif",
        f"orientation {_number}, 16 bits",
        tiff(_strip(DEEP, "<"), W, H, bits=[16] * 3, orientation=_number, **_three),
        turned(_scaled(DEEP), _number),
        "upright, scaled",
    )
for _kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate"):
    section.shows(
        f"{_kind}.tif",
        f"RGB, compressed by {_kind.removeprefix('tiff_')}",
        encoded(RGB, "TIFF", compression=_kind),
        RGB,
    )
    section.shows(
        f"{_kind}-16.tif",
        f"grey, 16 bits, compressed by {_kind.removeprefix('tiff_')}",
        encoded(Image.fromarray(DEEP[..., 0]), "TIFF", compression=_kind),
        _scaled(DEEP[..., 0]),
        "· 255 / 65535, rounded",
    )
section.shows(
    "jpeg.tif",
    "compressed by JPEG",
    encoded(tiles(), "TIFF", compression="jpeg", quality=95),
    tiles(),
    tolerance=8,
    margin=5,
)
_dots = noise(8, 16, 1, top=2)
for _kind in ("group3", "group4", "tiff_ccitt"):
    section.shows(
        f"{_kind}.tif",
        f"black and white, a fax ({_kind})",
        encoded(Image.fromarray(_dots * 255).convert("1"), "TIFF", compression=_kind),
        _dots * 255,
        "0 and 255",
    )
_bits = np.packbits(_dots, axis=1).tobytes()
section.shows("bits.tif", "black and white", tiff(_bits, 16, 8, bits=1), _dots * 255, "0 and 255")
section.shows(
    "bits-white.tif",
    "black and white, white is 0",
    tiff(_bits, 16, 8, bits=1, photometric=0),
    255 - _dots * 255,
    "0 and 255",
)
section.shows(
    "bits-reversed.tif",
    "black and white, lowest bit first",
    tiff(np.packbits(_dots, axis=1, bitorder="little").tobytes(), 16, 8, bits=1, fill_order=2),
    _dots * 255,
    "0 and 255",
)
_nibbles = noise(4, 8, 1, top=16)
section.shows(
    "grey-4.tif",
    "grey, 4 bits",
    tiff((_nibbles[:, ::2] << 4 | _nibbles[:, 1::2]).tobytes(), 8, 4, bits=4),
    _nibbles * 17,
    "0 … 255",
)
_twelve = noise(4, 8, 1, top=4096)
_packed = (
    np.stack(
        [_twelve[:, ::2] >> 4, (_twelve[:, ::2] & 15) << 4 | _twelve[:, 1::2] >> 8, _twelve[:, 1::2] & 255], axis=2
    )
    .astype(np.uint8)
    .tobytes()
)
section.shows(
    "grey-12.tif", "grey, 12 bits", tiff(_packed, 8, 4, bits=12), _scaled(_twelve, 4095), "· 255 / 4095, rounded"
)
_planes = {"bits": [16] * 3, "planar": 2, **_three}
for _order, _word in ORDERS.items():
    _body = _strip(DEEP.transpose(2, 0, 1), _order)
    _tags = {"offsets": [8 + k * H * W * 2 for k in range(3)], "counts": [H * W * 2] * 3}
    section.shows(
        f"planes-16{'-be' * (_order == '>')}.tif",
        f"RGB, 16 bits, each colour apart, {_word}",
        tiff(_body, W, H, _order, **_planes, **_tags),
        _scaled(DEEP),
        "· 255 / 65535, rounded",
    )
    _tags = {"offsets": [8 + k * H * W for k in range(3)], "counts": [H * W] * 3}
    section.shows(
        f"planes{'-be' * (_order == '>')}.tif",
        f"RGB, each colour apart, {_word}",
        tiff(RGB.transpose(2, 0, 1).tobytes(), W, H, _order, bits=[8] * 3, planar=2, **_three, **_tags),
        RGB,
    )
    section.shows(
        f"big{'-be' * (_order == '>')}.tif",
        f"BigTIFF, {_word}",
        tiff(RGB.tobytes(), W, H, _order, big=True, bits=[8] * 3, **_three),
        RGB,
    )
_step = np.diff(DEEP.astype(np.int64), axis=1, prepend=0).astype(np.uint16)
section.shows(
    "predictor-16.tif",
    "RGB, 16 bits, deflated differences",
    tiff(zlib.compress(_strip(_step, "<")), W, H, bits=[16] * 3, compression=8, predictor=2, **_three),
    _scaled(DEEP),
    "· 255 / 65535, rounded",
)
section.shows(
    "pages.tif",
    "three pages",
    encoded(Image.fromarray(RGB), "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))] * 2),
    RGB,
    "the first",
)
section.shows(
    "icc.tif",
    "a colour profile",
    encoded(RGB, "TIFF", icc_profile=b"not even a profile" * 9),
    RGB,
    "the profile is left alone",
)
section.refuses(
    "raw.dng",
    "a camera raw file (DNG) whose first picture is a preview",
    tiff(RGB.tobytes(), W, H, bits=[8] * 3, subfile=1, sub_ifds=8, dng_version=1, **_three),
    "a camera raw file",
)
section.refuses(
    "raw.nef",
    "a camera raw file (NEF) whose first picture is a preview",
    tiff(RGB.tobytes(), W, H, bits=[8] * 3, subfile=1, sub_ifds=8, **_three),
    "a camera raw file",
)
section.refuses(
    "raw.cr2", "a camera raw file (CR2)", b"II*\0\x10\0\0\0CR\2\0" + bytes(300), r"it is a camera raw file \(CR2\)"
)
section.refuses(
    "sensor.tif",
    "values of a sensor's colour filters (CFA)",
    tiff(GREY.tobytes(), W, H, photometric=32803),
    "camera raw file",
)
section.refuses(
    "complex.tif",
    "complex numbers",
    tiff(bytes(H * W * 8), W, H, bits=64, format=6),
    "a TIFF of 1 sample of 64 bits, complex floats",
)
section.refuses(
    "cut.tif", "its samples cut", tiff(RGB.tobytes()[:50], W, H, bits=[8] * 3, **_three), "damaged or cut short"
)
section.refuses(
    "cut-16.tif",
    "its 16-bit samples cut",
    tiff(_strip(DEEP, "<")[:50], W, H, bits=[16] * 3, **_three),
    "damaged or cut short",
)
section.refuses(
    "cut-float.tif", "its floats cut", tiff(_strip(_share, "<")[:50], W, H, bits=32, format=3), "damaged or cut short"
)
section.refuses(
    "bad-deflate.tif",
    "deflated data that are none",
    tiff(bytes(noise(1, 99, 1)[0]), W, H, compression=8, bits=[8] * 3, **_three),
    "damaged or cut short",
)
section.refuses(
    "all-nan.tif",
    "floats that are all NaN",
    tiff(_strip(np.full((H, W), np.nan, np.float32), "<"), W, H, bits=32, format=3),
    "none of its values is a finite number",
)
section.refuses(
    "bomb.tif",
    "50,000 × 50,000 pixels in one strip",
    tiff(zlib.compress(bytes(10_000)), 50000, 50000, bits=8, compression=8),
    "refused as a decompression bomb",
)
section.refuses(
    "bomb-float.tif",
    "50,000 × 50,000 floats in one strip",
    tiff(zlib.compress(bytes(10_000)), 50000, 50000, bits=32, format=3, compression=8),
    "refused as a decompression bomb",
)
section.refuses(
    "nowhere.tif",
    "tags outside the file",
    b"II*\0" + struct.pack("<I", 99_999) + bytes(90),
    "not an image|damaged or cut short",
)
section.refuses(
    "bands.tif",
    "seven bands",
    tiff(noise(H, W, 7).tobytes(), W, H, bits=[8] * 7, samples=7),
    "a TIFF of 7 bands, none of them named a colour",
)
section.refuses(
    "bands-16.tif",
    "seven bands, 16 bits",
    tiff(_strip(noise(H, W, 7, top=65536), "<"), W, H, bits=[16] * 7, samples=7),
    "a TIFF of 7 bands, none of them named a colour",
)

# What other programs write, and what is wrong in a way that Pillow passes over.
_CMYK = noise(channels=4, top=65536, seed=12)
_PARTS = np.rint((65535.0 - _CMYK[..., :3]) * (65535.0 - _CMYK[..., 3:]) / 65535 / 65535 * 255)
for _planar, _word in ((1, ""), (2, ", each colour apart")):
    _stored = np.moveaxis(_CMYK, -1, 0) if _planar == 2 else _CMYK
    section.shows(
        f"cmyk-16-{_planar}.tif", f"CMYK, 16 bits{_word}",
        tiff(_stored.astype("<u2").tobytes(), W, H, bits=[16] * 4, samples=4, photometric=5, planar=_planar,
             **({"offsets": [8 + k * H * W * 2 for k in range(4)], "counts": [H * W * 2] * 4} if _planar == 2 else {})),
        _PARTS, "converted by parts, no profile", tolerance=1,
    )  # fmt: skip
_COLOURS_8 = np.random.default_rng(13).integers(0, 256, (256, 3))
section.shows("palette-of-bytes.tif", "a palette whose values old writers left within 0 … 255",
              tiff(GREY.tobytes(), W, H, photometric=3, colours=_COLOURS_8.T.ravel().tolist()), _COLOURS_8[GREY], "the palette's colours")  # fmt: skip
section.refuses("palette-short.tif", "a palette of 16 colours for 8 bits",
                tiff(GREY.tobytes(), W, H, photometric=3, colours=_COLOURS_8[:16].T.ravel().tolist()), "its palette has 48 values")  # fmt: skip
section.refuses(
    "strip-at-0.tif",
    "a strip that is said to lie in the header",
    tiff(GREY.tobytes(), W, H, offsets=0),
    "of its pixels lie at byte 0",
)
section.refuses(
    "strip-outside.tif",
    "a strip outside the file",
    tiff(GREY.tobytes(), W, H, offsets=10**6),
    "of its pixels lie at byte 1,000,000",
)
section.refuses(
    "predictor-3.tif",
    "floats stored as differences",
    tiff(zlib.compress(bytes(H * W * 4)), W, H, bits=32, format=3, compression=8, predictor=3),
    "predictor 3",
)
section.refuses(
    "compression-unknown.tif",
    "a compression that nobody knows",
    tiff(GREY.tobytes(), W, H, compression=12345),
    "compression 12345",
)

_INKED = on_white(_PARTS, VEIL)
for _bits, _stored in ((8, np.dstack([_scaled(_CMYK), VEIL])), (16, np.dstack([_CMYK, VEIL.astype(np.uint16) * 257]))):
    section.shows(
        f"cmyk-alpha-{_bits}.tif", f"CMYK with alpha, {_bits} bits",
        tiff(_stored.astype(f"<u{_bits // 8}").tobytes(), W, H, bits=[_bits] * 5, samples=5, photometric=5, extra=2),
        _INKED, "converted by parts, laid on white", tolerance=2,
    )  # fmt: skip
_PACKED, _VEILED = zlib.compress(RGB.tobytes()), np.dstack([RGB, VEIL]).tobytes()
section.refuses("deflate-checksum.tif", "a wrong checksum of its deflated pixels",
                tiff(_PACKED[:-1] + b"?", W, H, compression=8, bits=[8] * 3, **_three), "incorrect data check")  # fmt: skip
section.refuses("deflate-open.tif", "no checksum of its deflated pixels",
                tiff(_PACKED[:-4], W, H, compression=8, bits=[8] * 3, **_three), "its deflated data end too early")  # fmt: skip
section.refuses("cut-tags.tif", "cut in the values of its tags, of which one behind says that the fourth sample is alpha",
                tiff(_VEILED, W, H, bits=[8] * 4, samples=4, photometric=2, extra=2, primaries=range(6))[:-4], "12 bytes of its tag 319")  # fmt: skip
_JPEG = encoded(noise(96, 128), "TIFF", compression="jpeg", quality=90)
section.refuses("jpeg-zeroed.tif", "300 bytes of its JPEG's middle zeros",
                _JPEG[:4000] + bytes(300) + _JPEG[4300:], "strip or tile 0: .*made up")  # fmt: skip
section.refuses("webp.tif", "compressed as WebP, which libtiff often leaves out, and empty",
                tiff(bytes(99), W, H, compression=50001, bits=[8] * 3, **_three), "leaves out|damaged or cut short")  # fmt: skip
section.refuses("ycbcr-420.tif", "YCbCr, uncompressed, its colour sampled 4:2:0",
                tiff(bytes(8 * 10 * 3 // 2), 10, 8, bits=[8] * 3, samples=3, photometric=6, subsampling=(2, 2)), "its colour sampled 2 × 2")  # fmt: skip
