"""PNGs: every depth and colour type, transparency, orientation, animations."""

# ruff: noqa: E501  # a specimen a line reads best

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from odd.specimen import Section, encoded, exif, noise, on_white, turned
from odd.writers import SIGNATURE, chunk, png, png_of

section = Section("PNG")
RGB = noise()
DEEP = noise(top=65536)
SIXTEEN_SCALED = "each sample · 255 / 65535, rounded"


def _scaled(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples.astype(np.float64) / 257).astype(np.int64)


section.shows("rgb.png", "RGB, 8 bits", encoded(RGB, "PNG"), RGB)
section.shows("grey.png", "grey, 8 bits", encoded(RGB[..., 0], "PNG"), RGB[..., 0], "three equal channels")
for bits, levels in ((1, 2), (2, 4), (4, 16)):
    samples = noise(4, 8, 1, top=levels)
    rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in samples]
    section.shows(
        f"grey-{bits}.png", f"grey, {bits} bit{'s'[: bits - 1]}", png(8, 4, bits, 0, rows), samples * (255 // (levels - 1)),
        "0 … 255",
    )  # fmt: skip
    key = chunk(b"tRNS", struct.pack(">H", levels - 1))
    section.shows(
        f"grey-{bits}-keyed.png", f"grey, {bits} bit{'s'[: bits - 1]}, black made transparent (tRNS)",
        png(8, 4, bits, 0, rows, chunk(b"tRNS", b"\0\0")),
        np.where(samples == 0, 255, samples * (255 // (levels - 1))), "transparent pixels white",
    )  # fmt: skip
    palette = noise(1, levels, 3, seed=5)[0]
    section.shows(
        f"palette-{bits}.png", f"palette, {bits} bit{'s'[: bits - 1]}",
        png(8, 4, bits, 3, rows, chunk(b"PLTE", palette.tobytes())), palette[samples], "the palette's colours",
    )  # fmt: skip
    section.shows(
        f"palette-{bits}-keyed.png", f"palette, {bits} bit{'s'[: bits - 1]}, first entry half transparent",
        png(8, 4, bits, 3, rows, chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", b"\x80")),
        np.where((samples == 0)[..., None], on_white(palette[samples], np.full(samples.shape, 128)), palette[samples]),
        "laid on white",
    )  # fmt: skip
section.shows("grey-16.png", "grey, 16 bits", png_of(DEEP[..., 0], 16, 0), _scaled(DEEP[..., 0]), SIXTEEN_SCALED)
section.shows(
    "grey-16-dark.png", "grey, 16 bits, a scan whose highest value is 4095", png_of(DEEP[..., 0] // 16, 16, 0),
    _scaled(DEEP[..., 0] // 16), "still · 255 / 65535: dark",
)  # fmt: skip
section.shows(
    "grey-16-sbit.png", "grey, 16 bits of which 12 count (sBIT)",
    png_of(DEEP[..., 0], 16, 0, chunk(b"sBIT", b"\x0c")), _scaled(DEEP[..., 0]), SIXTEEN_SCALED,
)  # fmt: skip
section.shows(
    "grey-16-keyed.png", "grey, 16 bits, one value transparent",
    png_of(DEEP[..., 0], 16, 0, chunk(b"tRNS", DEEP[0, 0, :1].astype(">u2").tobytes())),
    np.where(DEEP[..., 0] == DEEP[0, 0, 0], 255, _scaled(DEEP[..., 0])), "transparent pixels white",
)  # fmt: skip
section.shows("rgb-16.png", "RGB, 16 bits", png_of(DEEP, 16, 2), _scaled(DEEP), SIXTEEN_SCALED)
section.shows(
    "rgb-16-keyed.png", "RGB, 16 bits, one colour transparent; another differs from it in a low byte only",
    png_of(np.array([[[256, 512, 768], [256, 512, 769]]]), 16, 2, chunk(b"tRNS", struct.pack(">HHH", 256, 512, 768))),
    np.array([[[255, 255, 255], [1, 2, 3]]]), "transparent pixels white",
)  # fmt: skip
_alpha = noise(channels=1, top=65536, seed=3)
section.shows(
    "grey-alpha-16.png", "grey with alpha, 16 bits", png_of(np.dstack([DEEP[..., 0], _alpha]), 16, 4),
    on_white(DEEP[..., 0], _alpha, 65535), "laid on white", tolerance=1,
)  # fmt: skip
section.shows(
    "rgba-16.png", "RGB with alpha, 16 bits", png_of(np.dstack([DEEP, _alpha]), 16, 6), on_white(DEEP, _alpha, 65535),
    "laid on white", tolerance=1,
)  # fmt: skip
_veil = noise(channels=1, seed=3)
section.shows(
    "rgba.png", "RGB with alpha", encoded(np.dstack([RGB, _veil]), "PNG"), on_white(RGB, _veil), "laid on white"
)
section.shows(
    "grey-alpha.png", "grey with alpha", png_of(np.dstack([RGB[..., 0], _veil]), 8, 4), on_white(RGB[..., 0], _veil), "laid on white",
)  # fmt: skip
section.shows(
    "clear.png", "every pixel wholly transparent", encoded(np.zeros((3, 4, 4), np.uint8), "PNG"), np.full((3, 4), 255),
    "white",
)  # fmt: skip
section.shows(
    "rgb-keyed.png", "RGB, one colour transparent",
    png_of(RGB, 8, 2, chunk(b"tRNS", RGB[0, 0].astype(">u2").tobytes())),
    np.where((RGB[0, 0] == RGB).all(axis=2, keepdims=True), 255, RGB), "transparent pixels white",
)  # fmt: skip
section.shows(
    "grey-keyed.png", "grey, one value transparent",
    png_of(RGB[..., 0], 8, 0, chunk(b"tRNS", RGB[0, 0, :1].astype(">u2").tobytes())),
    np.where(RGB[..., 0] == RGB[0, 0, 0], 255, RGB[..., 0]), "transparent pixels white",
)  # fmt: skip
_indexed = noise(channels=1, top=256, seed=2)
_palette = noise(1, 256, 3, seed=4)[0]
section.shows(
    "palette-8.png", "palette of 256 colours", png_of(_indexed, 8, 3, chunk(b"PLTE", _palette.tobytes())),
    _palette[_indexed], "the palette's colours",
)  # fmt: skip
_see_through = noise(1, 200, 1, seed=6)[0]
section.shows(
    "palette-8-alpha.png", "palette with an alpha for its first 200 entries",
    png_of(_indexed, 8, 3, chunk(b"PLTE", _palette.tobytes()), chunk(b"tRNS", _see_through.tobytes())),
    on_white(_palette[_indexed], np.concatenate([_see_through, np.full(56, 255)])[_indexed]), "laid on white",
)  # fmt: skip
section.shows(
    "interlaced.png", "interlaced (Adam7), one pixel", png(1, 1, 8, 2, [b"\x0a\x14\x1e"], interlace=1),
    np.array([[[10, 20, 30]]]),
)  # fmt: skip
for _height, _width in ((1, 1), (1, 9), (9, 1)):
    section.shows(
        f"{_width}x{_height}.png",
        f"{_width} × {_height} pixels",
        encoded(noise(_height, _width), "PNG"),
        noise(_height, _width),
    )
for _number in range(1, 9):
    section.shows(
        f"exif-{_number}.png", f"EXIF orientation {_number} (eXIf)", encoded(RGB, "PNG", exif=exif(_number)),
        turned(RGB, _number), "upright",
    )  # fmt: skip


def _raw_profile(kind: str) -> bytes:
    """ImageMagick's way to keep EXIF in a PNG: hexadecimal text."""
    body = exif(6)
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(body):8}\n{body.hex()}\n", zip=kind == "zTXt")
    return encoded(RGB, "PNG", pnginfo=info)


def _xmp() -> bytes:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    return encoded(RGB, "PNG", pnginfo=info)


section.shows("exif-text.png", "EXIF orientation 6 in a text profile", _raw_profile("tEXt"), turned(RGB, 6), "upright")
section.shows(
    "exif-ztxt.png", "EXIF orientation 6 in a compressed text profile", _raw_profile("zTXt"), turned(RGB, 6), "upright"
)
section.shows("xmp.png", "orientation 6 in XMP alone", _xmp(), turned(RGB, 6), "upright")
_late = encoded(RGB, "PNG")
section.shows(
    "exif-last.png", "EXIF orientation 6 after the pixels", _late[:-12] + chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0")) + _late[-12:],
    turned(RGB, 6), "upright",
)  # fmt: skip
section.shows(
    "exif-16-bit.png", "RGB, 16 bits, EXIF orientation 6",
    png_of(DEEP, 16, 2, chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))), turned(_scaled(DEEP), 6), "upright and scaled",
)  # fmt: skip
section.shows(
    "exif-alpha.png", "alpha and EXIF orientation 8", encoded(np.dstack([RGB, _veil]), "PNG", exif=exif(8)),
    turned(on_white(RGB, _veil), 8), "upright, laid on white",
)  # fmt: skip
section.shows(
    "exif-garbage.png",
    "an eXIf chunk of random bytes",
    png_of(RGB, 8, 2, chunk(b"eXIf", bytes(noise(1, 60, 1)[0]))),
    RGB,
)
section.shows(
    "text-profile-garbage.png", "a text profile that is no EXIF",
    png_of(RGB, 8, 2, chunk(b"tEXt", b"Raw profile type exif\0nothing\nof\nthis\nis hex")), RGB,
)  # fmt: skip
section.shows(
    "gamma.png",
    "gamma and chromaticities",
    png_of(RGB, 8, 2, chunk(b"gAMA", struct.pack(">I", 100_000))),
    RGB,
    "left alone",
)
section.shows(
    "icc.png", "a colour profile", encoded(RGB, "PNG", icc_profile=b"not even a profile" * 9), RGB,
    "the profile is left alone",
)  # fmt: skip
section.shows("background.png", "alpha and a stated background of red (bKGD)", png_of(
    np.dstack([RGB, _veil]), 8, 6, chunk(b"bKGD", struct.pack(">HHH", 255, 0, 0))), on_white(RGB, _veil), "laid on white all the same",
)  # fmt: skip
section.shows("unknown-chunk.png", "a chunk that nobody knows", png_of(RGB, 8, 2, chunk(b"prVt", b"hello")), RGB)
section.shows("trailing.png", "bytes after its end", encoded(RGB, "PNG") + b"more" * 100, RGB)
section.shows(
    "many-idat.png", "its pixels in chunks of one byte",
    SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 8, 2, 0, 0, 0))
    + b"".join(chunk(b"IDAT", bytes([b])) for b in zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB))) + chunk(b"IEND"),
    RGB,
)  # fmt: skip


