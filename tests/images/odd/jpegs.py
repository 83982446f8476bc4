"""JPEGs: orientations, colour models, codings, odd sizes."""

# ruff: noqa: E501  # a specimen a line reads best

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from odd.kept import KEPT
from odd.specimen import TILE_COLOURS, Section, encoded, exif, noise, tiles, turned
from odd.writers import scan_bytes, segments, with_frame, with_segment, without_segments

section = Section("JPEG")
TILES = tiles()
PLAIN = encoded(TILES, "JPEG", quality=95, subsampling=0)
LOSSY = {"tolerance": 6, "margin": 3}
GREY = tiles(tuple((level,) for level in (30, 80, 130, 180, 230, 255)))[..., 0]

for number in range(1, 9):
    section.shows(
        f"exif-{number}.jpg", f"EXIF orientation {number}", encoded(TILES, "JPEG", quality=95, exif=exif(number)),
        turned(TILES, number), "upright", **LOSSY,
    )  # fmt: skip
section.shows(
    "exif-big-endian-6.jpg", "EXIF orientation 6, big-endian",
    with_segment(PLAIN, 0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    turned(TILES, 6), "upright", **LOSSY,
)  # fmt: skip
section.shows(
    "exif-long-6.jpg", "EXIF orientation 6 written as a 32-bit number",
    with_segment(PLAIN, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\4\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    turned(TILES, 6), "upright", **LOSSY,
)  # fmt: skip
for number in (0, 9, 255):
    section.shows(
        f"exif-{number}.jpg", f"EXIF orientation {number}, which EXIF does not define",
        encoded(TILES, "JPEG", quality=95, exif=exif(number)), TILES, "as stored", **LOSSY,
    )  # fmt: skip
section.shows(
    "exif-garbage.jpg", "an EXIF block of random bytes",
    with_segment(PLAIN, 0xE1, b"Exif\0\0" + bytes(noise(1, 60, 1)[0])), TILES, "as stored", **LOSSY,
)  # fmt: skip
section.shows(
    "exif-cut.jpg", "an EXIF block cut within its tags",
    with_segment(PLAIN, 0xE1, exif(6)[:20]), TILES, "as stored", **LOSSY,
)  # fmt: skip
section.shows(
    "exif-empty.jpg", "an EXIF block without contents", with_segment(PLAIN, 0xE1, b"Exif\0\0"), TILES, **LOSSY
)
section.shows(
    "exif-twice.jpg", "two EXIF blocks: their contents follow one another, as a long block's do",
    with_segment(with_segment(PLAIN, 0xE1, exif(6)[20:].rjust(len(exif(6)[20:]) + 6, b"\0").replace(b"\0" * 6, b"Exif\0\0", 1)),
                 0xE1, exif(6)[:20]),
    turned(TILES, 6), "upright", **LOSSY,
)  # fmt: skip
XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
section.shows(
    "xmp-8.jpg", "orientation 8 in XMP alone", with_segment(PLAIN, 0xE1, XMP), turned(TILES, 8), "upright", **LOSSY
)
section.shows(
    "exif-1-xmp-8.jpg", "EXIF says 1 and XMP says 8",
    with_segment(encoded(TILES, "JPEG", quality=95, exif=exif(1)), 0xE1, XMP), TILES, "EXIF's word counts", **LOSSY,
)  # fmt: skip

for number, sampling in enumerate(("4:4", "2:2", "2:0")):
    section.shows(
        f"4{sampling[0]}{sampling[2]}.jpg", f"colour sampled 4:{sampling}",
        encoded(TILES, "JPEG", quality=95, subsampling=number), TILES, tolerance=8, margin=5,
    )  # fmt: skip
for name, (what, body) in KEPT.items():
    section.shows(name, what, base64.b64decode(body), TILES, tolerance=12, margin=6)
section.shows("progressive.jpg", "progressive", encoded(TILES, "JPEG", quality=95, progressive=True), TILES, **LOSSY)
section.shows(
    "restart.jpg", "restart markers after every block",
    encoded(TILES, "JPEG", quality=95, restart_marker_blocks=1), TILES, **LOSSY,
)  # fmt: skip
section.shows(
    "restart-progressive.jpg", "progressive with restart markers",
    encoded(TILES, "JPEG", quality=95, restart_marker_rows=1, progressive=True), TILES, **LOSSY,
)  # fmt: skip
section.shows(
    "optimized.jpg", "Huffman tables of its own", encoded(TILES, "JPEG", quality=95, optimize=True), TILES, **LOSSY
)
section.shows(
    "quality-1.jpg",
    "quality 1",
    encoded(np.full((16, 16), 128, np.uint8), "JPEG", quality=1),
    np.full((16, 16), 128),
    tolerance=20,
)
section.shows("no-jfif.jpg", "no JFIF segment", without_segments(PLAIN, 0xE0), TILES, **LOSSY)
section.shows(
    "fill-bytes.jpg", "fill bytes before its markers", PLAIN[:2] + b"\xff\xff\xff" + PLAIN[2:], TILES, **LOSSY
)
_tables = segments(PLAIN)[1][1]
section.shows(
    "stray.jpg",
    "stray bytes between its segments",
    PLAIN[:_tables] + b"stray" + PLAIN[_tables:],
    TILES,
    "passed over",
    **LOSSY,
)
section.shows(
    "comment.jpg",
    "a comment that holds markers",
    with_segment(PLAIN, 0xFE, b"\xff\xd8\xff\xd9\xff\xda"),
    TILES,
    **LOSSY,
)
section.shows("grey.jpg", "grey", encoded(GREY, "JPEG", quality=95), GREY, "three equal channels", **LOSSY)
for height, width in ((1, 1), (1, 9), (9, 1), (7, 13), (17, 33)):
    flat = np.full((height, width, 3), (200, 120, 40), dtype=np.uint8)
    section.shows(
        f"{width}x{height}.jpg", f"{width} × {height} pixels", encoded(flat, "JPEG", quality=95), flat, tolerance=3
    )
RGB = encoded(TILES, "JPEG", quality=95, keep_rgb=True)
section.shows(
    "rgb.jpg", "stored as RGB, told by the names of its components", without_segments(RGB, 0xEE), TILES, **LOSSY
)
section.shows(
    "rgb-adobe.jpg", "stored as RGB, told by Adobe's marker",
    with_segment(without_segments(RGB, 0xEE), 0xEE, b"Adobe\0\x64\0\0\0\0\0"), TILES, **LOSSY,
)  # fmt: skip

INK = tuple((255 - r, 255 - g, 255 - b, 0) for r, g, b in TILE_COLOURS)
CMYK = Image.frombytes("CMYK", (48, 32), tiles(INK).tobytes())
section.shows(
    "cmyk-adobe.jpg",
    "CMYK, inverted, as Adobe writes it",
    encoded(CMYK, "JPEG", quality=95),
    TILES,
    "converted by parts, no profile",
    **LOSSY,
)
section.shows(
    "cmyk-plain.jpg", "CMYK without Adobe's marker", without_segments(encoded(CMYK, "JPEG", quality=95), 0xEE), TILES,
    "taken as inverted too, as browsers take it", **LOSSY,
)  # fmt: skip


def _ycck() -> bytes:
    """Adobe's YCCK: the inverted CMY as Y, Cb, Cr beside the inverted K."""
    ycc = np.asarray(Image.fromarray(255 - TILES).convert("YCbCr"))
    black = np.full((*ycc.shape[:2], 1), 255, np.uint8)
    stored = np.concatenate([ycc, black], axis=2)
    # Pillow inverts what it writes; so hand it the inverse, and tell readers by the marker that it is YCCK
    body = encoded(Image.frombytes("CMYK", (48, 32), (255 - stored).tobytes()), "JPEG", quality=95)
    return body.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2")


section.shows("ycck.jpg", "YCCK, as Photoshop writes it", _ycck(), TILES, "converted by parts, no profile", **LOSSY)
section.shows(
    "icc.jpg", "a colour profile", encoded(TILES, "JPEG", quality=95, icc_profile=b"not even a profile" * 9), TILES,
    "the profile is left alone", **LOSSY,
)  # fmt: skip


def _mpo() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(TILES).save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))], quality=95)
    return stream.getvalue()


