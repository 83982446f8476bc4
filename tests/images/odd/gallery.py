"""Every specimen, in the page's order."""

from __future__ import annotations

from odd import bitmaps, damaged, jpegs, moving, no_pictures, pngs, tiffs
from odd.specimen import Specimen

SPECIMENS: list[Specimen] = [
    specimen
    for module in (jpegs, damaged, pngs, tiffs, moving, bitmaps, no_pictures)
    for specimen in module.section.specimens
]
