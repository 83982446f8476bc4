from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.data import Collection, read_csv, read_folder
from holdfast.data.division.index import format_index, make_index
from holdfast.data.division.split import complete_sets, divide_into_folds
from holdfast.data.division.split_file import read_split, with_split, write_split
from holdfast.errors import ConfigError, DataError


@pytest.fixture
def collection(picture_folder: Path) -> Collection:
    """The fixture's 24 pictures of three classes."""
    return read_folder(picture_folder)


def as_lists(collection: Collection) -> dict[str, list[int]]:
    """The sets as lists."""
    return {name: members.tolist() for name, members in collection.sets.items()}


def lines_of(collection: Collection) -> list[str]:
    """A table `path,set` with every picture in train, as lines."""
    pictures = collection.pictures
    return ["path,set", *(f"{pictures.name(i)},train" for i in range(len(pictures)))]


class TestReading:
    """What a table says of the pictures."""

    def test_what_was_written_is_read_again(self, collection: Collection, tmp_path: Path) -> None:
        """Sets, groups and folds come back as they were."""
        division = divide_into_folds(collection, 3, test_fraction=0.25)
        groups = [f"g{i // 2}" for i in range(24)]
        rows = make_index(collection.pictures, division.sets, None, groups, division.folds)
        (tmp_path / "s.csv").write_text(format_index(rows))
        read = read_split(collection, tmp_path / "s.csv")
        assert division.folds is not None and read.folds is not None
        assert read.folds.tolist() == division.folds.tolist()
        assert (read.groups, list(read.sets)) == (groups, ["train", "test"])
        of_fold = with_split(collection, tmp_path / "s.csv", 2).sets
        assert of_fold["val"].tolist() == (division.folds == 2).nonzero()[0].tolist()
        assert of_fold["test"].tolist() == division.sets["test"].tolist()
        assert sum(map(len, of_fold.values())) == 24

    def test_rows_may_stand_in_any_order_and_be_written_elsewhere(self, collection: Collection, tmp_path: Path) -> None:
        """Pictures are found by name: under Windows' separators, with other columns, with another program's words."""
        lines = lines_of(collection)
        table = ["path;split;note", *(line.replace("/", "\\").replace(",", ";") + ";x" for line in lines[:0:-1])]
        table[1] = table[1].replace("train", "Validation")
        table[2] = table[2].replace("train", "")
        (tmp_path / "s.csv").write_text("\r\n".join(table), encoding="utf-16")
        assert as_lists(with_split(collection, tmp_path / "s.csv")) == {"train": list(range(22)), "val": [23]}

    def test_the_table_of_a_run_of_before_there_were_groups_is_read(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        """path, label, set, bytes, digest: what older runs wrote."""
        pictures = collection.pictures
        rows = [f"{pictures.name(i)},{pictures.classes[pictures.labels[i]]},train,7,ff" for i in range(24)]
        (tmp_path / "s.csv").write_text("\n".join(["path,label,set,bytes,digest", *rows]))
        assert as_lists(with_split(collection, tmp_path / "s.csv")) == {"train": list(range(24))}

    def test_sets_that_data_has_count_no_more_and_that_is_said(self, picture_folder: Path, tmp_path: Path) -> None:
        """The table's sets are taken, with a notice that names the others."""
        (tmp_path / "t.csv").write_text("file,label,set\nblue/0.jpg,a,train\nred/1.jpg,b,test\n")
        collection = read_csv(tmp_path / "t.csv", picture_folder)
        (tmp_path / "s.csv").write_text("path,set\nblue/0.jpg,val\nred/1.jpg,train\n")
        divided = with_split(collection, tmp_path / "s.csv")
        assert as_lists(divided) == {"train": [1], "val": [0]}
        assert divided.notices == [f"DATA has sets of its own (train, test); those of {tmp_path / 's.csv'} count"]
        assert as_lists(collection) == {"train": [0], "test": [1]}

    def test_reading_fails_with_everything_that_does_not_fit(self, collection: Collection, tmp_path: Path) -> None:
        """Files gone and missing, other labels, unknown sets and folds, and doubled rows, all at once."""
        lines = [line + ",,1" for line in lines_of(collection)]
        lines[0] = "path,set,label,fold"
        lines[1] = "blue/99.jpg,train,,1"
        lines[2] = "blue/1.jpg,train,red,1"
        lines[3] = "blue/2.jpg,holdout,blue,1"
        lines[4] = "blue/3.jpg,train,blue,0"
        lines[5] = lines[6]
        lines = lines[:6] + [line.replace(",,", f",{line.split('/')[0]},") for line in lines[6:]]
        lines[5] = lines[6]
        (tmp_path / "s.csv").write_text("\n".join(lines))
        with pytest.raises(DataError) as caught:
            read_split(collection, tmp_path / "s.csv")
        assert str(caught.value).split("\n") == [
            f"The split {tmp_path / 's.csv'} does not fit DATA (7 problems):",
            "  line 2: 'blue/99.jpg' is not in DATA",
            "  line 3: blue/1.jpg is 'red' here and 'blue' in DATA",
            "  line 4: set 'holdout' is none of train, val, test",
            "  line 5: fold '0' is not a number counted from 1",
            "  line 7: blue/5.jpg stands in line 6 already",
            "  blue/0.jpg is in DATA and in no row",
            "  blue/4.jpg is in DATA and in no row",
            "Mend it, give the DATA it was made for, or divide DATA anew with `holdfast split`.",
        ]

    @pytest.mark.parametrize(("fold", "words"), [(4, "no fold 4: its folds are 1 to 3"), (0, "no fold 0")])
    def test_reading_fails_when_there_is_no_such_fold(
        self, collection: Collection, tmp_path: Path, fold: int, words: str
    ) -> None:
        """The folds that there are are named."""
        division = divide_into_folds(collection, 3)
        rows = make_index(collection.pictures, division.sets, None, None, division.folds)
        (tmp_path / "s.csv").write_text(format_index(rows))
        with pytest.raises(DataError, match=words):
            with_split(collection, tmp_path / "s.csv", fold)

    def test_reading_fails_when_it_is_no_split(self, collection: Collection, tmp_path: Path) -> None:
        """A table without sets and folds, and a fold of no table, are refused."""
        (tmp_path / "s.csv").write_text("path,label\nblue/0.jpg,blue\n")
        with pytest.raises(DataError, match="is no split: it has no column `set` or `fold`"):
            read_split(collection, tmp_path / "s.csv")
        with pytest.raises(ConfigError, match="--fold 2 names a fold of a table"):
            with_split(collection, None, 2)


class TestWriting:
    """Where a table may be written."""

    @pytest.fixture
    def text(self, collection: Collection) -> str:
        """A split of the fixture's pictures."""
        return format_index(make_index(collection.pictures, complete_sets(collection)))

    def test_the_same_table_again_is_not_written(
        self, collection: Collection, picture_folder: Path, tmp_path: Path, text: str
    ) -> None:
        """The second time nothing is touched."""
        file = tmp_path / "split.csv"
        assert write_split(text, file, collection, str(picture_folder))
        before = file.stat().st_mtime_ns
        assert not write_split(text, file, collection, str(picture_folder))
        assert (file.stat().st_mtime_ns, file.read_text()) == (before, text)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures", "split.csv"]

    def test_writing_fails_over_another_split_unless_forced(
        self, collection: Collection, picture_folder: Path, tmp_path: Path, text: str
    ) -> None:
        """What somebody trained on is not lost in silence."""
        file = tmp_path / "split.csv"
        file.write_text("path,label,set,group,bytes,digest\n")
        with pytest.raises(ConfigError, match=r"holds another split\. .* --force"):
            write_split(text, file, collection, str(picture_folder))
        assert write_split(text, file, collection, str(picture_folder), force=True)
        assert file.read_text() == text

    def test_writing_fails_over_what_is_no_split_though_forced(
        self, collection: Collection, picture_folder: Path, tmp_path: Path, text: str
    ) -> None:
        """Neither another file nor the split of a run is overwritten."""
        (tmp_path / "notes.csv").write_text("file,label\n")
        with pytest.raises(ConfigError, match="is no split of ours; it is not overwritten"):
            write_split(text, tmp_path / "notes.csv", collection, str(picture_folder), force=True)
        run = tmp_path / "run"
        run.mkdir()
        for name in ("config.yaml", "environment.json"):
            (run / name).touch()
        (run / "split.csv").write_text("path,label,set,group,bytes,digest\n")
        with pytest.raises(ConfigError, match="belongs to the run in"):
            write_split(text, run / "split.csv", collection, str(picture_folder), force=True)

    def test_writing_fails_in_data(
        self, collection: Collection, picture_folder: Path, tmp_path: Path, text: str
    ) -> None:
        """Not in the folder, not in the image directory of a table, and not over the table itself."""
        with pytest.raises(ConfigError, match="lies in DATA"):
            write_split(text, picture_folder / "red/split.csv", collection, str(picture_folder), force=True)
        table = tmp_path / "t.csv"
        table.write_text("file,label\nblue/0.jpg,a\nred/1.jpg,b\n")
        of_table = read_csv(table, picture_folder)
        for place in (picture_folder / "split.csv", table):
            with pytest.raises(ConfigError, match="lies in DATA"):
                write_split(text, place, of_table, str(table), force=True)
        assert write_split(text, tmp_path / "split.csv", of_table, str(table))

    def test_writing_fails_where_nothing_can_be_written(
        self, collection: Collection, picture_folder: Path, tmp_path: Path, text: str
    ) -> None:
        """A folder that is not there is named."""
        with pytest.raises(ConfigError, match=r"Writing .*gone/split\.csv: No such file or directory"):
            write_split(text, tmp_path / "gone/split.csv", collection, str(picture_folder))