section.shows(
    "pair.mpo", "MPO of two pictures (stereo cameras, phones)", _mpo(), TILES, "the first", tolerance=8, margin=5
)
section.shows(
    "trailing.jpg", "bytes after its end (a phone's video)", PLAIN + b"\0\0\0\x18ftypmp42" + bytes(3000), TILES, **LOSSY
)
section.shows("trailing-ff.jpg", "0xFF after its end", PLAIN + b"\xff" * 40, TILES, **LOSSY)
_end = scan_bytes(PLAIN)[1]
section.shows(
    "padded.jpg", "zeros before its end marker (some cameras)", PLAIN[:_end] + bytes(64) + PLAIN[_end:], TILES, **LOSSY
)
section.refuses(
    "12-bit.jpg", "12 bits a sample", with_frame(PLAIN, marker=0xC1, precision=12), "a JPEG of 12 bits a sample"
)
section.refuses(
    "lossless.jpg", "lossless JPEG (SOF3)", with_frame(PLAIN, marker=0xC3), "a lossless or hierarchical JPEG"
)
section.refuses(
    "hierarchical.jpg", "hierarchical JPEG (SOF5)", with_frame(PLAIN, marker=0xC5), "a lossless or hierarchical JPEG"
)
section.refuses(
    "jpeg-ls.jls",
    "JPEG-LS",
    b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xda\0\x08\1\1\0\0\0\0" + bytes(9) + b"\xff\xd9",
    "JPEG-LS, which is not decoded",
)
section.refuses("zero-width.jpg", "a width of 0", with_frame(PLAIN, width=0), r"its header states 0 × 32 pixels")
section.refuses(
    "zero-height.jpg",
    "a height of 0 (stated later, by DNL)",
    with_frame(PLAIN, height=0),
    r"its header states 48 × 0 pixels",
)
section.refuses(
    "taller.jpg", "a header that states more rows than there are", with_frame(PLAIN, height=64), "damaged or cut short"
)
section.refuses(
    "bomb.jpg",
    "65,000 × 65,000 pixels in 3 kB",
    with_frame(PLAIN, width=65000, height=65000),
    "refused as a decompression bomb",
)
_progressive = encoded(TILES, "JPEG", quality=95, progressive=True)
_first = segments(_progressive)[-1][1]
section.refuses(
    "scan-bomb.jpg",
    "a progressive JPEG of 600 scans",
    _progressive[:-2] + _progressive[_first : _first + 14] * 600 + _progressive[-2:],
    "a progressive JPEG of more than 500 scans",
)

