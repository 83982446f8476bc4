"""Words and columns for a terminal: sizes, names that fit, and nothing that a file could make the terminal do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def printable(text: str) -> str:
    """Returns text on one line, with control characters as escapes: a name in a file may hold a terminal's commands."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def shortened(text: str, width: int | None) -> str:
    """Returns text of at most `width` columns, the middle left out: the last words of a name tell it from others.

    Words between dots are left out whole where the last one fits.
    """
    if width is None or len(text) <= width:
        return text
    if "." in text and (kept := _whole_words(text.split("."), width)):
        return kept
    tail = max(1, (2 * width) // 3)
    return f"{text[: max(0, width - tail - 1)]}…{text[-tail:]}" if width > 1 else "…"[:width]


def _whole_words(words: list[str], width: int) -> str:
    """Returns as many of the last words as fit, the first before them if it fits too; nothing when none does."""
    for number in range(len(words) - 2, 0, -1):
        for front in (f"{words[0]}.…", "…"):
            made = f"{front}.{'.'.join(words[-number:])}"
            if len(made) <= width:
                return made if len(made) > width // 2 else ""  # a long word would take too much with it
    return ""


def cut(text: str, width: int | None) -> str:
    """Returns text of at most `width` columns, the end left out."""
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 1)]}…"


def size_text(num_bytes: float) -> str:
    """Returns a size as people write it: 116 bytes, 44.7 MB, 2.15 GB (powers of 1,000)."""
    if num_bytes < 1000:
        return f"{int(num_bytes)} bytes"
    for unit in ("KB", "MB"):
        num_bytes /= 1000
        if num_bytes < 999.95:
            return f"{num_bytes:,.1f} {unit}"
    return f"{num_bytes / 1000:,.2f} GB"


def aligned(rows: Iterable[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Returns rows of cells as lines, each column as wide as its widest cell, two spaces between.

    Args:
        rows: of the same number of cells each; a row may end early, and its last cell then widens nothing.
        right: for each column, whether it is aligned to the right.
    """
    rows = list(rows)
    full = len(right)
    widths = [max((len(row[i]) for row in rows if len(row) > min(i + 1, full - 1)), default=0) for i in range(full)]
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=False)]
        lines.append("  ".join(cells).rstrip())
    return lines
