from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.config import Config
from holdfast.data import Collection, read_folder
from holdfast.data.check import check_files
from holdfast.data.division.index import format_index, make_index
from holdfast.data.division.split import divide_into_folds
from holdfast.data.files import FilePictures
from holdfast.errors import ConfigError, DataError
from holdfast.run.division import divide, refuse_another_split


@pytest.fixture
def collection(picture_folder: Path) -> Collection:
    """The fixture's 24 pictures; red/7.jpg is a copy of red/0.jpg."""
    (picture_folder / "red/7.jpg").write_bytes((picture_folder / "red/0.jpg").read_bytes())
    return read_folder(picture_folder)


@pytest.fixture
def table(collection: Collection, tmp_path: Path) -> Path:
    """A split into train and val: every fourth picture validates, and the second is in no set."""
    sets = {"train": np.array([i for i in range(24) if i % 4 and i != 1]), "val": np.arange(0, 24, 4)}
    (tmp_path / "s.csv").write_text(format_index(make_index(collection.pictures, sets)))
    return tmp_path / "s.csv"


def test_copies_are_kept_in_one_set_once_they_are_known(collection: Collection) -> None:
    """With what the check told, the two copies are on one side under every seed, and it is said."""
    pictures = collection.pictures
    assert isinstance(pictures, FilePictures)
    checked = check_files(pictures)
    for seed in range(20):
        division, notices = divide(Config(seed=seed), collection, checked)
        assert sum(16 in members and 23 in members for members in division.sets.values()) == 1
        assert "1 picture is the same file as another, and kept beside it (red/0.jpg, red/7.jpg)" in notices
        assert division.groups is not None
        assert (division.groups[16], division.groups[23], division.groups[0]) == ("red/0.jpg", "red/0.jpg", "")


def test_groups_are_kept_in_one_set(collection: Collection) -> None:
    """Pictures of one number, in three classes, are one group."""
    division, notices = divide(Config(group_by=r"(\d)\.jpg", seed=1), collection)
    assert {name: len(members) for name, members in division.sets.items()} == {"train": 18, "val": 3, "test": 3}
    for members in division.sets.values():
        assert {int(i) % 8 for i in members} == {int(i) % 8 for i in members if i < 8}
    assert notices[:1] == [r"8 groups by '(\\d)\\.jpg', each in one set"]


def test_a_table_is_taken_as_it_is(collection: Collection, table: Path) -> None:
    """Its sets, no test set made up, and a count of what is in none."""
    division, notices = divide(Config(split=str(table)), collection)
    assert division.sets["val"].tolist() == list(range(0, 24, 4))
    assert (list(division.sets), len(division.sets["train"])) == (["train", "val"], 17)
    assert notices == [f"1 picture is in no set of {table}"]


def test_pictures_that_cannot_be_read_leave_the_sets_of_a_table(collection: Collection, table: Path) -> None:
    """What is not usable is in no set."""
    collection.usable = np.arange(2, 24)
    assert divide(Config(split=str(table)), collection)[0].sets["val"].tolist() == list(range(4, 24, 4))


def test_a_table_of_folds_asks_for_one(collection: Collection, tmp_path: Path) -> None:
    """Without --fold it cannot be known which validates; a fold without a table is nothing."""
    folds = divide_into_folds(collection, 3)
    (tmp_path / "f.csv").write_text(format_index(make_index(collection.pictures, folds.sets, None, None, folds.folds)))
    with pytest.raises(ConfigError, match=r"divides DATA into 3 folds. Say which one validates: --fold 1"):
        divide(Config(split=str(tmp_path / "f.csv")), collection)
    assert len(divide(Config(split=str(tmp_path / "f.csv"), fold=3), collection)[0].sets["val"]) == 8
    with pytest.raises(ConfigError, match="--fold 3 names a fold of a table"):
        divide(Config(fold=3), collection)


def test_a_table_goes_with_no_groups(collection: Collection, table: Path) -> None:
    """A table has kept its groups, or has not; a second opinion would be ignored in silence."""
    with pytest.raises(ConfigError, match="--group-by and --split"):
        divide(Config(split=str(table), group_by="x"), collection)


def test_a_class_without_training_is_said(collection: Collection, table: Path) -> None:
    """A table may leave a class out of train; nobody would notice until the test."""
    lines = [
        line.replace(",train,", ",val,") if line.startswith("red/") else line for line in table.read_text().split("\n")
    ]
    table.write_text("\n".join(lines))
    assert "class 'red' has 8 pictures: none in train" in divide(Config(split=str(table)), collection)[1]


class TestAnotherSplit:
    """What happens when the table changes under a run."""

    def test_the_same_table_is_no_other(self, collection: Collection, table: Path) -> None:
        """Also when pictures that cannot be read left the run's sets, and when the table is gone."""
        config = Config(split=str(table))
        sets = divide(config, collection)[0].sets
        refuse_another_split(config, collection, sets)
        refuse_another_split(config, collection, {name: members[1:] for name, members in sets.items()})
        table.unlink()
        refuse_another_split(config, collection, sets)

    def test_a_val_set_that_the_run_took_out_of_train_is_no_change(self, collection: Collection, table: Path) -> None:
        """The table knows train alone."""
        table.write_text(table.read_text().replace(",val,", ",train,"))
        config = Config(split=str(table))
        sets = divide(config, collection)[0].sets
        assert "val" in sets
        refuse_another_split(config, collection, sets)

    def test_resuming_fails_when_the_table_divides_otherwise(self, collection: Collection, table: Path) -> None:
        """The set that differs, and three ways out, are named."""
        config = Config(split=str(table))
        sets = divide(config, collection)[0].sets
        table.write_text(table.read_text().replace("blue/0.jpg,blue,val", "blue/0.jpg,blue,train"))
        with pytest.raises(DataError, match="is not the split that this run began with: its train set is another"):
            refuse_another_split(config, collection, sets)
