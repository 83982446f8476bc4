"""A picture that cannot be read: named, counted and listed in every set and by every command, never replaced."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

QUICK = ("--model", "mlp", "--img-size", "16", "--workers", "0", "--batch-size", "4")
END = b"\xff\xd9"


def _close_early(path: Path) -> None:
    """Cuts a JPEG in its middle and pastes an end marker on, which every plain decoder takes."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3] + END)


@pytest.fixture
def sets(picture_folder: Path, tmp_path: Path) -> Path:
    """Training, validation and test sets, each with one damaged picture."""
    for name, picture in (("train", "red/1.jpg"), ("val", "green/2.jpg"), ("test", "blue/3.jpg")):
        shutil.copytree(picture_folder, tmp_path / "sets" / name)
        _close_early(tmp_path / "sets" / name / picture)
    return tmp_path / "sets"


def test_damage_in_any_set_stops_training_before_it_begins(holdfast, sets: Path) -> None:
    """Training, validation and test pictures are all looked at, and all named at once."""
    said = holdfast("train", sets, *QUICK, "--epochs", "1")
    assert said.code == 3 and "3 of 72 pictures cannot be read" in said.err
    for name in ("train/red/1.jpg", "val/green/2.jpg", "test/blue/3.jpg"):
        assert name in said.err
    assert said.err.count("rows would be made up") == 3


def test_skipped_pictures_are_in_no_set_and_listed(holdfast, sets: Path, tmp_path: Path) -> None:
    """`skip` leaves each of them out of its own set: no row of predictions, one row in bad_images.csv."""
    said = holdfast("train", sets, *QUICK, "--epochs", "1", "--on-bad-image", "skip", "--out", "run")
    assert said.code == 0 and "left out 3 pictures" in said.out
    with (tmp_path / "run/bad_images.csv").open() as file:
        listed = {row["path"]: row["problem"] for row in csv.DictReader(file)}
    assert sorted(listed) == ["test/blue/3.jpg", "train/red/1.jpg", "val/green/2.jpg"]
    assert all("damaged or cut short" in problem for problem in listed.values())
    with (tmp_path / "run/predictions.csv").open() as file:
        predicted = [row["path"] for row in csv.DictReader(file)]
    assert len(predicted) == 2 * 23
    assert not set(listed) & set(predicted)


def test_the_batch_is_chosen_from_the_pictures_that_are_left(holdfast, sets: Path, tmp_path: Path) -> None:
    """What is chosen from the data goes by the pictures that can be read, and says their number."""
    for number in range(4):
        _close_early(sets / f"train/blue/{number}.jpg")
    options = ("--model", "mlp", "--img-size", "16", "--workers", "0", "--epochs", "1", "--on-bad-image", "skip")
    said = holdfast("train", sets, *options, "--out", "run")
    assert said.code == 0 and "left out 7 pictures" in said.out
    assert "19 training pictures" in said.out and "24 training pictures" not in said.out
    assert "batch_size: 19" in (tmp_path / "run/config.yaml").read_text().splitlines()


@pytest.fixture
def run(holdfast, picture_folder: Path, tmp_path: Path) -> Path:
    """A finished run."""
    assert holdfast("train", picture_folder, *QUICK, "--epochs", "1", "--out", "run").code == 0
    return tmp_path / "run"


def test_predict_goes_on_after_a_bad_picture(holdfast, run: Path, picture_folder: Path, tmp_path: Path) -> None:
    """Each picture has its entry in order, the bad ones an error with their path, and the exit code is 1."""
    (tmp_path / "text.jpg").write_text("no picture")
    _close_early(picture_folder / "red/2.jpg")
    asked = [
        picture_folder / "red/1.jpg",
        picture_folder / "red/2.jpg",
        tmp_path / "text.jpg",
        picture_folder / "red/3.jpg",
    ]
    said = holdfast("predict", run, *asked, "--json")
    assert said.code == 1
    told = json.loads(said.out)
    assert [entry["path"] for entry in told] == [str(path) for path in asked]
    assert ["error" in entry for entry in told] == [False, True, True, False]
    assert set(told[1]) == {"path", "error"}
    assert "rows would be made up" in told[1]["error"]
    assert "no decoder recognises" in told[2]["error"]


def test_predict_says_odd_names_on_one_line_and_as_json(holdfast, run: Path, picture_folder: Path) -> None:
    """A line break in a name does not break the list; a name that is no text is still JSON and a cell of a table."""
    folder = picture_folder.parent / "odd"
    folder.mkdir()
    for name in (b"new\nline.jpg", b"latin\xe9.jpg"):
        shutil.copy(picture_folder / "red/1.jpg", os.fsencode(folder) + b"/" + name)
    said = holdfast("predict", run, folder, "--csv", "said.csv")
    assert said.code == 0 and len(said.out.splitlines()) == 2
    assert "new\\nline.jpg  " in said.out
    assert b"latin\xe9.jpg," in (picture_folder.parent / "said.csv").read_bytes()
    told = json.loads(holdfast("predict", run, folder, "--json").out)
    assert [os.fsencode(Path(entry["path"]).name) for entry in told] == [b"latin\xe9.jpg", b"new\nline.jpg"]


def test_val_names_a_bad_picture(holdfast, run: Path, picture_folder: Path) -> None:
    """Figures over pictures that were not seen would be false: exit 3, with the path."""
    _close_early(picture_folder / "red/2.jpg")
    said = holdfast("val", run, picture_folder)
    assert said.code == 3 and "red/2.jpg: damaged or cut short" in said.err


SPOIL = """
import shutil
from pathlib import Path

from torchvision.transforms.v2.functional import resize

PICTURE = Path("pictures/red/1.jpg")


def spoil(image):
    if not Path("whole.jpg").exists() and list(Path("run/checkpoints").glob("step-*")):
        shutil.copy2(PICTURE, "whole.jpg")
        PICTURE.write_bytes(Path("whole.jpg").read_bytes()[:200])
    return resize(image, [16, 16])
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_picture_that_breaks_during_training_costs_nothing(
    holdfast, picture_folder: Path, tmp_path: Path, workers: str
) -> None:
    """It is named with exit 3, what was saved verifies, and once it is mended the same command goes on to the end."""
    (tmp_path / "spoiling.py").write_text(SPOIL)
    command = (
        "train",
        picture_folder,
        *QUICK[:-4],
        "--batch-size",
        "4",
        "--workers",
        workers,
        "--epochs",
        "3",
        "--save-every",
        "1",
        "--keep",
        "all",
        "--train-transform",
        "spoiling:spoil",
        "--cache",
        "off",
        "--out",
        "run",
    )
    said = holdfast(*command)
    assert said.code == 3 and "red/1.jpg: damaged or cut short" in said.err
    shutil.copy2(tmp_path / "whole.jpg", picture_folder / "red/1.jpg")
    assert list((tmp_path / "run/checkpoints").glob("step-*"))
    assert holdfast("verify", "run").code == 0
    said = holdfast(*command)
    assert said.code == 0
    with (tmp_path / "run/results.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
