"""What lies among pictures and is none, and formats that are known and not opened."""

from __future__ import annotations

import io
import zipfile

import numpy as np
from PIL import Image

from odd.specimen import Section, encoded, noise

section = Section("No pictures of ours")


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a.jpg", "b")
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, noise())
    return stream.getvalue()


for _name, _what, _data, _refusal in (
    ("empty.jpg", "no bytes", b"", r"the file is empty \(0 bytes\)"),
    ("one-byte.jpg", "one byte", b"\xff", "1 byte that no decoder recognises"),
    ("newline.jpg", "a line break", b"\n", "1 byte that no decoder recognises"),
    ("zeros.jpg", "zeros", bytes(5000), "it is all zeros"),
    ("text.jpg", "text", b"hello\n", "6 bytes that no decoder recognises"),
    ("random.jpg", "random bytes", np.random.default_rng(0).bytes(4000), "4,000 bytes that no decoder recognises"),
    ("page.jpg", "a web page", b"<!DOCTYPE html>\n<html><body>404</body></html>", "it looks like a web page"),
    ("bom.jpg", "a web page with a byte order mark", b"\xef\xbb\xbf<html></html>", "it looks like a web page"),
    (
        "denied.jpg",
        "XML that a storage answers with",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "it looks like a web page",
    ),
    (
        "pointer.jpg",
        "a Git LFS pointer",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "it is a Git LFS pointer; run `git lfs pull`",
    ),
    ("drawing.svg", "an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "it is an SVG drawing"),
    (
        "xml.svg",
        "an SVG with an XML head",
        b'<?xml version="1.0"?>\n<!-- hello -->\n<svg></svg>',
        "it is an SVG drawing",
    ),
    ("document.pdf", "a PDF", b"%PDF-1.7\n%\xe2\xe3", "it is a PDF"),
    ("picture.eps", "PostScript: nothing we read runs a program", encoded(noise(), "EPS"), "it is PostScript"),
    (
        "icon.ico",
        "a Windows icon",
        encoded(Image.new("RGB", (32, 32)), "ICO"),
        "it is a Windows icon, which is not opened",
    ),
    ("layers.psd", "a Photoshop document", b"8BPS\0\1" + bytes(40), "it is a Photoshop document"),
    ("new.jxl", "JPEG XL", b"\xff\x0a" + bytes(40), "it is JPEG XL, which is not opened"),
    (
        "boxed.jxl",
        "JPEG XL in its container",
        b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
        "it is JPEG XL, which is not opened",
    ),
    ("quick.qoi", "QOI", b"qoif" + bytes(20), "it is QOI, which is not opened"),
    ("light.exr", "OpenEXR", b"v/1\1" + bytes(40), "it is OpenEXR, which is not opened"),
    ("light.hdr", "Radiance HDR", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "it is a Radiance HDR picture"),
    ("scan.dcm", "DICOM", bytes(128) + b"DICM" + bytes(40), "it is a DICOM file, which is not opened"),
    ("sky.fits", "FITS", b"SIMPLE  =                    T" + bytes(40), "it is a FITS file, which is not opened"),
    ("texture.dds", "a texture", b"DDS " + bytes(124), "it is a DirectDraw texture"),
    ("film.jpg", "a video (MP4)", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40), "it is a video"),
    ("film.webm", "a video (WebM)", b"\x1aE\xdf\xa3" + bytes(40), "it is a video"),
    (
        "raw.cr3",
        "a camera raw file (CR3)",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40),
        r"it is a camera raw file \(CR3\)",
    ),
    ("archive.jpg", "a zip archive", _zip(), "it is a zip archive"),
    ("packed.jpg", "a gzip file", b"\x1f\x8b\x08" + bytes(40), "it is compressed with gzip"),
    ("array.jpg", "a NumPy array", _npy(), "it is a NumPy array"),
    (
        "._picture.jpg",
        "macOS's companion of a file",
        b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(40),
        "it is macOS's companion of a file",
    ),
    ("Thumbs.db", "Windows' thumbnails", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40), "it is a Windows Thumbs.db"),
    ("base64.jpg", "a data: address", b"data:image/png;base64,iVBORw0KGgo=", "it is a data: address in text"),
    (
        "phone.heic",
        "HEIC without its decoder, or empty",
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(40),
        "HEIC needs a decoder that is not installed; install holdfast\\[heic\\] or pillow-heif|damaged or cut short",
    ),
    ("song.jpg", "a sound (Ogg)", b"OggS\0\2" + bytes(40), "it is a video or a sound \\(Ogg\\)"),
    ("film.dpx", "DPX", b"SDPX\0\0\x20\0" + bytes(40), "it is DPX, which is not opened"),
    ("gimp.xcf", "a GIMP document", b"gimp xcf v011" + bytes(40), "it is a GIMP document"),
):
    section.refuses(_name, _what, _data, _refusal)
section.shows(
    "a-png-named.jpg", "a PNG named .jpg", encoded(noise(), "PNG"), noise(), "its content counts, not its name"
)
section.shows(
    "a-webp-named.png",
    "a WebP named .png",
    encoded(noise(), "WEBP", lossless=True),
    noise(),
    "its content counts, not its name",
)
section.shows(
    "no-suffix", "a PNG without a suffix", encoded(noise(), "PNG"), noise(), "its content counts, not its name"
)