section.shows("icc-part.jpg", "the first of two parts of a colour profile, alone",
              with_segment(PLAIN, 0xE2, b"ICC_PROFILE\0\1\2" + bytes(99)), TILES, "the profile is left alone", **LOSSY)  # fmt: skip
section.shows("adobe-2.jpg", "Adobe's marker with a transform that three colours do not have",
              with_segment(without_segments(PLAIN, 0xE0), 0xEE, b"Adobe\0\x64\0\0\0\0\2"), TILES, "taken as YCbCr", **LOSSY)  # fmt: skip
section.shows("xmp-quotes.jpg", "orientation 6 in XMP alone, written as XML also may be",
              with_segment(PLAIN, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation = '6'/>"),
              turned(TILES, 6), "upright", **LOSSY)  # fmt: skip
section.shows("xmp-66.jpg", "orientation 66 in XMP alone, which is none",
              with_segment(PLAIN, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation='66'/>"),
              TILES, "as stored", **LOSSY)  # fmt: skip
_TIGHT = encoded(TILES, "JPEG", quality=95, subsampling=0, optimize=True)
section.shows("padded-optimized.jpg", "zeros before its end marker, and Huffman tables of its own",
              _TIGHT[:-2] + bytes(3000) + _TIGHT[-2:], TILES, "as stored", **LOSSY)  # fmt: skip
_PADDED = PLAIN[:_end] + bytes(640) + PLAIN[_end:]
section.shows("padded-pair.jpg", "zeros before its end marker, and another JPEG behind it (gain maps, stereo pairs)",
              _PADDED + encoded(TILES[::-1], "JPEG"), TILES, "the first", **LOSSY)  # fmt: skip
section.shows("padded-thumbnail.jpg", "zeros before its end marker and before that of the thumbnail in its head",
              with_segment(_PADDED, 0xE5, b"\xff\xd8" + bytes(900) + b"\xff\xd9"), TILES, "as stored", **LOSSY)  # fmt: skip
