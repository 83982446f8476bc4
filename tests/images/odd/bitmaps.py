"""BMP, TGA, the Netpbm family and JPEG 2000."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from odd.specimen import Section, encoded, noise, on_white

section = Section("BMP, TGA, Netpbm, JPEG 2000")
RGB = noise()
GREY = RGB[..., 0]
VEIL = noise(channels=1, seed=3)
DEEP = noise(top=65536)


def _scaled(samples: np.ndarray, top: int = 65535) -> np.ndarray:
    return np.rint(samples.astype(np.float64) * 255 / top).astype(np.int64)


def bmp(
    rows: bytes, width: int, height: int, bits: int, palette: bytes = b"", compression: int = 0, masks: bytes = b""
) -> bytes:
    """Returns a BMP of packed rows; a negative height means that the first row is on top."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0)
    start = 14 + len(header) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + masks + palette + rows


def tga(kind: int, bits: int, body: bytes, flags: int = 0x20, palette: bytes = b"", footer: bool = False) -> bytes:
    """Returns a TGA of 9 × 7 pixels, the first row on top unless `flags` say otherwise."""
    head = struct.pack(
        "<BBBHHBHHHHBB",
        0,
        int(bool(palette)),
        kind,
        0,
        len(palette) // 3,
        24 if palette else 0,
        0,
        0,
        9,
        7,
        bits,
        flags,
    )
    return head + palette + body + (bytes(8) + b"TRUEVISION-XFILE.\0" if footer else b"")


BGR = RGB[..., ::-1]
section.shows("rgb.bmp", "BMP, 24 bits", encoded(RGB, "BMP"), RGB)
section.shows(
    "top-down.bmp", "BMP, first row on top", bmp(np.pad(BGR.reshape(7, 27), ((0, 0), (0, 1))).tobytes(), 9, -7, 24), RGB
)
section.shows(
    "rgbx.bmp",
    "BMP, 32 bits",
    bmp(np.dstack([BGR, np.zeros_like(GREY)])[::-1].tobytes(), 9, 7, 32),
    RGB,
    "the fourth byte is left out",
)
section.shows("grey.bmp", "BMP, grey", encoded(GREY, "BMP"), GREY)
_palette = noise(1, 256, 4, seed=4)[0]
section.shows(
    "palette.bmp",
    "BMP, palette",
    bmp(np.pad(GREY, ((0, 0), (0, 3)))[::-1].tobytes(), 9, 7, 8, _palette.tobytes()),
    _palette[GREY][..., 2::-1],
)
_five = noise(7, 10, 3, top=32, seed=7).astype(np.uint16)
section.shows(
    "555.bmp",
    "BMP, 16 bits (5-5-5)",
    bmp((_five[..., 0] << 10 | _five[..., 1] << 5 | _five[..., 2])[::-1].astype("<u2").tobytes(), 10, 7, 16),
    _scaled(_five, 31),
    tolerance=1,
)
section.shows(
    "bits.bmp",
    "BMP, black and white",
    encoded(Image.fromarray(noise(7, 9, 1, top=2) * 255).convert("1"), "BMP"),
    noise(7, 9, 1, top=2) * 255,
    "0 and 255",
)
section.refuses("cut.bmp", "a BMP cut in its pixels", encoded(noise(40, 40), "BMP")[:2000], "damaged or cut short")
section.refuses(
    "bomb.bmp", "a BMP of 60,000 × 60,000 pixels", bmp(b"", 60000, 60000, 24), "refused as a decompression bomb"
)
section.refuses("text.bmp", "text that begins with BM", b"BMW and Mercedes\n" * 9, "that no decoder recognises")
section.shows("rgb.tga", "TGA, 24 bits", tga(2, 24, BGR.tobytes()), RGB)
section.shows("footer.tga", "TGA with its footer", tga(2, 24, BGR.tobytes(), footer=True), RGB)
section.shows("upside-down.tga", "TGA, first row at the bottom", tga(2, 24, BGR[::-1].tobytes(), flags=0), RGB)
section.shows(
    "rgba.tga",
    "TGA with alpha",
    tga(2, 32, np.dstack([BGR, VEIL]).tobytes(), flags=0x28),
    on_white(RGB, VEIL),
    "laid on white",
)
section.shows(
    "rgbx.tga",
    "TGA, 32 bits of which 0 are alpha",
    tga(2, 32, np.dstack([BGR, VEIL]).tobytes()),
    RGB,
    "the fourth byte is left out",
)
section.shows("grey.tga", "TGA, grey", tga(3, 8, GREY.tobytes()), GREY)
section.shows(
    "packed.tga", "TGA, run-length coded", tga(10, 24, b"".join(bytes([8]) + row.tobytes() for row in BGR)), RGB
)
section.shows(
    "palette.tga",
    "TGA, palette",
    tga(1, 8, (GREY % 16).tobytes(), palette=_palette[:16, :3].tobytes()),
    _palette[:16, 2::-1][GREY % 16],
)
section.refuses(
    "longer.tga",
    "a TGA whose size is not what its header asks for",
    tga(2, 24, BGR.tobytes() + bytes(100)),
    "that no decoder recognises",
)
section.refuses(
    "random.tga", "random bytes", np.random.default_rng(5).bytes(5000), "5,000 bytes that no decoder recognises"
)
section.refuses(
    "like-a-header.tga",
    "text that TGA's loose header would allow",
    b"\0\0\2\0\0\0\0\0\0\0\0\0" + b"A" * 400,
    "icon|cursor|no decoder recognises",
)

