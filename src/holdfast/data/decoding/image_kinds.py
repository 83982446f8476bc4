"""What a file is, by its first bytes and never by its name; and what to call it when it is no picture we open.

Every kind has a mark of its own here, stricter than a decoder's: no picture is made out of bytes that only happen to
begin like one. This file decodes nothing.
"""

from __future__ import annotations

import struct

from PIL import Image

# What we open, by Pillow's names. Not all it knows: EPS would start Ghostscript, and nothing we read runs a program.
Image.init()
_WANTED = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA")
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)  # some builds of Pillow lack some

_COUNTED = (b"\0\0\1\0", b"\0\0\2\0")  # icons: the number of their pictures follows; a TGA begins so too

HEAD_BYTES = 4096  # `kind_of` and `describe` look no further than this, and at the last bytes for a TGA
_TEXT = bytes([9, 10, 12, 13, *range(32, 127)])  # the characters of ASCII that show, and white space
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_DIB_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
_BITMAP_DEPTHS = (1, 2, 4, 8, 16, 24, 32)

_SIMPLE = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}

# What people mistake for pictures, or name so: the beginning of the file, and what to call it.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "it is a Git LFS pointer; run `git lfs pull`"),
    (b"%PDF", "it is a PDF; export its pages as PNG"),
    (b"%!PS", "it is PostScript; export it as PNG"),
    (b"\xc5\xd0\xd3\xc6", "it is PostScript; export it as PNG"),
    (b"8BPS", "it is a Photoshop document; export it as PNG"),
    (b"gimp xcf", "it is a GIMP document; export it as PNG"),
    (b"\xff\x0a", "it is JPEG XL, which is not opened; convert it to PNG or JPEG"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "it is JPEG XL, which is not opened; convert it to PNG or JPEG"),
    (b"\0\0\1\0", "it is a Windows icon, which is not opened; convert it to PNG"),
    (b"\0\0\2\0", "it is a Windows cursor, which is not opened; convert it to PNG"),
    (b"icns", "it is an Apple icon, which is not opened; convert it to PNG"),
    (b"v/1\1", "it is OpenEXR, which is not opened; convert it to PNG"),
    (b"#?RADIANCE", "it is a Radiance HDR picture, which is not opened; convert it to PNG"),
    (b"#?RGBE", "it is a Radiance HDR picture, which is not opened; convert it to PNG"),
    (b"DDS ", "it is a DirectDraw texture, which is not opened; convert it to PNG"),
    (b"qoif", "it is QOI, which is not opened; convert it to PNG"),
    (b"P7\n", "it is a PAM picture, which is not opened; convert it to PNG"),
    (b"PF\n", "it is a colour PFM picture, which is not opened; convert it to PNG"),
    (b"II\xbc\1", "it is JPEG XR, which is not opened; convert it to PNG"),
    (b"\n\5\1", "it is PCX, which is not opened; convert it to PNG"),
    (b"\1\xda", "it is an SGI picture, which is not opened; convert it to PNG"),
    (b"\x59\xa6\x6a\x95", "it is a Sun raster, which is not opened; convert it to PNG"),
    (b"/* XPM */", "it is XPM, which is not opened; convert it to PNG"),
    (b"#define ", "it is XBM or the source of a program, which is not opened; convert a picture to PNG"),
    (b"BLP1", "it is a BLP texture, which is not opened; convert it to PNG"),
    (b"BLP2", "it is a BLP texture, which is not opened; convert it to PNG"),
    (b"\xd7\xcd\xc6\x9a", "it is a Windows metafile; export it as PNG"),
    (b"\1\0\0\0\x6c\0\0\0", "it is a Windows metafile; export it as PNG"),
    (b"FLIF", "it is FLIF, which is not opened; convert it to PNG"),
    (b"BPG\xfb", "it is BPG, which is not opened; convert it to PNG"),
    (b"\x8aMNG", "it is an MNG animation, which is not opened; convert it to PNG"),
    (b"\x8bJNG", "it is JNG, which is not opened; convert it to PNG"),
    (b"AT&TFORM", "it is DjVu, which is not opened; convert it to PNG"),
    (b"SIMPLE  =", "it is a FITS file, which is not opened; convert it to PNG"),
    (b"II*\0\x10\0\0\0CR", "it is a camera raw file (CR2); develop it to JPEG or PNG"),
    (b"FUJIFILMCCD-RAW", "it is a camera raw file (RAF); develop it to JPEG or PNG"),
    (b"IIRO", "it is a camera raw file (ORF); develop it to JPEG or PNG"),
    (b"IIRS", "it is a camera raw file (ORF); develop it to JPEG or PNG"),
    (b"MMOR", "it is a camera raw file (ORF); develop it to JPEG or PNG"),
    (b"IIU\0", "it is a camera raw file (RW2); develop it to JPEG or PNG"),
    (b"PK\3\4", "it is a zip archive; unpack it"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it"),
    (b"BZh", "it is compressed with bzip2; unpack it"),
    (b"\xfd7zXZ\0", "it is compressed with xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it"),
    (b"Rar!\x1a\7", "it is a RAR archive; unpack it"),
    (b"\x93NUMPY", "it is a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
    (b"\x1aE\xdf\xa3", "it is a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "it is a video (MPEG)"),
    (b"FLV\1", "it is a video (Flash)"),
    (b"OggS", "it is a video or a sound (Ogg)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "it is a video or a sound (Windows Media)"),
    (b"ID3", "it is a sound (MP3)"),
    (b"fLaC", "it is a sound (FLAC)"),
    (b"SDPX", "it is DPX, which is not opened; convert it to PNG"),
    (b"XPDS", "it is DPX, which is not opened; convert it to PNG"),
    (b"\x80\x2a\x5f\xd7", "it is Cineon, which is not opened; convert it to PNG"),
    (b"id=ImageMagick", "it is ImageMagick's own format (MIFF), which is not opened; convert it to PNG"),
    (b"MATLAB 5.0", "it is a MATLAB file"),
    (b"SQLite format 3\0", "it is an SQLite database"),
    (b"PAR1", "it is a Parquet table"),
    (b"\0\5\x16\7", "it is macOS's companion of a file (`._` AppleDouble), not the picture itself"),
    (b"\0\0\0\1Bud1", "it is a .DS_Store of macOS"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "it is a Windows Thumbs.db or Office document"),
    (b"\x7fELF", "it is a program"),
    (b"MZ", "it is a Windows program"),
    (b"data:image/", "it is a data: address in text; decode its base64 part"),
)


class UnsupportedKind(ValueError):
    """A sound picture of a kind that nothing here decodes, or decodes rightly; the message says what to do."""


def kind_of(data: bytes, tail: bytes | None = None, size: int | None = None) -> str | None:
    """Returns the kind of picture that `data` begins: one of `FORMATS`, "HEIF", or None when it is none we know.

    Args:
        data: the whole file, or its first `HEAD_BYTES`.
        tail: the file's last bytes, when `data` is only its beginning.
        size: bytes in the file, when `data` is only its beginning.
    """
    for mark, kind in _SIMPLE.items():
        if data.startswith(mark):
            return kind if not data.startswith(b"II*\0\x10\0\0\0CR") else None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _kind_of_boxes(data)
    if _is_bitmap(data):
        return "BMP"
    if _is_headless_bitmap(data):
        return "DIB"
    if (
        data[:1] == b"P"
        and (data[1:2] in b"123456" or data[:2] == b"Pf")
        and data[2:3] in (b" ", b"\t", b"\n", b"\r", b"#")
    ):
        return "PPM"
    if _is_tga(data, data[-26:] if tail is None else tail[-26:], len(data) if size is None else size):
        return "TGA"
    return None


def describe(data: bytes, size: int | None = None) -> str:
    """Returns what a file that is no picture of ours is instead, for a message: "it looks like a web page".

    Args:
        data: the whole file, or its first `HEAD_BYTES`.
        size: bytes in the file, when `data` is only its beginning.
    """
    size = len(data) if size is None else size
    for mark, name in _OTHERS:
        if data.startswith(mark) and (mark not in _COUNTED or any(data[4:6])):
            return name
    head = data[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in head[:1000]:
        return "it is an SVG drawing; export it as PNG"
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        return "it looks like a web page"
    if data[4:8] == b"ftyp":
        return "it is a video" if data[8:11] != b"crx" else "it is a camera raw file (CR3); develop it to JPEG or PNG"
    if data[:4] == b"RIFF":
        return "it is a video or a sound (RIFF)"
    if data[128:132] == b"DICM":
        return "it is a DICOM file, which is not opened; export it as PNG"
    if data[257:262] == b"ustar":
        return "it is a tar archive; unpack it"
    if data[:2] == b"\xff\xd8":
        return "it begins like a JPEG and goes on as none"
    if not any(data[:HEAD_BYTES]):
        return "it is all zeros" if data.count(0) == size else "it begins with zeros only"
    junk = data[:HEAD_BYTES].find(b"\xff\xd8\xff")
    if junk > 0:
        return f"a JPEG begins only at byte {junk:,}; take away what stands before it"
    if b"\r\n\x1a\n" not in data[:8] and data[:4] == b"\x89PNG":
        return "it is a PNG damaged by a transfer as text"
    junk = data[:HEAD_BYTES].find(b"\x89PNG\r\n\x1a\n")
    if junk > 0:
        return f"a PNG begins only at byte {junk:,}; take away what stands before it"
    text = "it looks like text: " if size > 1 and data[:HEAD_BYTES].translate(None, _TEXT) == b"" else ""
    return f"{text}{size:,} byte{'s' if size != 1 else ''} that no decoder recognises"


def _kind_of_boxes(data: bytes) -> str | None:
    """AVIF and HEIC share their container; the brands tell them apart."""
    length = min(int.from_bytes(data[:4], "big"), len(data), 512)
    brands = [data[8:12], *(data[k : k + 4] for k in range(16, length - 3, 4))]
    if any(brand in (b"avif", b"avis") for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEIC_BRANDS for brand in brands) else None


def _is_bitmap(data: bytes) -> bool:
    return data[:2] == b"BM" and len(data) >= 26 and int.from_bytes(data[14:18], "little") in _DIB_HEADERS


def _is_headless_bitmap(data: bytes) -> bool:
    if len(data) < 40 or int.from_bytes(data[:4], "little") not in (40, 52, 56, 108, 124):
        return False
    planes, bits = struct.unpack_from("<HH", data, 12)
    return planes == 1 and bits in _BITMAP_DEPTHS


def _is_tga(data: bytes, tail: bytes, size: int) -> bool:
    """TGA has no mark at its beginning. Every field must make sense, and an unpacked one must have its exact size."""
    if len(data) < 18:
        return False
    id_bytes, has_map, kind = data[0], data[1], data[2]
    map_length, map_bits = struct.unpack_from("<HB", data, 5)
    width, height, bits, flags = struct.unpack_from("<HHBB", data, 12)
    if has_map > 1 or kind not in (1, 2, 3, 9, 10, 11) or not width or not height or flags & 0xC0:
        return False
    mapped = kind in (1, 9)
    if mapped != bool(has_map) or (mapped and (map_bits not in (15, 16, 24, 32) or not map_length or bits != 8)):
        return False
    if not has_map and any(data[3:8]):
        return False
    if bits not in ((16, 24, 32) if kind in (2, 10) else (8, 16)):
        return False
    if tail.endswith(_TGA_FOOTER) or kind > 8:
        return True
    palette_bytes = map_length * ((map_bits + 7) // 8) * has_map
    return bool(size == 18 + id_bytes + palette_bytes + width * height * (bits // 8))
