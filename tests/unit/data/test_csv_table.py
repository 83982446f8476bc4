from pathlib import Path

import numpy as np
import pytest

from holdfast.data import Collection, read_csv
from holdfast.errors import DataError

PLAIN = "file,label\nblue/0.jpg,cold\nred/1.jpg,warm\nblue/2.jpg,cold\n"


def read(folder: Path, text: str | bytes, **options: object) -> Collection:
    """Reads a table of this text, beside the fixture's pictures."""
    table = folder / "table.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_csv(table, **options)


def problem(folder: Path, text: str | bytes, **options: object) -> str:
    """The message with which reading fails."""
    with pytest.raises(DataError) as caught:
        read(folder, text, **options)
    return str(caught.value)


def summary(collection: Collection) -> tuple[list[str], list[int], list[str]]:
    """Paths, labels and classes."""
    pictures = collection.pictures
    return [pictures.name(i) for i in range(len(pictures))], pictures.labels.tolist(), pictures.classes


EXPECTED = (["blue/0.jpg", "red/1.jpg", "blue/2.jpg"], [0, 1, 0], ["cold", "warm"])


@pytest.mark.row("D2")
class TestForms:
    """The tables that are understood."""

    def test_a_plain_table_is_read_in_its_own_order(self, picture_folder: Path) -> None:
        """File names are relative to the table, classes are in natural order, and pictures can be read."""
        collection = read(picture_folder, PLAIN)
        assert summary(collection) == EXPECTED
        assert collection.pictures.read(1).shape == (3, 24, 32)
        assert (collection.sets, collection.notices) == ({}, [])

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: "\ufeff" + text,
            lambda text: text.replace(",", ";"),
            lambda text: text.replace(",", "\t"),
            lambda text: text.replace("\n", "\r\n"),
            lambda text: text.replace(",", ", "),
            lambda text: text.replace(",", " , "),
            lambda text: text.replace("blue/0.jpg", '"blue/0.jpg"'),
            lambda text: text.rstrip("\n"),
            lambda text: text.replace("file,label", "File,LABEL"),
            lambda text: text.replace("file,label", "image_name,class"),
            lambda text: "".join("7," + line + ",x\n" for line in text.splitlines()),
        ],
        ids=["BOM", "semicolon", "tab", "CRLF", "space", "spaces", "quotes", "no end", "case", "names", "more columns"],
    )
    def test_every_usual_form_reads_alike(self, picture_folder: Path, change: object) -> None:
        """A byte order mark, other separators, line ends, spaces, quotes and column names change nothing."""
        assert summary(read(picture_folder, change(PLAIN))) == EXPECTED

    def test_pictures_may_lie_in_another_folder(self, picture_folder: Path, tmp_path: Path) -> None:
        """With image_dir the table may be anywhere."""
        (tmp_path / "tables").mkdir()
        collection = read(tmp_path / "tables", PLAIN, image_dir=picture_folder)
        assert summary(collection) == EXPECTED
        assert collection.pictures.read(0).shape == (3, 24, 32)

    def test_columns_may_be_named(self, picture_folder: Path) -> None:
        """A column asked for by name is taken, though a usual name stands beside it."""
        text = "where,file,kind,label\nblue/0.jpg,x,a,1\nred/1.jpg,y,b,1\n"
        collection = read(picture_folder, text, file_column="where", label_column="kind")
        assert summary(collection) == (["blue/0.jpg", "red/1.jpg"], [0, 1], ["a", "b"])

    def test_labels_may_be_numbers(self, picture_folder: Path) -> None:
        """Numbers are names: 2 comes before 10, and the mapping to indices is announced."""
        collection = read(picture_folder, "file,label\nblue/0.jpg,10\nred/1.jpg,2\n")
        assert summary(collection) == (["blue/0.jpg", "red/1.jpg"], [1, 0], ["2", "10"])
        assert collection.notices == ["labels are numbers; 2→0, 10→1"]

    @pytest.mark.parametrize("header", ["set", "split", "Subset"])
    def test_a_column_may_divide_the_data(self, picture_folder: Path, header: str) -> None:
        """train, val and test, by their usual names in any case, make the sets."""
        text = f"file,label,{header}\nblue/0.jpg,a,train\nred/1.jpg,b,Training\nred/2.jpg,b,valid\nred/3.jpg,a,TEST\n"
        sets = read(picture_folder, text).sets
        assert {name: members.tolist() for name, members in sets.items()} == {"train": [0, 1], "val": [2], "test": [3]}

    def test_a_class_list_decides_the_order(self, picture_folder: Path) -> None:
        """Labels are places in the list that was given."""
        assert summary(read(picture_folder, PLAIN, classes=["warm", "cold"]))[1:] == ([1, 0, 1], ["warm", "cold"])

    def test_a_target_transform_may_rename(self, picture_folder: Path) -> None:
        """The text it returns is the class name."""
        assert summary(read(picture_folder, PLAIN, target_transform=str.upper))[1:] == ([0, 1, 0], ["COLD", "WARM"])

    @pytest.mark.parametrize("kind", [int, np.int64])
    def test_a_target_transform_may_index_the_classes(self, picture_folder: Path, kind: type) -> None:
        """A whole number, Python's or NumPy's, is a place in the class list."""
        collection = read(
            picture_folder, PLAIN, classes=["x", "y"], target_transform=lambda label: kind(label == "cold")
        )
        assert summary(collection)[1:] == ([1, 0, 1], ["x", "y"])

    def test_a_target_transform_may_group_numbers(self, picture_folder: Path) -> None:
        """Without a class list the numbers it returns are names."""
        text = "file,label\nblue/0.jpg,7\nred/1.jpg,4\nred/2.jpg,5\n"
        collection = read(picture_folder, text, target_transform=lambda label: int(label) % 3)
        assert summary(collection)[1:] == ([0, 0, 1], ["1", "2"])

    def test_the_real_cifar_table_is_read(self, real_data: Path, tmp_path: Path) -> None:
        """The table of 12,000 CIFAR pictures, with its split column, gives 10 classes of 1,000 and 200."""
        lines = (real_data / "cifar10_subset" / "files.csv").read_text().splitlines()
        for line in lines[1:]:
            path = tmp_path / line.split(",")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        collection = read_csv(real_data / "cifar10_subset" / "files.csv", tmp_path)
        assert collection.pictures.classes[::9] == ["airplane", "truck"]
        counts = {n: np.bincount(collection.pictures.labels[m]).tolist() for n, m in collection.sets.items()}
        assert counts == {"train": [1000] * 10, "test": [200] * 10}


