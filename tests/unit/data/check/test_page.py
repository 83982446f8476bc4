"""The page: self-contained, escaped, with the pictures it speaks of."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from holdfast.data.check import check_data
from holdfast.data.check.page import refuse_to_overwrite, render_page, write_page
from holdfast.errors import ConfigError

_EMPTY = {"meta", "img", "br", "wbr"}


class _Strict(HTMLParser):
    """Collects tags, attributes and text, and holds every closing tag against the one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], attrs
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parsed(page: str) -> _Strict:
    parser = _Strict()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def test_the_page_is_well_formed_and_needs_nothing_else(faulty: ModuleType, tmp_path: Path) -> None:
    """Every tag is closed, there is no script, and every address is a picture in the page or a place on it."""
    page = _parsed(render_page(check_data(str(faulty.make_faulty_folder(tmp_path)))))
    assert "script" not in page.tags and "link" not in page.tags
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)


def test_names_are_shown_and_never_run(faulty: ModuleType, tmp_path: Path) -> None:
    """A file and a class named like a script, with quotes, a line break and an emoji, stand there as text."""
    root = faulty.make_faulty_folder(tmp_path)
    (root / "train/bees").rename(root / "train/<b>'\"&bees")
    (root / "val/bees").rename(root / "val/<b>'\"&bees")
    (root / "test/bees").rename(root / "test/<b>'\"&bees")
    text = "".join(_parsed(render_page(check_data(str(root)))).text)
    assert "train/ants/" + faulty.EVIL.replace("\n", "\\n") in text
    assert "<b>'\"&bees" in text


def test_copies_stand_side_by_side_with_label_and_set(faulty: ModuleType, tmp_path: Path) -> None:
    """A contradiction is one case of two pictures, each with its name and class."""
    page = render_page(check_data(str(faulty.make_faulty_folder(tmp_path))))
    (section,) = re.findall(r'<section class="finding error" id="duplicate-labels">.*?</section>', page, re.DOTALL)
    assert section.count("<figure") == 2 and section.count("<img") == 2
    assert re.findall(r'class="label">(\w+)<', section) == ["ants", "bees"]
    assert re.findall(r'class="name">([^<]+)<', section) == ["train/ants/1.jpg", "train/bees/liar.jpg"]


def test_sideways_pictures_are_shown_upright(faulty: ModuleType, tmp_path: Path) -> None:
    """The thumbnail of a picture that is stored 96 × 72 and turned is higher than wide."""
    page = render_page(check_data(str(faulty.make_faulty_folder(tmp_path))))
    (data,) = re.findall(r'id="sideways">.*?base64,([^"]+)"', page, re.DOTALL)
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        assert thumbnail.size == (72, 96)


def test_arrays_have_pictures_too() -> None:
    """The digits are drawn from memory, one a class."""
    assert render_page(check_data("digits")).count("data:image/jpeg") == 10


def test_many_cases_do_not_make_an_endless_page(faulty: ModuleType, tmp_path: Path) -> None:
    """Of forty equal pictures six are shown; of forty sideways ones, twenty-four, and all are listed."""
    root = faulty.make_sound_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 8
    for number in range(40):
        (root / f"train/ants/copy{number}.jpg").write_bytes(faulty.jpeg(900))
        faulty.picture(1000 + number).save(root / f"train/bees/turned{number}.jpg", exif=exif)
    page = render_page(check_data(str(root)))
    (copies,) = re.findall(r'id="duplicate-within-set">.*?</section>', page, re.DOTALL)
    (turned,) = re.findall(r'id="sideways">.*?</section>', page, re.DOTALL)
    assert copies.count("<img") == 6 and "and 34 more" in copies
    assert turned.count("<img") == 24 and turned.count("<li>") == 40


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The folder is not there: one line, not a traceback."""
    with pytest.raises(ConfigError, match=r"Writing .*nowhere/page\.html: there is no folder"):
        write_page(check_data("digits"), tmp_path / "nowhere/page.html")


def test_a_page_is_written_over_a_page_only(tmp_path: Path) -> None:
    """`--html data.csv` by mistake: the table stays as it was; an older page and an empty file are written over."""
    table, page = tmp_path / "data.csv", tmp_path / "page.html"
    table.write_text("file,label\n")
    page.write_text("<!DOCTYPE html><p>old")
    with pytest.raises(ConfigError, match="something else than a page is there"):
        refuse_to_overwrite(table)
    refuse_to_overwrite(page)
    page.write_bytes(b"")
    refuse_to_overwrite(page)
    refuse_to_overwrite(tmp_path / "new.html")
    with pytest.raises(ConfigError, match="it is not a file"):
        refuse_to_overwrite(tmp_path)
