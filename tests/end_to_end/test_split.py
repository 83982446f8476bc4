"""`split` writes a table, and every later command divides DATA by it."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from pathlib import Path

import pytest

QUICK = ("--epochs", "1", "--model", "mlp", "--img-size", "16", "--workers", "0", "--batch-size", "8")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sets_of(path: Path) -> dict[str, str]:
    """Path → set."""
    return {row["path"]: row["set"] for row in rows_of(path)}


@pytest.mark.row("D4")
def test_train_val_and_show_divide_by_the_table(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """A run has the table's sets in its own split.csv, and val and show count the pictures of the table's set."""
    said = holdfast("split", picture_folder, "--val-fraction", "0.25", "--test-fraction", "0.25", "--seed", "3")
    assert said.code == 0 and "wrote split.csv" in said.out
    assert said.out.splitlines()[0].split() == ["class", "train", "val", "test", "all"]
    counts = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()[1:4]}
    assert counts == {name: ["4", "2", "2", "8"] for name in ("blue", "green", "red")}
    sets = sets_of(tmp_path / "split.csv")
    assert holdfast("train", picture_folder, *QUICK, "--split", "split.csv", "--out", "run").code == 0
    assert sets_of(tmp_path / "run/split.csv") == sets
    predicted = {row["path"]: row["set"] for row in rows_of(tmp_path / "run/predictions.csv")}
    assert predicted == {path: name for path, name in sets.items() if name != "train"}
    said = holdfast("val", "run", picture_folder, "--split", "split.csv", "--set", "test", "--json")
    assert json.loads(said.out)["num_samples"] == 6
    said = holdfast("show", picture_folder, "--split", "split.csv", "--set", "val", "--json")
    assert json.loads(said.out)["num_pictures"] == 6
    # A run's own table is a table like any other.
    assert holdfast("train", picture_folder, *QUICK, "--split", "run/split.csv", "--out", "again").code == 0
    assert (tmp_path / "again/split.csv").read_bytes() == (tmp_path / "run/split.csv").read_bytes()


@pytest.mark.row("D4")
def test_each_fold_validates_once(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Two runs on two folds validate on different pictures; without --fold the folds are named."""
    assert holdfast("split", picture_folder, "--folds", "2", "--out", "folds.csv").code == 0
    said = holdfast("train", picture_folder, *QUICK, "--split", "folds.csv", "--out", "run")
    assert said.code == 2 and "divides DATA into 2 folds" in said.err and not (tmp_path / "run").exists()
    validated: set[str] = set()
    for fold in ("1", "2"):
        run = tmp_path / f"run{fold}"
        assert holdfast("train", picture_folder, *QUICK, "--split", "folds.csv", "--fold", fold, "--out", run).code == 0
        mine = {path for path, name in sets_of(run / "split.csv").items() if name == "val"}
        assert len(mine) == 12 and not mine & validated
        validated |= mine
    said = holdfast("train", picture_folder, *QUICK, "--split", "folds.csv", "--fold", "2", "--out", "run1")
    assert said.code == 2 and "fold: 1 → 2" in said.err


