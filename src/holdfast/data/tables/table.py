"""The rows of a CSV as text: which bytes are which characters, which character separates, where a row begins.

It knows nothing of pictures and labels; what a row means is said by `csv_table` and others.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from holdfast.data.files import is_image_name
from holdfast.errors import DataError
from holdfast.words import count

_SEPARATORS = ",;\t|"
_MEASURED_ROWS = 200
_BYTE_ORDER_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's, so it goes first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # what Excel writes, and reads, before the header
_INVISIBLE = "\ufeff\u200b\u200e\u200f"  # a second BOM, zero-width space, direction marks: no part of a word
_EXPECTED = "Expected a CSV in UTF-8 with a header line."


class Row(NamedTuple):
    """One row: the line of the file that it begins in, counted from 1, and one cell a column, as written."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """What a CSV holds.

    Attributes:
        path: the file.
        header: C column names, trimmed, as written otherwise; a name may be empty or stand twice.
        rows: each with C cells; blank rows are left out, and what a short row lacks is "".
        notices: what a user should know and would not guess, one line each.
        problems: rows that cannot be meant, one line each, beginning with `line N:`. Whoever uses the rows raises.
    """

    path: Path
    header: list[str]
    rows: list[Row]
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def find(self, asked: str | None, usual: Sequence[str], what: str, flag: str) -> int:
        """Returns the place of a column in `header`, counted from 0.

        Args:
            asked: its exact name; None to take the first of `usual` (lower-case names) that is there in any case.
            what: what the column holds, for the message: "file names".
            flag: how a user names the column: "--file-column".

        Raises:
            DataError: there is no such column, or more than one.
        """
        places = self._places([asked], exact=True) if asked is not None else self._places(usual, exact=False)
        if len(places) == 1:
            return places[0]
        if places:
            raise DataError(
                f"{self.path} has {len(places)} columns {self.header[places[0]]!r} (columns "
                f"{', '.join(str(p + 1) for p in places)}), and which one holds the {what} cannot be told. Rename one."
            )
        columns = ", ".join(name or "(no name)" for name in self.header)
        if asked is not None:
            raise DataError(f"{self.path} has no column {asked!r}. Its columns: {columns}.")
        if any(is_image_name(name) for name in self.header):
            raise DataError(
                f"{self.path} begins with a row of data ({columns}) and has no header. Add a first line that names "
                "the columns, such as `file,label`."
            )
        raise DataError(
            f"{self.path} has no column for {what} that we recognise. Its columns: {columns}. Name one with {flag}."
        )

    def column(self, place: int) -> list[str]:
        """Returns the trimmed cells of a column, one a row."""
        return [trim(row.cells[place]) for row in self.rows]

    def columns(self) -> dict[str, list[str]]:
        """Returns every column by its name; of two columns of one name, the first."""
        return {name: self.column(place) for place, name in reversed(list(enumerate(self.header))) if name}

    def _places(self, names: Sequence[str | None], *, exact: bool) -> list[int]:
        header = self.header if exact else [name.lower() for name in self.header]
        for name in names:
            if places := [place for place, column in enumerate(header) if column == name]:
                return places
        return []


def trim(cell: str) -> str:
    """Returns the cell without white space and invisible marks around it."""
    return cell.strip().strip(_INVISIBLE).strip()


def read_rows(path: Path) -> Table:
    """Reads a CSV: UTF-8, UTF-16 or UTF-32 with a byte order mark, or Windows-1252 (and so Latin-1) with a notice.

    Separators are `,` `;` tab or `|`: the one under which most rows have as many cells as the header. Cells may be
    quoted with `"` and then hold separators and line ends.

    Raises:
        DataError: it cannot be read, is not text, has no rows, or a quote is never closed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"Reading {path}: {error}. {_EXPECTED}") from error
    notices: list[str] = []
    text = _decode(path, data, notices)
    first_line = 1
    if match := _SEPARATOR_LINE.match(text):
        text, first_line, separator = text[match.end() :], 2, match[1]
    else:
        separator = _separator(text)
    header: list[str] = []
    rows: list[Row] = []
    problems: list[str] = []
    for line, cells in _parse(path, text, separator, first_line):
        if not any(trim(cell) for cell in cells):
            continue
        if not header:
            header = _without_empty_end([trim(cell) for cell in cells])
            continue
        more = [cell for cell in cells[len(header) :] if trim(cell)]
        if more:
            problems.append(
                f"line {line}: {count(len(cells), 'cell')}, and the header names {count(len(header), 'column')}; "
                f"quote a cell that "
                f"holds {separator!r}"
            )
        rows.append(Row(line, cells[: len(header)] + [""] * (len(header) - len(cells))))
    if not rows:
        raise DataError(f"Reading {path}: no rows below the header. Expected one row a picture.")
    return Table(path, header, rows, notices, problems)


