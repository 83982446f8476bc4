import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.data import read_folder
from holdfast.data.check import check_files
from holdfast.data.division.index import (
    IndexRow,
    compare_with_index,
    format_index,
    make_index,
    read_index,
    refuse_changes,
    sets_from_index,
)
from holdfast.data.files import FilePictures
from holdfast.errors import DataError

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(',"\n\r\t;'), max_size=12)
rows_of_any_kind = st.lists(
    st.builds(
        IndexRow,
        text,
        text,
        st.sampled_from(["train", "val", "test", ""]),
        st.integers(-1, 2**40),
        st.text("0123456789abcdef", max_size=8),
        text,
        st.integers(0, 12),
    ),
    max_size=6,
)


@pytest.fixture
def pictures(picture_folder: Path) -> FilePictures:
    """The fixture's pictures."""
    found = read_folder(picture_folder).pictures
    assert isinstance(found, FilePictures)
    return found


@pytest.fixture
def rows(pictures: FilePictures) -> list[IndexRow]:
    """What they were when the run began."""
    return make_index(pictures, {"train": np.arange(20), "val": np.array([21, 22])}, check_files(pictures))


def test_each_picture_has_a_row(pictures: FilePictures, rows: list[IndexRow]) -> None:
    """Path, class, set, size and digest, in the order of the collection; a picture in no set has none."""
    assert len(rows) == 24
    assert [row.set_name for row in rows[18:]] == ["train", "train", "", "val", "val", ""]
    assert (rows[9].path, rows[9].label) == ("green/1.jpg", "green")
    assert rows[9].num_bytes == pictures.path(9).stat().st_size
    assert len(rows[9].digest) == 32


def test_unchecked_pictures_have_no_size_or_digest(pictures: FilePictures) -> None:
    """Without a check the size is -1 and the digest empty."""
    assert make_index(pictures, {})[0] == IndexRow("blue/0.jpg", "blue", "", -1, "")


def test_a_table_is_plain_csv() -> None:
    """A header, a row a picture, commas, and quotes only where a name needs them."""
    table = format_index([IndexRow("a/1.png", "a", "train", 12, "ff"), IndexRow('b/"x", y.png', "b", "val", -1, "")])
    assert table == 'path,label,set,group,bytes,digest\na/1.png,a,train,,12,ff\n"b/""x"", y.png",b,val,,-1,\n'


def test_a_table_has_folds_where_there_are_folds() -> None:
    """The column is there when one picture has a fold, and empty for a picture in none."""
    table = format_index([IndexRow("a", "x", "train", 1, "ff", "p1", 2), IndexRow("b", "y", "test", 1, "fe")])
    assert table == "path,label,set,fold,group,bytes,digest\na,x,train,2,p1,1,ff\nb,y,test,,,1,fe\n"


def test_a_table_of_before_there_were_groups_is_read(tmp_path: Path) -> None:
    """Runs that were begun then go on."""
    (tmp_path / "split.csv").write_text("path,label,set,bytes,digest\na/1.png,a,train,12,ff\n")
    assert read_index(tmp_path / "split.csv") == [IndexRow("a/1.png", "a", "train", 12, "ff", "", 0)]


@given(rows=rows_of_any_kind)
def test_a_table_survives_writing_and_reading(tmp_path_factory: pytest.TempPathFactory, rows: list[IndexRow]) -> None:
    """Whatever names hold (commas, quotes, line ends), the rows read are the rows written."""
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    path.write_bytes(format_index(rows).encode())
    assert read_index(path) == rows


def test_the_sets_are_read_back(rows: list[IndexRow]) -> None:
    """Indices of each set, as they were; a set without pictures is none."""
    sets = sets_from_index(rows)
    assert {name: members.tolist() for name, members in sets.items()} == {"train": list(range(20)), "val": [21, 22]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "its header is not ours"),
        ("path,label\na,b\n", "its header is not ours"),
        ("path,label,set,bytes,digest\na,b,train\n", "shorter than argument"),
        ("path,label,set,group,bytes,digest\na,b,train,,many,ff\n", "invalid literal for int"),
        ("path,label,set,bytes,digest\na,\xff,train,1,ff\n", "codec can't decode"),
    ],
)
def test_reading_fails_when_the_table_is_damaged(tmp_path: Path, table: str, message: str) -> None:
    """The file is named and must stay as it was."""
    path = tmp_path / "split.csv"
    path.write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_index(path)
    assert str(caught.value).startswith(f"Reading {path}: ")
    assert message in str(caught.value)