def test_the_same_command_gives_the_same_bytes(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Whatever order files were made in, the table is the same; another one is not overwritten unasked."""
    assert holdfast("split", picture_folder, "--out", "a.csv").code == 0
    other = tmp_path / "other" / picture_folder.name
    for path in sorted(picture_folder.rglob("*.jpg"), reverse=True):
        place = other / path.relative_to(picture_folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    assert holdfast("split", other, "--out", "b.csv").code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    said = holdfast("split", picture_folder, "--out", "a.csv")
    assert said.code == 0 and "says so already" in said.out
    said = holdfast("split", picture_folder, "--out", "a.csv", "--seed", "1")
    assert said.code == 2 and "holds another split" in said.err
    assert holdfast("split", picture_folder, "--out", "a.csv", "--seed", "1", "--force").code == 0
    assert (tmp_path / "a.csv").read_bytes() != (tmp_path / "b.csv").read_bytes()
    said = holdfast("split", picture_folder, "--out", picture_folder / "split.csv")
    assert said.code == 2 and "lies in DATA" in said.err


def test_groups_and_copies_stay_in_one_set(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """By a column of the CSV, with a copy that ties two groups together; train keeps to it without a table too."""
    names = [f"{c}/{k}.jpg" for k in range(8) for c in ("blue", "red")]
    table = "".join(f"{name},{name[:3]},p{name[-5]}\n" for name in names)
    (tmp_path / "t.csv").write_text("file,label,patient\n" + table)
    shutil.copyfile(picture_folder / "blue/0.jpg", picture_folder / "red/5.jpg")
    arguments = ("t.csv", "--image-dir", picture_folder, "--group-by", "patient", "--val-fraction", "0.3")
    said = holdfast("split", *arguments)
    assert said.code == 0 and "8 groups by 'patient'" in said.out and "1 of them stands under two labels" in said.out
    assert holdfast("train", *arguments, *QUICK, "--out", "run").code == 3  # equal pictures, two labels
    assert holdfast("train", *arguments, *QUICK, "--on-bad-image", "skip", "--out", "run").code == 0
    for rows in (rows_of(tmp_path / "split.csv"), rows_of(tmp_path / "run/split.csv")):
        set_of: dict[str, set[str]] = {}
        for row in rows:
            set_of.setdefault(row["group"], set()).add(row["set"])
        assert set(set_of) == {"p0 + p5", "p1", "p2", "p3", "p4", "p6", "p7"}
        assert all(len(names) == 1 for names in set_of.values())


def test_a_table_that_does_not_fit_says_everything_that_is_wrong(
    holdfast, picture_folder: Path, tmp_path: Path
) -> None:
    """Exit 3, the first ten problems, no run begun; and a table that changes under a run stops the resume."""
    assert holdfast("split", picture_folder).code == 0
    command = ("train", picture_folder, *QUICK, "--split", "split.csv", "--out", "run")
    whole = (tmp_path / "split.csv").read_text()
    (tmp_path / "split.csv").write_text(whole.replace("red/", "crimson/").replace(",train,", ",training set,"))
    said = holdfast(*command)
    assert said.code == 3 and "does not fit DATA" in said.err and "… and " in said.err
    assert not (tmp_path / "run").exists()
    (tmp_path / "split.csv").write_text(whole)
    assert holdfast(*command).code == 0
    (tmp_path / "split.csv").write_text(whole.replace(",test,", ",val,"))
    said = holdfast(*command)
    assert said.code == 3 and "is not the split that this run began with" in said.err
    (tmp_path / "split.csv").write_text(whole)
    assert "is finished" in holdfast(*command).out


def test_ants_and_bees_are_divided_as_they_are_or_anew(holdfast, real_data: Path, tmp_path: Path) -> None:
    """Their own train and val sets are kept; --pool divides all of it, and five folds hold each class alike."""
    data = real_data / "hymenoptera_data"
    said = holdfast("split", data, "--json")
    assert json.loads(said.out)["num_by_set"] == {"train": 245, "val": 153}
    said = holdfast("split", data, "--pool", "--folds", "5", "--out", "folds.csv", "--json")
    told = json.loads(said.out)
    assert sorted(by_class["ants"] for by_class in told["num_by_class"].values()) == [38, 39, 39, 39, 39]
    assert sorted(by_class["bees"] for by_class in told["num_by_class"].values()) == [40, 41, 41, 41, 41]
    assert told["num_groups"] == 398


def test_cifar_gets_a_val_set_from_train_and_keeps_its_test_set(holdfast, real_data: Path, tmp_path: Path) -> None:
    """12,000 files: 150 of 1,000 of each class validate, and the test set is the data's own."""
    with tarfile.open(real_data / "cifar10_subset/cifar10_subset.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    said = holdfast("split", "cifar10_subset", "--json")
    told = json.loads(said.out)
    assert len(told["classes"]) == 10
    for name, number in {"train": 850, "val": 150, "test": 200}.items():
        assert told["num_by_class"][name] == dict.fromkeys(told["classes"], number)


def test_faces_of_one_photographer_stay_together(holdfast, real_data: Path, tmp_path: Path) -> None:
    """A CSV over the real faces, grouped by a regular expression on the name: no group on two sides."""
    with (real_data / "faces/face_landmarks.csv").open() as file:
        names = [line.split(",")[0] for line in file][1:]
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"{n},{len(n) % 2}\n" for n in names))
    said = holdfast("split", "t.csv", "--image-dir", real_data / "faces", "--group-by", r"^(\d)")
    assert said.code == 0 and "have no match of" in said.out
    sets: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "split.csv"):
        sets.setdefault(row["path"][0] if row["path"][0].isdigit() else row["path"], set()).add(row["set"])
    assert all(len(found) == 1 for found in sets.values())
    assert {"train", "val", "test"} == set().union(*sets.values())
