from pathlib import Path

import numpy as np
import pytest

from holdfast.data import Collection, read_csv
from holdfast.data.files import FilePictures
from holdfast.data.tables.csv_table import TableProblems, files_and_sets
from holdfast.data.tables.table import read_rows
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
            f"Reading {picture_folder / 'table.csv'}: 2 problems in its 5 rows:\n"
            f"  line 5: {picture_folder / 'red/99.jpg'} is not there\n"
            f"  line 6: {picture_folder / 'gone.jpg'} is not there\n"
            "Mend them and try again."
        )

    def test_reading_fails_with_a_way_out_when_no_file_is_there(self, picture_folder: Path) -> None:
        """Names that begin in another folder are told by none of them being found, and the flag is named."""
        message = problem(picture_folder, "file,label\nelsewhere/1.jpg,a\nelsewhere/2.jpg,b\n")
        assert "2 problems in its 2 rows" in message
        assert message.endswith(f"File names are relative to {picture_folder}; say with --image-dir where they begin.")

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

    def test_reading_fails_when_rows_contradict_each_other(self, picture_folder: Path) -> None:
        """One file in two classes, or in two sets, names both rows, however the file's name is written."""
        message = problem(picture_folder, PLAIN + "./red/../blue/0.jpg,warm\n")
        assert "line 5: blue/0.jpg is 'warm' here and 'cold' in line 2" in message
        message = problem(picture_folder, "file,label,set\nblue/0.jpg,a,train\nred/1.jpg,b,val\nblue/0.jpg,a,test\n")
        assert "line 4: blue/0.jpg is in test here and in train in line 2" in message

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            (
                ("Cat", "cat", "dog"),
                "labels 'Cat' (1×, first in line 2), 'cat' (1×, first in line 3) differ in case or",
            ),
            (("red  panda", "red panda", "dog"), "differ in case or spaces only"),
            (("Bär", "Ba\u0308r", "dog"), "differ in case or spaces only"),
            (
                ("1", "1.0", "2"),
                "labels '1' (1×, first in line 2), '1.0' (1×, first in line 3) differ in the form of a",
            ),
            (("01", "2", "1"), "labels '01' (1×, first in line 2), '1' (1×, first in line 4) differ in the form of a"),
        ],
    )
    def test_reading_fails_when_labels_differ_in_writing_only(
        self, picture_folder: Path, labels: tuple[str, str, str], words: str
    ) -> None:
        """Two spellings are not two classes, unless the list of classes says that they are."""
        text = "file,label\n" + "".join(f"red/{k}.jpg,{label}\n" for k, label in enumerate(labels))
        assert words in problem(picture_folder, text)
        assert summary(read(picture_folder, text, classes=labels))[1:] == ([0, 1, 2], list(labels))

    def test_reading_fails_with_everything_that_is_wrong_at_once(self, picture_folder: Path) -> None:
        """The first ten problems in the order of lines, and a count of the rest; a shifted row is told once."""
        bad = ["http://x.org/a.jpg,warm", "../b.jpg,cold", "red,warm", "red, a.jpg,warm", "red/1.jpg,"]
        message = problem(picture_folder, PLAIN + "\n".join(bad + [f"gone/{k}.jpg,warm" for k in range(8)]))
        assert message.split("\n") == [
            f"Reading {picture_folder / 'table.csv'}: 13 problems in its 16 rows:",
            "  line 5: http://x.org/a.jpg is an address; nothing is downloaded. Fetch it and name the file",
            f"  line 6: ../b.jpg leads out of {picture_folder}; give an image directory that holds all pictures",
            f"  line 7: {picture_folder / 'red'} is a folder, not a picture",
            "  line 8: 3 cells, and the header names 2 columns; quote a cell that holds ','",
            "  line 9: no label for 'red/1.jpg' in column 'label'",
            *(f"  line {10 + k}: {picture_folder / f'gone/{k}.jpg'} is not there" for k in range(5)),
            "  … and 3 more",
            "Mend them and try again.",
        ]

    def test_a_label_that_is_not_listed_names_the_one_that_is_near(self, picture_folder: Path) -> None:
        """With a list of classes, another spelling is told with the listed one."""
        message = problem(picture_folder, PLAIN + "red/2.jpg,WARM\n", classes=["cold", "warm"])
        assert "line 5: label 'WARM' is not in the list of classes; 'warm' is" in message


