"""JPEGs that are cut or overwritten: libjpeg paints over what is missing, and here that is an error."""

# a specimen a line reads best

from __future__ import annotations

import base64
import re

import numpy as np

from odd.kept import KEPT
from odd.specimen import Section, encoded, noise, tiles
from odd.writers import scan_bytes, segments

section = Section("Damaged JPEG")
END = b"\xff\xd9"
REFUSAL = "damaged or cut short"
MADE_UP = r"damaged or cut short \(Corrupt JPEG data: .*rows would be made up|without its last scans"
for _name, _what, _options in (
    ("", "", {}),
    ("progressive-", ", progressive", {"progressive": True}),
    ("restart-", ", with restart markers", {"restart_marker_rows": 1}),
    ("444-", ", colour not halved", {"subsampling": 0}),
):
    _whole = encoded(noise(96, 128), "JPEG", quality=90, **_options)
    _start, _stop = scan_bytes(_whole)
    _middle = (_start + _stop) // 2
    _random = np.random.default_rng(1).bytes(300)
    section.refuses(f"{_name}cut.jpg", f"cut in its middle{_what}", _whole[:_middle], REFUSAL)
    section.refuses(
        f"{_name}cut-closed.jpg", f"cut in its middle, an end marker pasted on{_what}", _whole[:_middle] + END, MADE_UP
    )
    section.refuses(
        f"{_name}cut-closed-late.jpg",
        f"its last 40 bytes missing, an end marker pasted on{_what}",
        _whole[: _stop - 40] + END,
        REFUSAL,
    )
    section.refuses(
        f"{_name}zeroed.jpg",
        f"300 bytes of its middle zeros{_what}",
        _whole[:_middle] + bytes(300) + _whole[_middle + 300 :],
        REFUSAL,
    )
    section.refuses(
        f"{_name}overwritten.jpg",
        f"300 bytes of its middle random{_what}",
        _whole[:_middle] + _random + _whole[_middle + 300 :],
        REFUSAL,
    )
    section.refuses(f"{_name}no-end.jpg", f"no end marker{_what}", _whole[:_stop], "without its end marker: cut short")
    section.refuses(
        f"{_name}gap.jpg",
        f"300 bytes of its middle missing{_what}",
        _whole[:_middle] + _whole[_middle + 300 :],
        REFUSAL,
    )
    section.refuses(
        f"{_name}hole.jpg",
        f"all after its middle zeros, as after a broken copy{_what}",
        _whole[:_middle] + bytes(len(_whole) - _middle),
        REFUSAL,
    )
_whole = encoded(noise(96, 128), "JPEG", quality=90)
_grey = encoded(noise(96, 128, 1), "JPEG", quality=90)
section.refuses("grey-cut-closed.jpg", "grey, cut, an end marker pasted on", _grey[: len(_grey) // 2] + END, MADE_UP)
section.refuses(
    "two-halves.jpg",
    "the first half of one picture and the second half of another",
    _whole[: len(_whole) // 2] + encoded(noise(96, 128, seed=7), "JPEG", quality=90)[-len(_whole) // 3 :],
    REFUSAL,
)
section.refuses("header.jpg", "its header alone", _whole[: segments(_whole)[-1][2]] + END, REFUSAL)
section.refuses(
    "no-tables.jpg",
    "no quantisation tables",
    _whole[:2] + b"".join(_whole[s:e] for m, s, e in segments(_whole) if m != 0xDB) + _whole[segments(_whole)[-1][2] :],
    REFUSAL,
)
section.refuses(
    "leading.jpg",
    "bytes before its beginning",
    b"\0\0\0junk" + _whole,
    "a JPEG begins only at byte 7; take away what stands before it",
)
section.refuses("start-only.jpg", "its first three bytes alone", b"\xff\xd8\xff", REFUSAL)
section.refuses("start-zeros.jpg", "its first three bytes, then zeros", b"\xff\xd8\xff" + bytes(5000), REFUSAL)
section.refuses("text-mode.jpg", "carried over as text: every LF made CRLF", _whole.replace(b"\n", b"\r\n"), REFUSAL)
section.refuses("utf-8.jpg", "read and written again as UTF-8 text", _whole.decode("latin-1").encode(), "not an image")

_COARSE = encoded(tiles(), "JPEG", progressive=True)
_SCANS = [m.start() for m in re.finditer(b"\xff\xda", _COARSE)]
for _k in (1, len(_SCANS) // 2, len(_SCANS) - 1):
    section.refuses(
        f"scans-{_k}.jpg", f"progressive, cut cleanly after its scan {_k} of {len(_SCANS)}",
        _COARSE[: _SCANS[_k]] + b"\xff\xd9", "without its last scans",
    )  # fmt: skip
_SOUND = encoded(noise(96, 128), "JPEG", quality=90)
_INSIDE = scan_bytes(_SOUND)[0] + 60
section.refuses(
    "marker-inside.jpg",
    "a byte of its data turned into a marker",
    _SOUND[:_INSIDE] + b"\xff\xde" + _SOUND[_INSIDE + 2 :],
    "damaged or cut short",
)
section.refuses(
    "start-inside.jpg",
    "a start marker amid its data",
    _SOUND[:_INSIDE] + b"\xff\xd8" + _SOUND[_INSIDE:],
    "damaged or cut short",
)
_PATCHES = noise(12, 16).repeat(16, axis=0).repeat(16, axis=1)
for _name, _what, _whole in (
    ("restart-", ", with restart markers", encoded(noise(96, 128), "JPEG", quality=90, restart_marker_rows=1)),
    ("optimized-", ", with Huffman tables of its own", encoded(_PATCHES, "JPEG", quality=90, optimize=True)),
    ("arithmetic-", ", arithmetic coding", base64.b64decode(KEPT["arithmetic.jpg"][1])),
):
    _start, _stop = scan_bytes(_whole)
    _middle = (_start + _stop) // 2
    section.refuses(
        f"{_name}zero-tail.jpg", f"all after its middle zeros, but for its end marker{_what}",
        _whole[:_middle] + bytes(_stop - _middle) + _whole[_stop:], REFUSAL,
    )  # fmt: skip
