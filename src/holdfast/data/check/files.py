"""What is wrong or unusual with single files: faults, names that lie, kinds that are rare in this collection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from holdfast.data.check.finding import Finding, Item, shown
from holdfast.data.check.layout import Layout
from holdfast.data.check.probe import Facts
from holdfast.words import count

RARE = 0.05  # of all pictures: below it, a mode is the exception and not the rule
SMALL_SIDE = 32  # pixels
LONG_RATIO = 4.0  # of the long side to the short one; a square crop sees less than a quarter of the picture

_FAULTS = {
    "unreadable": ("{} that cannot be read", "Make readable, or take away."),
    "empty": ("{} of zero bytes", "Fetch again, or take away."),
    "not-a-picture": ("{} that cannot be decoded as a picture", "Convert, or take away."),
    "damaged": ("{} damaged or cut short", "Fetch again, or leave out with train --on-bad-image skip."),
    "bomb": ("{} with more pixels than are decoded", "Make smaller."),
}
_KIND_OF_SUFFIX = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP",
    ".dib": "DIB", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM",
    ".pnm": "PPM", ".avif": "AVIF", ".jp2": "JPEG2000", ".tga": "TGA", ".heic": "HEIF", ".heif": "HEIF",
}  # fmt: skip
_SAME = {"DIB": "BMP"}  # what a program that writes one calls the other


def file_findings(layout: Layout, facts: Sequence[Facts]) -> list[Finding]:
    """Returns an error for every kind of fault, a warning for names that lie, and notes on what is unusual."""
    return [*_faults(layout, facts), *_wrong_names(layout, facts), *_unusual(layout, facts)]


def _faults(layout: Layout, facts: Sequence[Facts]) -> list[Finding]:
    items: dict[str, list[Item]] = defaultdict(list)
    for index, one in enumerate(facts):
        if one.fault:
            text = shown(one.problem or "")
            lie = _lie(layout.names[index], one.kind) if one.kind != "HEIF" else ""  # its own text says so
            items[one.fault].append(Item(text + (f"; named {lie}, it is {one.kind}" if lie else ""), (index,)))
    return [
        Finding("error", code, title.format(count(len(items[code]), "file")), advice, items[code])
        for code, (title, advice) in _FAULTS.items()
        if items[code]
    ]


def _wrong_names(layout: Layout, facts: Sequence[Facts]) -> list[Finding]:
    items = [
        Item(f"{shown(layout.names[i])}: named {lie}, it is {one.kind}", (i,))
        for i, one in enumerate(facts)
        if not one.fault and (lie := _lie(layout.names[i], one.kind))
    ]
    if not items:
        return []
    title = f"{count(len(items), 'picture')} named as another kind"
    return [
        Finding("warning", "wrong-type", title, "Read by the bytes all the same; rename for other programs.", items)
    ]


def _lie(name: str, kind: str) -> str:
    """Returns the suffix that says something else than the bytes, "" where they agree or nothing is said."""
    dot = name.rfind(".")
    suffix = name[dot:].lower() if dot >= 0 else ""
    said = _KIND_OF_SUFFIX.get(suffix)
    return suffix if said and kind and _SAME.get(said, said) != _SAME.get(kind, kind) else ""


def _unusual(layout: Layout, facts: Sequence[Facts]) -> list[Finding]:
    good = [i for i, one in enumerate(facts) if not one.fault and one.header.width]
    kinds: tuple[tuple[str, Callable[[Facts], str], str, str], ...] = (
        ("sideways", lambda f: f"orientation {f.header.orientation}" if f.header.orientation != 1 else "",
         "{} stored turned or mirrored (EXIF)", "Turned upright here; other programs may not."),
        ("cmyk", lambda f: f.header.mode if f.header.mode in ("CMYK", "YCCK") else "",
         "{} in CMYK", "Converted to RGB without a profile; colours may differ from print."),
        ("deep", lambda f: f"{f.header.bits} bits" if f.header.bits > 8 else "",
         "{} of more than 8 bits a sample", "Scaled to 8 bits, not clipped."),
        ("transparent", lambda f: f.header.mode if f.header.transparent else "",
         "{} with transparency", "Transparent pixels show white."),
        ("animated", lambda f: f.kind if f.header.animated else "",
         "{} with several frames or pages", "The first is taken."),
        ("profile", lambda f: f.kind if f.header.profile else "",
         "{} with a colour profile (ICC)", "Profiles are left alone: pixels are taken as sRGB."),
        ("small", lambda f: _size(f) if min(f.header.width, f.header.height) < SMALL_SIDE else "",
         f"{{}} with a side below {SMALL_SIDE} pixels", ""),
        ("long", lambda f: _size(f) if _ratio(f) > LONG_RATIO else "",
         f"{{}} more than {LONG_RATIO:.0f} times as long as wide", "A square crop shows a small part."),
    )  # fmt: skip
    findings = []
    for code, word, title, advice in kinds:
        items = [Item(f"{shown(layout.names[i])}: {text}", (i,)) for i in good if (text := word(facts[i]))]
        if items and not (code == "small" and len(items) > len(good) / 2):
            findings.append(Finding("note", code, title.format(count(len(items), "picture")), advice, items))
    return [*findings, *_rare_modes(layout, facts, good)]


def _rare_modes(layout: Layout, facts: Sequence[Facts], good: list[int]) -> list[Finding]:
    by_mode: dict[str, list[int]] = defaultdict(list)
    for i in good:
        by_mode[facts[i].header.mode].append(i)
    rare = [mode for mode, members in by_mode.items() if len(members) < RARE * len(good) and mode]
    items = [Item(f"{shown(layout.names[i])}: {mode}", (i,)) for mode in sorted(rare) for i in by_mode[mode]]
    if not items:
        return []
    title = f"{count(len(items), 'picture')} in a mode that is rare here ({', '.join(sorted(rare))})"
    return [Finding("note", "rare-mode", title, "A class whose pictures alone are grey is told by that.", items)]


def _size(one: Facts) -> str:
    return f"{one.header.width} × {one.header.height}"


def _ratio(one: Facts) -> float:
    short, long = sorted((one.header.width, one.header.height))
    return long / max(short, 1)