def test_reading_fails_when_the_table_is_gone(tmp_path: Path) -> None:
    """A deleted table is named."""
    with pytest.raises(DataError, match=r"Reading .*split\.csv: .*No such file"):
        read_index(tmp_path / "split.csv")


class TestChanges:
    """What happened to the data since."""

    def test_nothing_changed(self, pictures: FilePictures, rows: list[IndexRow]) -> None:
        """The same files, contents compared, give no change and no refusal."""
        assert compare_with_index(pictures, rows, since=0) == []
        refuse_changes("DATA", [])

    def test_every_kind_of_change_is_told_by_file(self, picture_folder: Path, rows: list[IndexRow]) -> None:
        """A file gone, a new one, a moved one, another size and other contents are each told."""
        (picture_folder / "blue" / "0.jpg").unlink()
        (picture_folder / "red" / "8.jpg").write_bytes((picture_folder / "red" / "7.jpg").read_bytes())
        (picture_folder / "green" / "0.jpg").rename(picture_folder / "blue" / "9.jpg")
        with (picture_folder / "red" / "1.jpg").open("ab") as file:
            file.write(b"\0")
        data = bytearray((picture_folder / "red" / "2.jpg").read_bytes())
        data[-10] ^= 1
        (picture_folder / "red" / "2.jpg").write_bytes(data)
        now = read_folder(picture_folder).pictures
        size = rows[17].num_bytes
        assert sorted(compare_with_index(now, rows, since=0)) == [
            "blue/0.jpg: gone",
            "blue/9.jpg: new",
            "green/0.jpg: gone",
            f"red/1.jpg: was {size:,} bytes and is {size + 1:,}",
            "red/2.jpg: other contents",
            "red/8.jpg: new",
        ]

    def test_another_label_is_told(self, pictures: FilePictures, rows: list[IndexRow]) -> None:
        """A file that a table now gives another class names both classes."""
        relabelled = FilePictures(
            pictures.root, pictures.paths, np.where(np.arange(24) == 5, 2, pictures.labels), pictures.classes
        )
        assert compare_with_index(relabelled, rows, since=0) == ["blue/5.jpg: its class was 'blue' and is 'red'"]

    def test_a_renumbered_class_is_no_change(self, pictures: FilePictures, rows: list[IndexRow]) -> None:
        """Names are compared, so another order of the class list is no relabelling."""
        renumbered = FilePictures(pictures.root, pictures.paths, 2 - pictures.labels, pictures.classes[::-1])
        assert compare_with_index(renumbered, rows, since=0) == []

    def test_contents_are_read_only_where_the_file_was_touched(
        self, picture_folder: Path, pictures: FilePictures, rows: list[IndexRow]
    ) -> None:
        """Either time of the file tells of a change: putting the time of change back hides nothing."""
        path = picture_folder / "red" / "2.jpg"
        since = time.time() - 1000
        data = bytearray(path.read_bytes())
        data[-10] ^= 1
        path.write_bytes(data)
        assert compare_with_index(pictures, rows, since) == ["red/2.jpg: other contents"]
        os.utime(path, (since - 5, since - 5))
        assert compare_with_index(pictures, rows, since) == ["red/2.jpg: other contents"]
        assert compare_with_index(pictures, rows, time.time() + 1000) == []

    def test_unchecked_rows_compare_names_only(self, picture_folder: Path, pictures: FilePictures) -> None:
        """A table without sizes and digests cannot tell contents apart."""
        rows = make_index(pictures, {})
        (picture_folder / "red" / "2.jpg").write_bytes(b"")
        assert compare_with_index(pictures, rows, since=0) == []

    def test_a_file_that_vanishes_meanwhile_is_told(
        self, picture_folder: Path, pictures: FilePictures, rows: list[IndexRow]
    ) -> None:
        """A file that is listed and cannot be read any more is named."""
        (picture_folder / "red" / "2.jpg").unlink()
        assert compare_with_index(pictures, rows, since=0) == ["red/2.jpg: cannot be read (No such file or directory)"]

    def test_changes_are_refused_with_the_first_ten(self) -> None:
        """The source, the number of changes, ten of them and the way out are shown."""
        with pytest.raises(DataError) as caught:
            refuse_changes("photos", [f"{i}.jpg: gone" for i in range(12)])
        message = str(caught.value)
        assert message.startswith("The data at photos is not what this run began with (12 changes):\n  0.jpg: gone\n")
        assert "  9.jpg: gone\n  … and 2 more\n" in message
        assert "--fork NEW" in message