section.shows("rgb.ppm", "PPM", b"P6 9 7 255\n" + RGB.tobytes(), RGB)
section.shows("comment.ppm", "PPM with comments", b"P6\n# made by hand\n9 7\n# more\n255\n" + RGB.tobytes(), RGB)
section.shows("plain.ppm", "PPM in plain text", b"P3 9 7 255\n" + " ".join(map(str, RGB.reshape(-1))).encode(), RGB)
section.shows("grey.pgm", "PGM", b"P5 9 7 255\n" + GREY.tobytes(), GREY)
section.shows(
    "grey-16.pgm",
    "PGM, 16 bits",
    b"P5 9 7 65535\n" + DEEP[..., 0].astype(">u2").tobytes(),
    _scaled(DEEP[..., 0]),
    "· 255 / 65535, rounded",
)
section.shows(
    "grey-12.pgm",
    "PGM, values up to 4095",
    b"P5 9 7 4095\n" + (DEEP[..., 0] % 4096).astype(">u2").tobytes(),
    _scaled(DEEP[..., 0] % 4096, 4095),
    "· 255 / 4095, rounded",
    tolerance=1,
)
section.shows(
    "rgb-16.ppm",
    "PPM, 16 bits",
    b"P6 9 7 65535\n" + DEEP.astype(">u2").tobytes(),
    _scaled(DEEP),
    "· 255 / 65535, rounded",
    tolerance=1,
)
section.shows(
    "bits.pbm",
    "PBM",
    b"P4 16 2\n\xf0\x0f\x55\xaa",
    255 - np.unpackbits(np.frombuffer(b"\xf0\x0f\x55\xaa", np.uint8)).reshape(2, 16) * 255,
    "1 is black",
)
_floats = noise(channels=1, top=65536, seed=9).astype(np.float32) / 65535
section.shows(
    "float.pfm", "PFM, 0 … 1", b"Pf\n9 7\n-1.0\n" + _floats[::-1].astype("<f4").tobytes(), _scaled(_floats, 1), "· 255"
)
section.refuses("cut.ppm", "a PPM cut in its pixels", b"P6 9 7 255\n" + RGB.tobytes()[:50], "damaged or cut short")
section.refuses(
    "bomb.ppm",
    "a PPM of 60,000 × 60,000 pixels",
    b"P6 60000 60000 255\n" + bytes(99),
    "refused as a decompression bomb",
)
section.refuses(
    "colour.pfm",
    "PFM in colour",
    b"PF\n9 7\n-1.0\n" + bytes(7 * 9 * 12),
    "it is a colour PFM picture, which is not opened",
)
section.refuses(
    "any.pam",
    "PAM",
    b"P7\nWIDTH 9\nHEIGHT 7\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + RGB.tobytes(),
    "it is a PAM picture, which is not opened",
)
section.shows(
    "lossless.jp2", "JPEG 2000, lossless", lambda: encoded(noise(40, 48), "JPEG2000", irreversible=False), noise(40, 48)
)
section.shows(
    "codestream.j2k",
    "JPEG 2000 without its container",
    lambda: encoded(noise(40, 48), "JPEG2000", irreversible=False, no_jp2=True),
    noise(40, 48),
)
section.shows(
    "grey-16.jp2",
    "JPEG 2000, grey, 16 bits",
    lambda: encoded(Image.fromarray(noise(40, 48, 1, top=65536)), "JPEG2000", irreversible=False),
    _scaled(noise(40, 48, 1, top=65536)),
    "· 255 / 65535, rounded",
)
section.refuses(
    "cut.jp2",
    "a JPEG 2000 cut in its pixels",
    lambda: encoded(noise(40, 48), "JPEG2000", irreversible=False)[:1500],
    "damaged or cut short",
)
# ITU-T T.800, A.5.1: one component's depth is patched into a picture that Pillow writes with 8 bits.
_JP2 = encoded(noise(48, 64), "JPEG2000", irreversible=False)
_SIZ = _JP2.find(b"\xff\x4f\xff\x51") + 42
section.refuses(
    "rgb-16.jp2", "JPEG 2000, RGB, 16 bits: its only reader here makes white black",
    b"".join([_JP2[:_SIZ], b"\x0f\1\1" * 3, _JP2[_SIZ + 9 :]]), "a JPEG 2000 of 3 components of 16 bits",
)  # fmt: skip
_ODD = encoded(noise(47, 63), "JPEG2000", irreversible=False)
_SIZ = _ODD.find(b"\xff\x4f\xff\x51") + 42
for _name, _what, _steps in (
    ("halves", "colour sampled 4:2:0, an odd width: its only reader here shifts its colours", (1, 2, 2)),
    ("sparse", "a sample for each 2 × 2 pixels", (2, 2, 2)),
):
    section.refuses(
        f"{_name}.jp2", f"JPEG 2000, {_what}",
        b"".join([_ODD[:_SIZ], *(bytes([7, step, step]) for step in _steps), _ODD[_SIZ + 9 :]]),
        "whose components have a sample for each",
    )  # fmt: skip
