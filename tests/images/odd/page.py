"""Writes docs/images.md from the gallery: what every odd image is, and what comes out."""

from __future__ import annotations

from pathlib import Path

from odd.gallery import SPECIMENS

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs/images.md"
HEAD = HERE / "images-head.md"


def render() -> str:
    """Returns the page."""
    page = HEAD.read_text(encoding="utf-8").replace("{count}", str(len(SPECIMENS)))
    for section in dict.fromkeys(s.section for s in SPECIMENS):
        page += f"\n## {section}\n\n| file | what it is | what comes out |\n|---|---|---|\n"
        for specimen in (s for s in SPECIMENS if s.section == section):
            refused = specimen.pixels is None
            outcome = (
                f"**refused**: {specimen.outcome.replace('|', ', or ').replace(chr(92), '')}"
                if refused
                else specimen.outcome
            )
            within = f" (within {specimen.tolerance} of 255)" if specimen.tolerance else ""
            page += f"| `{specimen.name}` | {specimen.what} | {outcome}{within} |\n"
    return page