@pytest.mark.row("D2")
class TestNotices:
    """What is understood although it is not as one would write it, and said."""

    def test_repeated_rows_are_left_out(self, picture_folder: Path) -> None:
        """The same file with the same label is one picture; columns of the collection have its row alone."""
        collection = read(picture_folder, PLAIN + "blue/0.jpg,cold\nblue//2.jpg,cold\n")
        assert summary(collection) == EXPECTED
        assert collection.notices == ["2 rows repeat another and are left out (blue/0.jpg, lines 2 and 5 …)"]
        assert collection.columns["file"] == EXPECTED[0]

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("blue\\0.jpg", "1 file name is written with \\ (blue\\0.jpg → blue/0.jpg)"),
            ("blue/0", "1 file name has no suffix (blue/0 → blue/0.jpg)"),
            ("Blue/0.JPG", "1 file name differs from the files' in case or form (Blue/0.JPG → blue/0.jpg)"),
            ("BLUE\\0", "1 file name has no suffix (BLUE\\0 → blue/0.jpg)"),
        ],
    )
    def test_names_that_can_mean_one_file_only_are_taken_for_it(
        self, picture_folder: Path, name: str, words: str
    ) -> None:
        """Windows' paths, names without suffix and in another case are found, counted, and the first is shown."""
        collection = read(picture_folder, PLAIN.replace("blue/0.jpg", name))
        assert summary(collection) == EXPECTED
        assert collection.notices == [words]

    def test_a_name_that_could_mean_two_files_is_a_problem(self, picture_folder: Path) -> None:
        """Neither is taken by guess."""
        (picture_folder / "blue/0.png").write_bytes(b"")
        (picture_folder / "blue/A.jpg").write_bytes(b"")
        (picture_folder / "blue/a.JPG").write_bytes(b"")
        message = problem(picture_folder, "file,label\nblue/0,a\nblue/a.jpg,b\n")
        assert "line 2: blue/0 could be blue/0.jpg or blue/0.png; write which" in message
        assert "line 3: blue/a.jpg could be blue/A.jpg or blue/a.JPG; write which" in message

    def test_absolute_paths_may_lie_anywhere_and_that_is_said(self, picture_folder: Path, tmp_path: Path) -> None:
        """Below the image directory they are like others; elsewhere they are counted; a missing one is a problem."""
        elsewhere = (tmp_path / "elsewhere.jpg").absolute()
        elsewhere.write_bytes((picture_folder / "red/1.jpg").read_bytes())
        text = PLAIN.replace("blue/0.jpg", str(picture_folder / "blue/0.jpg")) + f"{elsewhere},warm\n"
        collection = read(picture_folder, text)
        assert summary(collection)[0] == [*EXPECTED[0], str(elsewhere)]
        assert collection.notices == [
            f"1 picture lies outside the image directory {picture_folder}, named by absolute paths ({elsewhere})"
        ]
        assert collection.pictures.read(3).shape == (3, 24, 32)
        assert "/none.jpg is not there" in problem(picture_folder, PLAIN + "/none.jpg,warm\n")

    def test_a_name_may_hold_anything_that_a_file_name_may(self, picture_folder: Path) -> None:
        """Commas, quotes, line ends, spaces at the end, emoji: quoted as CSV quotes, the file is found."""
        names = ["a, b.jpg", 'say "x".jpg', "two\nlines.jpg", "end .jpg ", "🐝.jpg", "back\\slash.jpg"]
        for name in names:
            (picture_folder / name).write_bytes((picture_folder / "red/1.jpg").read_bytes())
        text = "file,label\n" + "".join(f'"{n.replace(chr(34), chr(34) * 2)}",{k % 2}\n' for k, n in enumerate(names))
        assert summary(read(picture_folder, text))[0] == names

    def test_a_missing_name_with_a_line_break_is_told_in_one_line(self, picture_folder: Path) -> None:
        """Each problem is one line, whatever the name holds."""
        table = picture_folder / "broken.csv"
        table.write_text('path,label\n"no\nwhere.png",a\n', encoding="utf-8")
        with pytest.raises(TableProblems) as caught:
            read_csv(table)
        (problem,) = caught.value.problems
        assert problem.endswith(r"no\nwhere.png is not there") and problem.isprintable()

    def test_a_column_named_fold_or_set_may_hold_something_else(self, picture_folder: Path) -> None:
        """Numbers of folds divide nothing, and that is said; a column of sets beside it does."""
        collection = read(picture_folder, "file,label,fold,split\nblue/0.jpg,a,1,train\nred/1.jpg,b,2,val\n")
        assert list(collection.sets) == ["train", "val"]
        collection = read(picture_folder, "file,label,fold\nblue/0.jpg,a,1\nred/1.jpg,b,2\n")
        assert (collection.sets, collection.columns["fold"]) == ({}, ["1", "2"])
        assert collection.notices == ["column 'fold' holds no train, val or test, so it divides nothing"]

    def test_labels_that_stand_for_nothing_are_said(self, picture_folder: Path) -> None:
        """`nan` may be a class; more often it is a label that is missing."""
        [notice] = read(picture_folder, PLAIN + "red/2.jpg,nan\n").notices
        assert notice.startswith("label 'nan' (1 row) is taken for a class name; if it means that the label is missing")

    def test_single_letters_are_classes_in_both_cases(self, picture_folder: Path) -> None:
        """`a` and `A` are two classes of handwriting."""
        assert summary(read(picture_folder, "file,label\nred/1.jpg,a\nred/2.jpg,A\n"))[2] == ["A", "a"]


