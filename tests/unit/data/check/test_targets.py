"""Tables of several labels, numbers and points, checked as `train` would read them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from holdfast.data.check import Finding, Report, check_data
from holdfast.data.check.page import render_page
from holdfast.data.check.table import print_report
from holdfast.errors import DataError

pytestmark = pytest.mark.row("D3")

NUM = 24


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of different pictures, 40 wide and 30 high, and no table."""
    draw = np.random.default_rng(0)
    for k in range(NUM):
        Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    return tmp_path


def _table(root: Path, header: str, rows: list[str]) -> str:
    lines = [f"file,{header}", *(f"{k}.png,{row}" for k, row in enumerate(rows))]
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    return str(root / "t.csv")


def _points(root: Path, **changed: str) -> str:
    """A table of an eye and a nose; rows may be replaced, as `r3="…"`."""
    return _table(root, "eye_x,eye_y,nose_x,nose_y", [changed.get(f"r{k}", f"{k},5,20,{k}") for k in range(NUM)])


def _text(report: Report) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, no_color=True, width=160, highlight=False))
    return stream.getvalue()


def _find(report: Report, code: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.code == code]
    return found


def _rows(report: Report) -> dict[str, dict[str, Any]]:
    return {row.pop("name"): row for row in json.loads(json.dumps(report.to_json()))["targets"]}


def test_points_are_counted_and_measured(pictures: Path) -> None:
    """How many, how many are missing or off their picture and where, and their range; no class and no class advice."""
    report = check_data(_points(pictures, r3=",,20,3", r7="50,5,20,7", r8="8,5,-3,31"))
    assert report.ok and not report.of("warning")
    rows = _rows(report)
    assert rows["eye"] == {
        "num_missing": 1, "num_off": 1, "x": {"min": 0, "mean": pytest.approx(316 / 23), "max": 50},
        "y": {"min": 5, "mean": 5, "max": 5},
    }  # fmt: skip
    assert (rows["nose"]["num_off"], rows["nose"]["x"]["min"], rows["nose"]["y"]["max"]) == (1, -3, 31)
    missing, off = _find(report, "points-missing"), _find(report, "points-off")
    assert [item.text for item in missing.items] == ["3.png: eye"]
    assert [item.text for item in off.items] == ["7.png: eye", "8.png: nose"]
    text = _text(report)
    assert "24 pictures, 2 points" in text and "class" not in text
    assert "2 a picture, 48 in all, 1 missing (on 1 picture), 2 off the picture (on 2 pictures)" in text
    assert "x            -3.0 – 50.0 px" in text
    value = report.to_json()
    assert (value["task"], value["points"], value["num_by_set"]) == ("landmarks", ["eye", "nose"], {"": NUM})
    assert "classes" not in value


def test_a_point_that_no_picture_has_is_a_warning(pictures: Path) -> None:
    """There is nothing to learn of it."""
    report = check_data(_points(pictures, **{f"r{k}": f"{k},5,," for k in range(NUM)}))
    assert [item.text for item in _find(report, "point-missing").items] == ["nose"]
    assert _rows(report)["nose"]["x"] == {"min": None, "mean": None, "max": None}


def test_labels_are_counted_in_every_set(pictures: Path) -> None:
    """Each label by itself: how many pictures of each set have it, which are rare, which a set lacks."""
    sets = ["train"] * 18 + ["val"] * 6
    labels = ["red;blue" if k < 12 or k > 20 else "red" if k < 16 else "" for k in range(NUM)]
    labels[0] = "red;blue;odd"
    table = _table(pictures, "labels,set", [f"{one},{where}" for one, where in zip(labels, sets, strict=True)])
    report = check_data(table, task="multilabel")
    value = report.to_json()
    assert value["num_by_set"] == {"train": 18, "val": 6}
    assert value["num_by_label"] == {"train": {"blue": 12, "odd": 1, "red": 16}, "val": {"blue": 3, "odd": 0, "red": 3}}
    assert value["labels"] == ["blue", "odd", "red"] and "classes" not in value
    assert [item.text for item in _find(report, "label-missing").items] == ["odd: none in val"]
    assert [(item.text, item.pictures) for item in _find(report, "tiny-label").items] == [
        ("odd: on 1 picture in train", (0,))
    ]
    text = _text(report)
    assert "24 pictures, 3 labels" in text
    assert "0 – 3 a picture, 1.46 on the average; 5 pictures without any" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("red", "pictures"))] == [
        ["red", "16", "3"], ["pictures", "18", "6"],
    ]  # fmt: skip


