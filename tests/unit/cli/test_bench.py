"""`holdfast bench data`: what it measures and says. No test here judges a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dozen JPEGs of 200 × 160 in two classes."""
    random = np.random.default_rng(0)
    for number in range(12):
        place = tmp_path / "data" / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (10, 8, 3), np.uint8))
        small.resize((200, 160)).save(place)
    return tmp_path / "data"


def measured(holdfast: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """What the command says as JSON."""
    said = holdfast("bench", "data", *map(str, arguments), "--num", "6", "--json")
    assert said.code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


@pytest.mark.row("D6")
def test_every_step_of_a_training_has_a_row(data: Path, holdfast: Callable[..., Any]) -> None:
    """Reading, decoding, each augmentation, the way between processes and normalising, in their order; shares make a
    whole, and steps measured to compare have none."""
    found = measured(holdfast, data, "--img-size", 32, "--augment", "crop+flip+color", "--workers", 1, "-b", 4)
    stages = [(stage["name"].split(" (")[0], stage["kind"]) for stage in found["stages"] if stage["place"]]
    assert stages == [
        ("read the file", "disk"), ("decode", "decode"), ("resize to a short side of 64", "decode"),
        ("crop and resize", "transform"), ("RandomFlip", "transform"), ("ColorJitter", "transform"),
        ("normalise", "finish"), ("hand over to the main process", "hand-over"),
    ]  # fmt: skip
    assert sum(stage["share"] for stage in found["stages"] if stage["place"]) == pytest.approx(1)
    took = [stage["seconds_per_picture"] for stage in found["stages"] if stage["place"]]
    assert sum(took) == pytest.approx(found["seconds_per_picture"])
    compared = [stage for stage in found["stages"] if not stage["place"]]
    assert all(stage["share"] is None for stage in compared)
    assert "decode in full" in [stage["name"] for stage in compared]
    assert [rate["workers"] for rate in found["rates"]] == [0, 1, 2]
    assert all(rate["pictures_per_second"] > 0 for rate in found["rates"])
    assert found["sampled"]["num_pictures"] == 6 and found["num_pictures"] == 12
    # Of the 8 to train on and the 2 of val, which are shown at 8/7 of the crop.
    assert found["room"]["needed_bytes"] == 8 * 3 * 64 * 80 + int(2 * 3 * 37 * 37 * 1.25)


def test_settings_left_open_are_those_of_train(data: Path, holdfast: Callable[..., Any]) -> None:
    """Image size and augmentation are chosen from the pictures; without workers nothing is handed over."""
    found = measured(holdfast, data, "--workers", 0)
    assert (found["img_size"], found["augment"], found["decode_size"]) == (224, "crop+flip+color", None)
    assert "hand-over" not in [stage["kind"] for stage in found["stages"]]
    assert [rate["workers"] for rate in found["rates"]] == [0, 1]


def test_pictures_in_memory_are_measured_too(holdfast: Callable[..., Any]) -> None:
    """They have no files, and no cache would help."""
    found = measured(holdfast, "digits")
    assert found["stages"][0]["name"] == "read from memory" and found["room"] is None
    assert not found["sampled"]["file_bytes"] and not any("--cache" in line for line in found["advice"])


@pytest.fixture
def tables(data: Path) -> Path:
    """Beside the pictures, a table of points, one of several labels and one of numbers."""
    names = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.jpg"))]
    rows = {"points": "file,left_eye_x,left_eye_y,right_eye_x,right_eye_y", "many": "file,tags", "ages": "file,age"}
    cells = {"points": "20,30,80,34", "many": "wide;tall", "ages": "12.5"}
    for table, header in rows.items():
        lines = [header, *(f"{name},{cells[table]}" for name in names)]
        (data.parent / f"{table}.csv").write_text("\n".join(lines) + "\n")
    return data.parent


@pytest.mark.row("D3", "D6")
def test_points_go_through_every_step_with_their_picture(tables: Path, holdfast: Callable[..., Any]) -> None:
    """Recognised by themselves; the steps of their transform have a row each, normalising is the workers', and what
    they hand over is floats."""
    found = measured(holdfast, tables / "points.csv", "--image-dir", tables / "data", "--img-size", 96, "-j", 1)
    assert (found["task"], found["augment"], found["decode_size"]) == ("landmarks", "affine+flip+color", None)
    stages = [(stage["name"].split(" (from")[0], stage["kind"], stage["place"]) for stage in found["stages"]]
    assert [stage for stage in stages if stage[2]] == [
        ("read the file", "disk", "worker"), ("decode", "decode", "worker"),
        ("points (of the table)", "transform", "worker"), ("points (FromEdge)", "transform", "worker"),
        ("crop and resize (Resize)", "transform", "worker"), ("RandomAffine", "transform", "worker"),
        ("FlipWithPairs", "transform", "worker"), ("ColorJitter", "transform", "worker"),
        ("points (AcrossInput)", "transform", "worker"), ("ToDtype", "finish", "worker"),
        ("Normalize", "finish", "worker"), ("hand over to the main process", "hand-over", "worker"),
    ]  # fmt: skip
    assert all(rate["pictures_per_second"] > 0 for rate in found["rates"]) and len(found["rates"]) == 3
    assert found["room"]["needed_bytes"] == 10 * 3 * 200 * 160


@pytest.mark.row("D3")
def test_flip_pairs_and_a_size_to_decode_to_are_those_of_train(tables: Path, holdfast: Callable[..., Any]) -> None:
    """Without pairs there is no flip, and asking for one is an error; `--decode-size` resizes before the rest."""
    where = (tables / "points.csv", "--image-dir", tables / "data", "--workers", 0, "--img-size", 32)
    found = measured(holdfast, *where, "--flip-pairs", "none", "--decode-size", 64)
    assert found["augment"] == "affine+color"
    assert "resize to a short side of 64" in [stage["name"] for stage in found["stages"]]
    large = measured(holdfast, *where)
    assert "decode for --decode-size 64" in [stage["name"] for stage in large["stages"] if not stage["place"]]
    said = holdfast("bench", "data", *map(str, where), "--flip-pairs", "none", "--augment", "crop+flip")
    assert said.code == 2 and "Give --flip-pairs" in said.err


@pytest.mark.parametrize(
    ("arguments", "task", "steps"),
    [
        (["many.csv", "--task", "multilabel", "--label-column", "tags"], "multilabel", "RandomResizedCrop"),
        (["ages.csv", "--task", "regression", "--target-columns", "age"], "regression", "WholeSquare"),
    ],
)
def test_labels_and_numbers_are_measured_as_they_are_trained(
    arguments: list[str], task: str, steps: str, tables: Path, holdfast: Callable[..., Any]
) -> None:
    """What is chosen goes by the task: numbers are not cropped at random, several labels are."""
    table, *others = arguments
    found = measured(holdfast, tables / table, "--image-dir", tables / "data", "--workers", 0, *others)
    assert found["task"] == task
    assert f"crop and resize ({steps})" in [stage["name"] for stage in found["stages"] if stage["place"] == "worker"]


def test_fails_on_targets_that_data_does_not_have(tables: Path, holdfast: Callable[..., Any]) -> None:
    """A folder has classes alone, and labels have no pairs of points."""
    said = holdfast("bench", "data", tables / "data", "--task", "landmarks")
    assert said.code == 3 and "columns of a CSV" in said.err
    where = (str(tables / "many.csv"), "--image-dir", str(tables / "data"), "--task", "multilabel")
    said = holdfast("bench", "data", *where, "--flip-pairs", "68")
    assert said.code == 2 and "flip_pairs is for points" in said.err


def test_the_table_fits_a_terminal(data: Path, holdfast: Callable[..., Any]) -> None:
    """80 columns hold every row of the longest names, and what the notes mean is said below."""
    said = holdfast("bench", "data", data, "--num", "4", "--workers", "1", "--img-size", "32", "--augment", "crop+flip")
    rows, _, below = said.out.partition("all together")
    assert said.code == 0 and "decode in full" in rows and "crop and resize (RandomResizedCrop)" in rows
    assert max(map(len, rows.splitlines())) <= 80
    assert "(compared: no part of a training)" in below


def test_the_table_says_the_same_and_nothing_is_written(data: Path, holdfast: Callable[..., Any]) -> None:
    """A row a step, a line a number of workers, advice; the folder of pictures and the current one are as they were."""
    before = sorted(data.parent.rglob("*"))
    said = holdfast("bench", "data", data, "--num", "6", "--workers", "0")
    assert said.code == 0
    for part in ("all together", "crop and resize (RandomResizedCrop)", "normalise", "0 workers", "• "):
        assert part in said.out
    assert "measuring" in said.err and sorted(data.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["nowhere"], 3, "nothing at nowhere"),
        (["{data}", "--augment", "swirl"], 2, "no augmentation 'swirl'"),
        (["{data}", "--device", "toaster"], 2, "toaster"),
        (["{data}", "--num", "0"], 2, "num"),
        ([], 2, "DATA"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], code: int, part: str, data: Path, holdfast: Callable[..., Any]
) -> None:
    """Each with its exit code."""
    said = holdfast("bench", "data", *(argument.format(data=data) for argument in arguments))
    assert said.code == code and part in said.err


def test_a_damaged_picture_is_named(data: Path, holdfast: Callable[..., Any]) -> None:
    """It cannot be measured, and the file is said."""
    (data / "a" / "0.jpg").write_bytes((data / "a" / "0.jpg").read_bytes()[:300])
    said = holdfast("bench", "data", data, "--workers", "0", "--num", "12")
    assert said.code == 3 and "0.jpg" in said.err
