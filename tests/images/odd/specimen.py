"""What an entry of the gallery is, and the pictures that most of them are made from."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Specimen:
    """One file of the gallery.

    Attributes:
        section: the heading under which the page lists it.
        name: its file name, unique.
        what: what it is, for the page.
        data: makes the file's bytes.
        pixels: `[H, W, 3]` that must come out, or None when it must be refused.
        tolerance: levels of 255 by which each pixel may differ.
        margin: pixels along the edges of flat tiles of 16 × 16 that are not compared (JPEG blurs colours there).
        refusal: a regular expression that the message must contain.
        outcome: what comes out, for the page.
        needs: a module without which no decoder opens it.
    """

    section: str
    name: str
    what: str
    data: Callable[[], bytes]
    pixels: Pixels | None
    outcome: str
    tolerance: int = 0
    margin: int = 0
    refusal: str = ""
    needs: str = ""


class Section:
    """Collects the specimens under one heading."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.specimens: list[Specimen] = []

    def shows(
        self, name: str, what: str, data: Callable[[], bytes] | bytes, pixels: Pixels, outcome: str = "", **rest: Any
    ) -> None:
        """Adds a file that decodes to `pixels`, `[H, W]` or `[H, W, 3]`."""
        pixels = np.asarray(pixels)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        make = (lambda: data) if isinstance(data, bytes) else data
        self.specimens.append(Specimen(self.title, name, what, make, pixels, outcome or "as stored", **rest))

    def refuses(self, name: str, what: str, data: Callable[[], bytes] | bytes, refusal: str, **rest: Any) -> None:
        """Adds a file that is refused with these words."""
        make = (lambda: data) if isinstance(data, bytes) else data
        shown = refusal.replace("\\", "")
        self.specimens.append(Specimen(self.title, name, what, make, None, shown, refusal=refusal, **rest))


def noise(height: int = 7, width: int = 9, channels: int = 3, top: int = 256, seed: int = 0) -> Pixels:
    """Random values below `top`: `[H, W, C]`, or `[H, W]` for one channel; no two orientations alike."""
    kind = np.uint8 if top <= 256 else np.uint16
    values = np.random.default_rng(seed).integers(0, top, (height, width, channels)).astype(kind)
    return values[..., 0] if channels == 1 else values


TILE_COLOURS = ((230, 30, 40), (40, 200, 60), (50, 60, 220), (250, 250, 250), (20, 20, 20), (240, 220, 50))


def tiles(colours: tuple[tuple[int, ...], ...] = TILE_COLOURS) -> Pixels:
    """Six flat tiles of 16 × 16, three wide and two high: a JPEG keeps their middles."""
    grid = np.array(colours, dtype=np.uint8).reshape(2, 3, -1)
    return grid.repeat(16, axis=0).repeat(16, axis=1)


def encoded(pixels: Pixels | Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the bytes that Pillow writes."""
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def on_white(colour: Pixels, alpha: Pixels, top: int = 255) -> Pixels:
    """Returns `colour` laid on white, exactly, rounded to 0 … 255; both run from 0 to `top`."""
    share = alpha.astype(np.float64) / top
    share = share[..., None] if colour.ndim == 3 else share
    return np.rint(colour / top * share * 255 + 255 * (1 - share)).astype(np.int64)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Returns what must be seen when `pixels` are stored with this EXIF orientation, by the standard's own words."""
    # (where the stored row 0 is seen, where the stored column 0 is seen)
    return {
        1: pixels,  # top, left
        2: pixels[:, ::-1],  # top, right
        3: pixels[::-1, ::-1],  # bottom, right
        4: pixels[::-1],  # bottom, left
        5: pixels.swapaxes(0, 1),  # left, top
        6: pixels.swapaxes(0, 1)[:, ::-1],  # right, top
        7: pixels.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
        8: pixels.swapaxes(0, 1)[::-1],  # left, bottom
    }[orientation]


def exif(orientation: int) -> bytes:
    """Returns an EXIF block that states an orientation and nothing else."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()
