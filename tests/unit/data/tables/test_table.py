from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.data.tables.table import Table, read_rows
from holdfast.errors import DataError

PLAIN = "file,label\na.jpg,cat\nb.jpg,dog\n"
CELLS = [["a.jpg", "cat"], ["b.jpg", "dog"]]


def table_of(folder: Path, data: str | bytes) -> Table:
    """The table that these bytes are."""
    path = folder / "table.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_rows(path)


def problem(folder: Path, data: str | bytes) -> str:
    """The message with which reading fails."""
    with pytest.raises(DataError) as caught:
        table_of(folder, data)
    return str(caught.value)


_words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(",;\t|\"'\n\r ü"), max_size=6
)


@given(
    rows=st.lists(st.tuples(_words, _words, _words), min_size=1, max_size=8),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
def test_what_a_csv_writer_wrote_is_read_again(
    tmp_path: Path, rows: list[tuple[str, ...]], separator: str, end: str, encoding: str
) -> None:
    """Whatever the cells hold, under every separator, line end and encoding: the rows that are not blank come back."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["file", "label", "note"])
    writer.writerows(rows)
    table = table_of_or_none(tmp_path, text.getvalue().encode(encoding))
    kept = [list(row) for row in rows if any(cell.strip().strip("\ufeff\u200b\u200e\u200f").strip() for cell in row)]
    assert (table is None) == (not kept)
    if table is not None:
        assert table.header == ["file", "label", "note"]
        assert [row.cells for row in table.rows] == kept
        assert table.problems == []


def table_of_or_none(folder: Path, data: bytes) -> Table | None:
    """The table, or None when it has no rows."""
    try:
        return table_of(folder, data)
    except DataError as error:
        assert "no rows below the header" in str(error)  # noqa: PT017  # any other error is a failure
        return None


class TestEncoding:
    """Which characters the bytes are."""

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    def test_encodings_that_say_what_they_are_need_no_notice(self, tmp_path: Path, encoding: str) -> None:
        """UTF-8, and UTF-16 and UTF-32 with their marks, read alike; the mark is no part of the first name."""
        table = table_of(tmp_path, PLAIN.replace("cat", "Bär").encode(encoding))
        assert table.header == ["file", "label"]
        assert [row.cells for row in table.rows] == [["a.jpg", "Bär"], ["b.jpg", "dog"]]
        assert table.notices == []

    def test_latin_1_is_read_and_said(self, tmp_path: Path) -> None:
        """Bytes that are not UTF-8 are taken for Windows-1252, and the first such line is shown to be judged."""
        table = table_of(tmp_path, PLAIN.replace("dog", "Bär").encode("latin-1"))
        assert table.rows[1].cells == ["b.jpg", "Bär"]
        [notice] = table.notices
        assert notice.startswith("table.csv is not UTF-8; read as Windows-1252 (Latin-1): line 3 is 'b.jpg,Bär'. ")

    def test_reading_fails_when_no_encoding_fits(self, tmp_path: Path) -> None:
        """A byte that neither UTF-8 nor Windows-1252 has is named with its line."""
        message = problem(tmp_path, b"file,label\na.jpg,c\x81t\n")
        assert "byte 0x81 in line 2 is neither UTF-8 nor Windows-1252. Expected a CSV in UTF-8" in message

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (PLAIN.encode("utf-16-le"), "it is UTF-16 without a byte order mark; save it as UTF-8"),
            (PLAIN.encode("utf-16-be"), "it is UTF-16 without a byte order mark; save it as UTF-8"),
            (b"PK\x03\x04\x14\x00", "it is a spreadsheet or another zip archive; save it as CSV"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "it is an old Excel file; save it as CSV"),
            (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "it is not text in utf-8"),
            (b"\xff\xfea\x00\xff", "it is not text in utf-16"),
            (b"file,label\n\x01,\x02\n", "it is not text in utf-8"),
        ],
    )
    def test_reading_fails_when_it_is_no_text(self, tmp_path: Path, data: bytes, words: str) -> None:
        """What the file is instead is said where its first bytes tell."""
        assert f"{words}. Expected a CSV in UTF-8 with a header line." in problem(tmp_path, data)


class TestSeparator:
    """Which character separates the cells."""

    def test_commas_in_cells_do_not_make_it_a_comma(self, tmp_path: Path) -> None:
        """Under the semicolon every row is as long as the header; under the comma the header is one cell."""
        table = table_of(tmp_path, "file;label\na,1.jpg;red, blue\nb,1.jpg;1,5\n")
        assert [row.cells for row in table.rows] == [["a,1.jpg", "red, blue"], ["b,1.jpg", "1,5"]]

    def test_a_separator_in_the_header_s_text_does_not_win(self, tmp_path: Path) -> None:
        """The bar splits the header alone, so the rows speak for the tab."""
        table = table_of(tmp_path, "file\tlabel (a|b)\nx.jpg\ta\ny.jpg\tb\n")
        assert table.header == ["file", "label (a|b)"]

    def test_excel_s_line_decides(self, tmp_path: Path) -> None:
        """`sep=;` before the header is taken at its word, and lines are counted as an editor counts them."""
        table = table_of(tmp_path, "sep=;\r\nfile;label\r\na.jpg;cat\r\n")
        assert (table.header, table.rows[0]) == (["file", "label"], (3, ["a.jpg", "cat"]))


class TestRows:
    """Where a row begins and ends."""

    def test_a_quoted_cell_may_hold_lines(self, tmp_path: Path) -> None:
        """A row is named by the line that it begins in, and the next by its own."""
        table = table_of(tmp_path, 'file,label\n"a\nb.jpg",cat\nc.jpg,dog\n')
        assert table.rows == [(2, ["a\nb.jpg", "cat"]), (4, ["c.jpg", "dog"])]

    @pytest.mark.parametrize("end", ["\r\n", "\r"])
    def test_other_line_ends_change_nothing(self, tmp_path: Path, end: str) -> None:
        """DOS and old Mac tables read like others."""
        assert [row.cells for row in table_of(tmp_path, PLAIN.replace("\n", end)).rows] == CELLS

    def test_blank_rows_and_empty_ends_are_left_out(self, tmp_path: Path) -> None:
        """Empty lines, rows of separators, and the empty columns that spreadsheets add mean nothing."""
        table = table_of(tmp_path, "\n\nfile,label,,\n\na.jpg,cat,,\n,,,\n  \nb.jpg,dog\n\n")
        assert table.header == ["file", "label"]
        assert table.rows == [(5, CELLS[0]), (8, CELLS[1])]
        assert table.problems == []

    def test_a_row_with_more_cells_than_the_header_is_a_problem(self, tmp_path: Path) -> None:
        """A comma in an unquoted name moves every cell after it; a row that is short is filled up."""
        table = table_of(tmp_path, PLAIN + "c, d.jpg,cat\ne.jpg\n")
        assert table.problems == [
            "line 4: 3 cells, and the header names 2 columns; quote a cell that holds ','",
        ]
        assert table.rows[3] == (5, ["e.jpg", ""])

    def test_reading_fails_when_a_quote_stays_open(self, tmp_path: Path) -> None:
        """Else the rest of the table would vanish in one cell; the line where it opens is named."""
        assert "a quote that opens in line 3 is never closed" in problem(tmp_path, 'file,label\na,b\n"c,d\ne,f\n')
        assert "A quote that is never closed reads so" in problem(tmp_path, 'file,label\n"' + "a,b\n" * 50_000)

    @pytest.mark.parametrize("text", ["", "\n\n", "file,label\n", "\ufefffile,label", "file,label\n,\n"])
    def test_reading_fails_when_there_are_no_rows(self, tmp_path: Path, text: str) -> None:
        """An empty table, one with a header only, and one of blank rows say so."""
        assert "no rows below the header. Expected one row a picture." in problem(tmp_path, text)


class TestColumns:
    """Which column is meant."""

    def test_every_column_comes_by_its_name(self, tmp_path: Path) -> None:
        """Cells are trimmed; of two columns of one name the first is taken, one without a name is left out."""
        table = table_of(tmp_path, "file,label,,label\n a.jpg , cat,x,y\n")
        assert table.columns() == {"file": ["a.jpg"], "label": ["cat"]}
        assert table.column(3) == ["y"]

    def test_finding_fails_when_two_columns_could_be_meant(self, tmp_path: Path) -> None:
        """Two columns `label`, in whatever case, are two meanings: neither is taken in silence."""
        table = table_of(tmp_path, "file,label,Label\na.jpg,cat,dog\n")
        with pytest.raises(DataError, match=r"has 2 columns 'label' \(columns 2, 3\), and which one holds the labels"):
            table.find(None, ["label"], "labels", "--label-column")
        assert table.find("Label", ["label"], "labels", "--label-column") == 2

    def test_finding_fails_when_the_header_is_missing(self, tmp_path: Path) -> None:
        """A first line that names a picture is a row, and the message says what to add."""
        table = table_of(tmp_path, "a.jpg,cat\nb.jpg,dog\n")
        with pytest.raises(DataError, match=r"begins with a row of data \(a.jpg, cat\) and has no header"):
            table.find(None, ["file"], "file names", "--file-column")