def test_numbers_have_a_range(pictures: Path) -> None:
    """Every column: what is missing, its least, mean and greatest; one that never changes is a warning."""
    table = _table(pictures, "age,size,depth", [f"{'' if k == 2 else k},{k / 2},7" for k in range(NUM)])
    report = check_data(table, task="regression", target_columns=["age", "size", "depth"])
    rows = _rows(report)
    assert rows["age"] == {"num_missing": 1, "min": 0, "mean": pytest.approx(274 / 23), "max": 23}
    assert rows["size"] == {"num_missing": 0, "min": 0, "mean": 5.75, "max": 11.5}
    assert [item.text for item in _find(report, "constant-column").items] == ["depth: 7"]
    assert [item.text for item in _find(report, "numbers-missing").items] == ["2.png: age"]
    text = _text(report)
    assert "24 pictures, 3 columns" in text and "tiny" not in text
    size = next(line for line in text.splitlines() if line.startswith("size "))
    assert size.split() == ["size", "0", "0", "5.75", "11.5"]


def test_equal_pictures_contradict_each_other_by_what_is_learned(pictures: Path) -> None:
    """Other labels are an error, other numbers or points a warning, and the same ones a note."""
    shutil.copy(pictures / "0.png", pictures / "1.png")
    labels = check_data(_table(pictures, "labels", ["a;b", "a", *["a;b"] * 22]), task="multilabel")
    found = _find(labels, "duplicate-labels")
    assert (found.severity, found.items[0].text) == ("error", "0.png (a, b)  =  1.png (a)")
    ages = check_data(_table(pictures, "age", [str(k) for k in range(NUM)]), task="regression", target_columns=["age"])
    found = _find(ages, "duplicate-labels")
    assert ages.ok and (found.severity, found.items[0].text) == ("warning", "0.png (0)  =  1.png (1)")
    assert "different numbers" in found.title
    points = check_data(_points(pictures))
    assert points.ok and "different points" in _find(points, "duplicate-labels").title
    same = check_data(_points(pictures, r1="0,5,20,0"))
    assert "with the same points" in _find(same, "duplicate").title


def test_look_alikes_may_have_other_numbers(pictures: Path) -> None:
    """A picture saved again, with another point, is no contradiction: points are drawn by hand."""
    draw = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    large = Image.fromarray(draw).resize((160, 120), Image.Resampling.BICUBIC)
    large.save(pictures / "0.png")
    large.resize((80, 60)).save(pictures / "1.png")
    report = check_data(_points(pictures))
    assert [item.pictures for item in _find(report, "near-duplicate").items] == [(0, 1)]


def test_a_table_that_cannot_be_used_names_its_cells(pictures: Path) -> None:
    """Text in a column of points, and half a point, are listed with their lines; pictures are checked all the same."""
    rows = {f"r{k}": "1,b,2,3" for k in range(11)}
    report = check_data(_points(pictures, **rows, r12="4,,5,6"))
    items = [item.text for item in _find(report, "structure").items]
    assert items[0] == "line 2: 'b' in column 'eye_y' is no number" and "line 14: point eye has one of x and y" in str(
        items
    )
    assert len(items) > 10 and len(report.facts) == NUM
    numbers = check_data(_table(pictures, "label", ["x", *map(str, range(1, NUM))]), task="regression")
    value = numbers.to_json()
    assert not numbers.ok and (value["task"], value["columns"], value["num_pictures"]) == ("regression", [], NUM)
    assert "class" not in _text(numbers) and "Classes" not in render_page(numbers)


def test_options_of_another_task_are_refused_as_training_refuses_them(pictures: Path) -> None:
    """`check` reads a table with the code of `train`."""
    report = check_data(_points(pictures), task="landmarks", classes=["a"])
    assert "A list of classes is for classes and labels" in _find(report, "structure").title
    with pytest.raises(DataError, match="are columns of a CSV"):
        check_data("digits", task="regression")


@pytest.mark.parametrize("task", ["landmarks", "multilabel", "regression"])
def test_the_page_shows_what_the_terminal_says(pictures: Path, task: str) -> None:
    """Points and numbers in a table, labels in a chart; and no classes."""
    if task == "landmarks":
        page = render_page(check_data(_points(pictures, r7="50,5,20,7")))
        assert "<td>nose</td><td>0</td><td>0</td><td>20 – 20</td><td>0 – 23</td>" in page
        assert "48 in all, 0 missing, 1 off the picture (on 1 picture)" in page
    elif task == "multilabel":
        page = render_page(check_data(_table(pictures, "labels", ["a;b", "a"] * 12), task=task))
        assert "<h2>Labels</h2>" in page and "<span>b</span></th>" in page and page.count("<th><img") == 2
    else:
        page = render_page(check_data(_table(pictures, "age", [str(k) for k in range(NUM)]), task=task,
                                      target_columns=["age"]))  # fmt: skip
        assert "<td>age</td><td>0</td><td>0</td><td>11.5</td><td>23</td>" in page
    assert "Classes" not in page and "tiny-class" not in page
