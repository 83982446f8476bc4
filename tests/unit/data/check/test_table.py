"""The report as text."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

from rich.console import Console

from holdfast.data.check import Report, check_data
from holdfast.data.check.table import print_report


def _text(report: Report) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, no_color=True, width=160, highlight=False))
    return stream.getvalue()


def test_the_summary_comes_first_then_errors_warnings_and_notes(faulty: ModuleType, tmp_path: Path) -> None:
    """The order in which a person wants to read it; the verdict comes last."""
    text = _text(check_data(str(faulty.make_faulty_folder(tmp_path))))
    places = [text.index(word) for word in ("95 pictures", "ants", "format", "✗ error", "! warning", "· note")]
    assert places == sorted(places)
    assert text.splitlines()[-1].endswith("9 errors, 4 warnings; not ready to train on")


def test_piped_text_has_no_colours_and_one_line_a_case(faulty: ModuleType, tmp_path: Path) -> None:
    """No escape codes, no frames, and a name with a line break stays on its line."""
    text = _text(check_data(str(faulty.make_faulty_folder(tmp_path))))
    assert "\x1b" not in text and "─" not in text
    assert "train/ants/" + faulty.EVIL.replace("\n", "\\n") + ": damaged" in text


def test_ten_cases_are_shown_and_the_rest_counted(faulty: ModuleType, tmp_path: Path) -> None:
    """Of fourteen empty files ten are named."""
    root = faulty.make_sound_folder(tmp_path)
    for number in range(14):
        (root / f"train/ants/empty{number}.jpg").write_bytes(b"")
    text = _text(check_data(str(root)))
    assert text.count("(0 bytes)") == 10 and "… and 4 more" in text


def test_of_many_classes_the_smallest_are_shown(faulty: ModuleType, tmp_path: Path) -> None:
    """Thirty classes: the table has the twenty smallest, and says so."""
    for k in range(30):
        (tmp_path / f"class{k:02}").mkdir()
        for number in range(1 + k % 3):
            (tmp_path / f"class{k:02}" / f"{number}.jpg").write_bytes(faulty.jpeg(10 * k + number, (32, 32)))
    text = _text(check_data(str(tmp_path), duplicates=False))
    assert "the 20 smallest" in text and "… and 10 more" in text
