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
        ("hand over to the main process", "hand-over"), ("normalise", "finish"),
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
    assert found["room"]["needed_bytes"] == 12 * 3 * 64 * 80


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


def test_pictures_with_points_are_refused(data: Path, holdfast: Callable[..., Any]) -> None:
    """What would be measured is not what their training does."""
    names = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.jpg"))]
    (data / "points.csv").write_text("file,eye_x,eye_y\n" + "".join(f"{name},1,2\n" for name in names))
    said = holdfast("bench", "data", data / "points.csv", "--num", "4")
    assert names and said.code == 3 and "its pictures have points" in said.err


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