def _apng(default: bool) -> bytes:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("#00ff00", "#0000ff")]
    return encoded(Image.fromarray(RGB), "PNG", save_all=True, append_images=frames, default_image=default)


section.shows("animation.png", "APNG of three frames", _apng(False), RGB, "the first")
section.shows("animation-default.png", "APNG with a still picture beside it", _apng(True), RGB, "the still picture")
_GOOD = encoded(noise(40, 40), "PNG")
_IDAT = _GOOD.index(b"IDAT")
section.refuses(
    "bad-checksum.png",
    "a wrong checksum of its pixels",
    _GOOD[:-14] + bytes([_GOOD[-14] ^ 1]) + _GOOD[-13:],
    "the checksum of chunk IDAT at byte 33 is wrong",
)
section.refuses(
    "bad-pixels.png",
    "a byte of its pixels changed",
    _GOOD[: _IDAT + 900] + bytes([_GOOD[_IDAT + 900] ^ 255]) + _GOOD[_IDAT + 901 :],
    "the checksum of chunk IDAT",
)
section.refuses("no-end.png", "no end chunk", _GOOD[:-12], "without its end chunk: cut short")
section.refuses("cut.png", "cut in its pixels", _GOOD[: len(_GOOD) // 2], "chunk IDAT ends outside the file: cut short")
section.refuses(
    "no-pixels.png",
    "no pixels",
    SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 8, 2, 0, 0, 0)) + chunk(b"IEND"),
    r"a PNG without pixels \(IDAT\)",
)
section.refuses(
    "too-few-rows.png",
    "fewer rows than its header states",
    png(9, 8, 8, 2, [row.tobytes() for row in RGB]),
    "damaged or cut short",
)
section.refuses(
    "bad-deflate.png",
    "pixels that are not compressed data, with right checksums",
    SIGNATURE
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 7, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", bytes(noise(1, 300, 1)[0]))
    + chunk(b"IEND"),
    "damaged or cut short",
)
section.refuses("header-only.png", "its header alone", _GOOD[:33], "without its end chunk: cut short")
section.refuses("signature-only.png", "its first eight bytes alone", SIGNATURE, "without its end chunk: cut short")
section.refuses("zero-width.png", "a width of 0", png(0, 7, 8, 2, [b""] * 7), "its header states 0 × 7 pixels")
section.refuses(
    "bomb.png",
    "30,000 × 30,000 grey pixels in 100 kB",
    lambda: png(30000, 30000, 1, 0, [bytes(3750)] * 30000),
    "refused as a decompression bomb",
)
section.refuses(
    "lying-bomb.png",
    "a header of 2,000,000,000 × 1 pixels",
    png(2_000_000_000, 1, 8, 2, [b""]),
    "refused as a decompression bomb",
)
section.refuses(
    "text-bomb.png",
    "80 MB of text in 80 kB (zTXt)",
    lambda: png_of(RGB, 8, 2, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))),
    "refused as a decompression bomb",
)
section.refuses(
    "profile-bomb.png",
    "a colour profile of 80 MB in 80 kB (iCCP)",
    lambda: png_of(RGB, 8, 2, chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(80 << 20)))),
    "refused as a decompression bomb",
)
section.refuses(
    "cgbi.png", "an Xcode-optimised PNG (CgBI)", SIGNATURE + chunk(b"CgBI", bytes(4)) + _GOOD[8:], "CgBI|not IHDR"
)
section.refuses(
    "ftp.png",
    "carried over as text: CRLF made LF",
    SIGNATURE.replace(b"\r\n", b"\n") + _GOOD[8:],
    "a PNG damaged by a transfer as text",
)

