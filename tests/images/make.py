"""Writes docs/images.md anew; with a folder, writes every image into it too: `python tests/images/make.py [FOLDER]`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from odd.gallery import SPECIMENS
from odd.page import PAGE, render


def main(folder: str | None = None) -> None:
    """Writes the page, and the images where a folder is named."""
    PAGE.write_text(render(), encoding="utf-8")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for specimen in SPECIMENS:
            if not specimen.needs or importlib.util.find_spec(specimen.needs) is not None:
                (Path(folder) / specimen.name).write_bytes(specimen.data())


if __name__ == "__main__":
    main(*sys.argv[1:2])