def _decode(path: Path, data: bytes, notices: list[str]) -> str:
    """Returns the text that the bytes are; says so when that was a guess."""
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8" or b"\0" in data:
            raise DataError(f"Reading {path}: {_not_text(data, encoding)}. {_EXPECTED}") from error
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as second:
            odd = f"byte 0x{data[second.start]:02x} in line {_line_of(data, second.start)} is"
            raise DataError(f"Reading {path}: {odd} neither UTF-8 nor Windows-1252. {_EXPECTED}") from error
        line = _line_of(data, error.start)
        shown = trim(text.split("\n")[line - 1])[:60]
        notices.append(
            f"{path.name} is not UTF-8; read as Windows-1252 (Latin-1): line {line} is {shown!r}. "
            "If that is not what it says, save it as UTF-8"
        )
    if _NO_TEXT.search(text):
        raise DataError(f"Reading {path}: {_not_text(data, encoding)}. {_EXPECTED}")
    return text


def _line_of(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _not_text(data: bytes, encoding: str) -> str:
    if data.startswith(b"PK\x03\x04"):
        return "it is a spreadsheet or another zip archive; save it as CSV"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return "it is an old Excel file; save it as CSV"
    if encoding == "utf-8" and b"" in (data[:400:2].strip(b"\0"), data[1:400:2].strip(b"\0")):
        return "it is UTF-16 without a byte order mark; save it as UTF-8"
    return f"it is not text in {encoding}"


def _separator(text: str) -> str:
    """Returns the separator under which the most rows have as many cells as the header, two or more.

    Ties go to the one that makes more columns, then to the order `,` `;` tab `|`.
    """
    best = (0.0, 0, ",")
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        try:
            widths = [len(_without_empty_end(cells)) for cells in islice((c for c in reader if c), _MEASURED_ROWS)]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        # A row may end early (its last cells are empty); it may not have more cells than the header.
        alike = sum(2 <= width <= widths[0] for width in widths) / len(widths)
        if (alike, widths[0]) > best[:2]:
            best = (alike, widths[0], separator)
    return best[2]


def _parse(path: Path, text: str, separator: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Yields each row's first line and its cells as written."""
    end = "\x00end of the table"  # what no text holds: it comes back alone unless a quote is open
    source = io.StringIO(text if text.endswith(("\n", "\r")) or not text else text + "\n", newline="")

    def lines() -> Iterator[str]:
        yield from source
        yield end

    reader = csv.reader(lines(), delimiter=separator, skipinitialspace=True)
    line = first_line
    try:
        for cells in reader:
            if cells == [end]:
                return
            if cells and end in cells[-1]:
                raise DataError(f"Reading {path}: a quote that opens in line {line} is never closed. Close it.")
            yield line, cells
            line = first_line + reader.line_num
    except csv.Error as error:
        raise DataError(
            f"Reading {path}: line {line}: {error}. A quote that is never closed reads so. {_EXPECTED}"
        ) from error


def _without_empty_end(cells: list[str]) -> list[str]:
    """Returns the cells up to the last that holds something: spreadsheets end rows with separators."""
    num = len(cells)
    while num and not trim(cells[num - 1]):
        num -= 1
    return cells[:num]