# What the standard forbids, and what decoders disagree upon.
_BODY = zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB))
_HEAD = struct.pack(">IIBBBBB", RGB.shape[1], RGB.shape[0], 8, 2, 0, 0, 0)


def _whole(*chunks: bytes, head: bytes = _HEAD) -> bytes:
    return SIGNATURE + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND")


for _name, _idle in (("gamma", b"gAMA"), ("chroma", b"cHRM"), ("size", b"pHYs"), ("bits", b"sBIT"), ("text", b"tEXt")):
    section.shows(
        f"short-{_name}.png",
        f"a chunk {_idle.decode()} that is too short",
        _whole(chunk(_idle, b""), chunk(b"IDAT", _BODY)),
        RGB,
        "as stored",
    )
section.shows("empty-idat.png", "empty chunks of pixels between the others",
              _whole(chunk(b"IDAT"), chunk(b"IDAT", _BODY[:9]), chunk(b"IDAT"), chunk(b"IDAT", _BODY[9:])), RGB, "as stored")  # fmt: skip
section.shows("animation-broken.png", "APNG whose frames make no sense beside a sound still picture",
              _whole(chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0"), chunk(b"IDAT", _BODY)), RGB, "the still picture")  # fmt: skip
for _name, _what, _data, _refusal in (
    ("no-checksum", "no checksum at the end of its pixels", _whole(chunk(b"IDAT", _BODY[:-4])), "damaged or cut short"),
    ("two-headers", "its header twice", _whole(chunk(b"IHDR", _HEAD), chunk(b"IDAT", _BODY)), "IHDR is there twice"),
    (
        "apart",
        "pixels in two places",
        _whole(chunk(b"IDAT", _BODY[:9]), chunk(b"tIME", bytes(7)), chunk(b"IDAT", _BODY[9:])),
        "interrupted by chunk tIME",
    ),
    (
        "unknown-needed",
        "a critical chunk that nobody knows",
        _whole(chunk(b"ABCD"), chunk(b"IDAT", _BODY)),
        "knows none of that name",
    ),
    (
        "compression-1",
        "a compression that PNG does not have",
        _whole(chunk(b"IDAT", _BODY), head=_HEAD[:10] + b"\1\0\0"),
        "which PNG does not have",
    ),
    (
        "depth-3",
        "grey of 3 bits",
        _whole(chunk(b"IDAT", _BODY), head=_HEAD[:8] + b"\3\0\0\0\0"),
        "which PNG does not have",
    ),
    (
        "no-palette",
        "numbers of a palette, and no palette",
        _whole(chunk(b"IDAT", _BODY), head=_HEAD[:9] + b"\3\0\0\0"),
        "it has none",
    ),
    (
        "beyond-palette",
        "numbers beyond its palette",
        png_of(RGB[..., 0], 8, 3, chunk(b"PLTE", bytes(12))),
        "of a palette of 4",
    ),
):
    section.refuses(f"{_name}.png", _what, _data, _refusal)