@pytest.mark.row("D2")
class TestProblems:
    """Tables that are refused, with everything that is wrong with them."""

    def test_reading_fails_when_files_are_missing_and_says_which(self, picture_folder: Path) -> None:
        """Every row that names a missing file is told, by line and path."""
        message = problem(picture_folder, PLAIN + "red/99.jpg,warm\ngone.jpg,cold\n")
        assert message == (
            f"Reading {picture_folder / 'table.csv'}: 2 of its 5 rows cannot be used:\n"
            f"  line 5: {picture_folder / 'red/99.jpg'} is not there\n"
            f"  line 6: {picture_folder / 'gone.jpg'} is not there\n"
            "Mend them and try again."
        )

    def test_reading_fails_when_labels_or_names_are_empty(self, picture_folder: Path) -> None:
        """An empty cell, one of blanks and one that is cut off are each told by line and column."""
        message = problem(picture_folder, "file,label\nblue/0.jpg,\nblue/1.jpg,  \n,warm\nred/1.jpg\n")
        assert "line 2: no label for 'blue/0.jpg' in column 'label'" in message
        assert "line 3: no label for 'blue/1.jpg' in column 'label'" in message
        assert "line 4: no file name in column 'file'" in message
        assert "line 5: no label for 'red/1.jpg' in column 'label'" in message

    def test_reading_fails_when_a_label_is_not_listed(self, picture_folder: Path) -> None:
        """The line and the label are named."""
        message = problem(picture_folder, PLAIN + "red/2.jpg,hot\n", classes=["cold", "warm"])
        assert "line 5: label 'hot' is not in the list of classes" in message

    def test_reading_fails_when_a_listed_class_has_no_row(self, picture_folder: Path) -> None:
        """A class that nothing can teach is named."""
        message = problem(picture_folder, PLAIN, classes=["cold", "hot", "warm"])
        assert "class 'hot' is listed but no row has it" in message

    def test_reading_fails_when_a_class_is_listed_twice(self, picture_folder: Path) -> None:
        """A doubled name would shift the indices after it."""
        assert "class 'cold' is listed twice" in problem(picture_folder, PLAIN, classes=["cold", "cold", "warm"])

    @pytest.mark.parametrize("value", [2, -1])
    def test_reading_fails_when_a_target_transform_points_outside_the_classes(
        self, picture_folder: Path, value: int
    ) -> None:
        """An index below zero or beyond the list is an error, not the last class."""
        message = problem(picture_folder, PLAIN, classes=["cold", "warm"], target_transform=lambda _: value)
        assert f"target_transform made {value}; expected 0 … 1" in message

    def test_reading_fails_when_a_set_is_unknown(self, picture_folder: Path) -> None:
        """The value, its line and its column are named."""
        message = problem(picture_folder, "file,label,split\nblue/0.jpg,a,train\nred/1.jpg,b,holdout\n")
        assert "line 3: 'holdout' in column 'split' is not train, val or test" in message

    def test_reading_fails_when_no_row_is_train(self, picture_folder: Path) -> None:
        """A table of test rows alone cannot be trained on."""
        message = problem(picture_folder, "file,label,set\nblue/0.jpg,a,test\nred/1.jpg,b,test\n")
        assert "column 'set' has no row with 'train'" in message

    def test_reading_fails_when_there_is_one_class_only(self, picture_folder: Path) -> None:
        """The one class is named."""
        message = problem(picture_folder, "file,label\nblue/0.jpg,a\nred/1.jpg,a\n")
        assert message.endswith("table.csv has one class only ('a'). A classifier needs two.")

    def test_reading_fails_when_no_column_is_recognised(self, picture_folder: Path) -> None:
        """The columns that there are, and the flag that names one, are shown."""
        message = problem(picture_folder, "x,label\nblue/0.jpg,a\n")
        assert message.endswith(
            "has no column for file names that we recognise. Its columns: x, label. Name one with --file-column."
        )
        assert "no column for labels that we recognise" in problem(picture_folder, "file,y0\nblue/0.jpg,a\n")

    def test_reading_fails_when_a_named_column_is_missing(self, picture_folder: Path) -> None:
        """The columns that there are are listed."""
        message = problem(picture_folder, PLAIN, label_column="kind")
        assert message.endswith("has no column 'kind'. Its columns: file, label.")

    @pytest.mark.parametrize("text", ["", "file,label\n", "\ufefffile,label"])
    def test_reading_fails_when_there_are_no_rows(self, picture_folder: Path, text: str) -> None:
        """An empty table, and one with a header only, say so."""
        assert "no rows below the header" in problem(picture_folder, text)

    def test_reading_fails_when_it_is_not_text(self, picture_folder: Path) -> None:
        """A spreadsheet or a picture with the wrong ending is named."""
        message = problem(picture_folder, (picture_folder / "red" / "0.jpg").read_bytes())
        assert "Expected a CSV in UTF-8 with a header line." in message
        assert str(picture_folder / "table.csv") in message

    def test_reading_fails_when_the_image_directory_is_not_there(self, picture_folder: Path) -> None:
        """The directory and the flag that gives it are named."""
        message = problem(picture_folder, PLAIN, image_dir=picture_folder / "gone")
        assert (
            f"The image directory {picture_folder / 'gone'} of {picture_folder / 'table.csv'} is not there" in message
        )

    def test_reading_fails_when_the_table_is_not_there(self, tmp_path: Path) -> None:
        """The path is named."""
        with pytest.raises(DataError, match=r"Reading .*none\.csv: .*No such file"):
            read_csv(tmp_path / "none.csv")