def test_files_and_sets_know_nothing_of_labels(picture_folder: Path) -> None:
    """Every row is a picture: a file named twice is a problem, and no column of labels is looked for."""
    (picture_folder / "t.csv").write_text("image,x,set\nblue/0.jpg,1,train\nred/1.jpg,2,val\nblue/0.jpg,1,train\n")
    files = files_and_sets(read_rows(picture_folder / "t.csv"))
    assert (files.root, files.paths) == (picture_folder, ["blue/0.jpg", "red/1.jpg", "blue/0.jpg"])
    assert {name: rows.tolist() for name, rows in files.sets.items()} == {"train": [0, 2], "val": [1]}
    assert files.problems == ["line 4: blue/0.jpg stands in line 2 already"]


def test_the_real_faces_table_names_its_pictures(real_data: Path) -> None:
    """The 69 faces of the landmarks tutorial are found, though nothing in the table is a label."""
    files = files_and_sets(read_rows(real_data / "faces" / "face_landmarks.csv"))
    assert (len(files.paths), files.problems, files.notices) == (69, [], [])
    assert all((files.root / path).is_file() for path in files.paths)


def test_pictures_of_a_table_keep_their_columns(picture_folder: Path) -> None:
    """Every column is at hand by its name, one cell a picture: for groups, and for targets of another kind."""
    collection = read(picture_folder, "file,label,patient\nblue/0.jpg,a, p1 \nred/1.jpg,b,p2\n")
    assert isinstance(collection.pictures, FilePictures)
    assert collection.columns == {"file": ["blue/0.jpg", "red/1.jpg"], "label": ["a", "b"], "patient": ["p1", "p2"]}
