"""CSVs of points, labels and numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from holdfast.data import Loader, open_data, read_landmarks, read_multilabel, read_regression
from holdfast.data.tables.annotations import AnnotatedPictures
from holdfast.data.targets import Targets
from holdfast.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of 40 × 30 pixels (width × height)."""
    for name in "abcd":
        Image.new("RGB", (40, 30), (90, 90, 90)).save(tmp_path / f"{name}.png")
    return tmp_path


def _table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _targets(pictures: object) -> Targets:
    assert isinstance(pictures, AnnotatedPictures)
    return pictures.targets


@pytest.mark.row("D3")
def test_points_are_read_with_those_that_are_missing(folder: Path) -> None:
    """Columns in pairs become `[N, P, 2]`; an empty cell and NaN are missing, and both are counted in a notice."""
    table = _table(folder, "file,nose_x,nose_y,chin_x,chin_y\na.png,1,2,3.5,4\nb.png,,,5,6\nc.png,7,8,NaN,nan\n")
    collection = read_landmarks(table)
    targets = _targets(collection.pictures)
    assert (targets.task, targets.names) == ("landmarks", ["nose", "chin"])
    nan = math.nan
    np.testing.assert_array_equal(targets.values, [[[1, 2], [3.5, 4]], [[nan, nan], [5, 6]], [[7, 8], [nan, nan]]])
    assert targets.sizes is not None and targets.sizes.tolist() == [[30, 40]] * 3
    assert any("2 points are missing, on 2 pictures" in notice for notice in collection.notices)


@pytest.mark.row("D3")
def test_points_off_their_picture_are_kept_and_said(folder: Path) -> None:
    """Points left of, below or right of the picture stay, and a notice counts them; the last pixel is on it."""
    rows = "a.png,-1,5,39,29\nb.png,5,31,20,20\nc.png,41,2,-9,2\nd.png,0,0,1,1\n"
    collection = read_landmarks(_table(folder, f"file,p_x,p_y,q_x,q_y\n{rows}"))
    assert _targets(collection.pictures).values[0, 0].tolist() == [-1, 5]
    assert any("4 points lie off their picture, on 3 pictures" in notice for notice in collection.notices)


@pytest.mark.row("D3")
def test_the_real_faces_are_read(real_data: Path) -> None:
    """69 faces with 68 points each; six of them have points off the picture, and the 68 pairs are offered."""
    collection = read_landmarks(real_data / "faces/face_landmarks.csv")
    targets = _targets(collection.pictures)
    assert targets.values.shape == (69, 68, 2) and not np.isnan(targets.values).any()
    assert targets.names[0] == "part_0" and collection.sets == {}
    assert any("points lie off their picture, on 6 pictures" in notice for notice in collection.notices)
    assert any("--flip-pairs 68" in notice for notice in collection.notices)
    # What the header says is what the decoder gives.
    for index in (0, 20, 68):
        assert list(collection.pictures.read(index).shape[1:]) == targets.sizes[index].tolist()  # type: ignore[index]


@pytest.mark.row("D3")
def test_a_strangers_loop_gets_picture_and_points_through_v2(folder: Path) -> None:
    """A plain torchvision v2 pipeline in our loader sees `KeyPoints`, and the batch has points in its pixels."""
    collection = read_landmarks(
        _table(folder, "file,p_x,p_y\na.png,4,6\nb.png,8,10\nc.png,,\nd.png,2,2\n".replace("c.png,,\n", ""))
    )
    seen = []

    class Look(v2.Transform):
        def transform(self, inpt: object, params: dict[str, object]) -> object:  # noqa: ARG002  # torchvision's
            seen.append(type(inpt))
            return inpt

    pipeline = v2.Compose([Look(), v2.Resize((15, 20)), v2.ToDtype(torch.float32, scale=True)])
    batch = next(iter(Loader(collection.pictures, batch_size=3, transform=pipeline)))
    assert batch.inputs.shape == (3, 3, 15, 20) and batch.inputs.dtype == torch.float32
    assert batch.targets.tolist() == [[[2, 3]], [[4, 5]], [[1, 1]]] and type(batch.targets) is torch.Tensor
    assert set(seen) == {tv_tensors.Image, tv_tensors.KeyPoints}


def test_a_picture_that_was_made_smaller_has_its_points_in_its_own_pixels(folder: Path) -> None:
    """A cache or scaled decoding may hand over a smaller image: the target goes with it."""
    targets = _targets(read_landmarks(_table(folder, "file,p_x,p_y\na.png,19.5,14.5\n")).pictures)
    assert torch.as_tensor(targets.of(0, torch.zeros(3, 30, 40))).tolist() == [[19.5, 14.5]]
    assert torch.as_tensor(targets.of(0, torch.zeros(3, 15, 10))).tolist() == [[4.5, 7.0]]


def test_pictures_that_lie_on_their_side_have_upright_sizes(folder: Path) -> None:
    """A phone's picture says in EXIF that it is turned: height and width are those of the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (40, 30)).save(folder / "turned.png", exif=exif)
    collection = read_landmarks(_table(folder, "file,p_x,p_y\nturned.jpg,1,2\nturned.png,1,2\n"))
    for index in (0, 1):
        assert list(collection.pictures.read(index).shape[1:]) == [40, 30]
    assert _targets(collection.pictures).sizes.tolist() == [[40, 30]] * 2  # type: ignore[union-attr]


def test_fails_on_points_that_cannot_be_read(folder: Path) -> None:
    """Everything that is wrong in a table of points is said at once, by line."""
    table = _table(folder, "file,p_x,p_y,q_x,q_y\na.png,1,,2,2\nb.png,one,2,3,3\nc.png,,,,\nz.png,1,1,inf,2\n")
    with pytest.raises(DataError) as failure:
        read_landmarks(table)
    for part in (
        "line 2: point p has one of x and y only",
        "line 3: 'one' in column 'p_x' is no number",
        "line 4: not one point",
        "z.png is not there",
        "line 5: 'inf' in column 'q_x' is no number",
    ):
        assert part in str(failure.value)
    with pytest.raises(DataError, match="no columns of points"):
        read_landmarks(_table(folder, "file,label\na.png,x\n"))


@pytest.mark.parametrize("separator", [";", "|", ",", " "])
def test_several_labels_in_one_cell(folder: Path, separator: str) -> None:
    """A cell lists labels with any usual sign between them; an empty one is a picture without labels."""
    cell = separator.join(["dog", "cat"])
    collection = read_multilabel(_table(folder, f'file\tlabels\na.png\t"{cell}"\nb.png\tcat\nc.png\t\n'))
    targets = _targets(collection.pictures)
    assert targets.names == ["cat", "dog"]
    assert targets.values.tolist() == [[1, 1], [1, 0], [0, 0]] and targets.values.dtype == np.float32
    assert [targets.text(i) for i in range(3)] == ["cat|dog", "cat", ""]
    assert any("cat 2, dog 1" in notice for notice in collection.notices)


def test_several_labels_as_columns_of_0_and_1(folder: Path) -> None:
    """The columns named are the labels, in that order; another number is refused by line."""
    table = _table(folder, "file,sunny,warm\na.png,1,0\nb.png,0,1\n")
    targets = _targets(read_multilabel(table, columns=["warm", "sunny"]).pictures)
    assert (targets.names, targets.values.tolist()) == (["warm", "sunny"], [[0, 1], [1, 0]])
    assert _targets(read_multilabel(table, labels=["warm", "sunny"]).pictures).values.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DataError, match="line 3: column 'warm' is not 0 or 1"):
        read_multilabel(_table(folder, "file,sunny,warm\na.png,1,0\nb.png,0,2\n"), columns=["warm"])


def test_rare_labels_reach_every_set(folder: Path) -> None:
    """The groups by which pictures are divided are their rarest labels."""
    targets = _targets(read_multilabel(_table(folder, "file,labels\na.png,a;b\nb.png,a\nc.png,a\nd.png,\n")).pictures)
    labels, names = targets.strata()
    assert [names[k] for k in labels] == ["b", "a", "a", "(no label)"]


def test_fails_on_labels_that_are_not_listed_or_absent(folder: Path) -> None:
    """With a list of labels, another one is refused; a table without any label too."""
    with pytest.raises(DataError, match="line 2: label 'dog' is not in the list"):
        read_multilabel(_table(folder, "file,labels\na.png,cat;dog\n"), labels=["cat"])
    with pytest.raises(DataError, match="no column 'warm'"):  # one of two that are columns: the other is missing
        read_multilabel(_table(folder, "file,sunny\na.png,1\n"), labels=["warm", "sunny"])
    with pytest.raises(DataError, match="no picture has a label"):
        read_multilabel(_table(folder, "file,labels\na.png,\nb.png,\n"))


def test_numbers_are_read_with_those_that_are_missing(folder: Path) -> None:
    """One or several columns become `[N, K]` float64; a row without any is refused."""
    collection = read_regression(
        _table(folder, "file,age,height\na.png,3,1.5\nb.png,,2e2\n"), columns=["height", "age"]
    )
    targets = _targets(collection.pictures)
    np.testing.assert_array_equal(targets.values, [[1.5, 3], [200, math.nan]])
    assert any("age: from 3 to 3, 1 missing" in notice for notice in collection.notices)
    with pytest.raises(DataError, match="line 3: not one number"):
        read_regression(_table(folder, "file,label\na.png,1\nb.png,\n"))
    with pytest.raises(DataError, match="no column 'weight'"):
        read_regression(_table(folder, "file,age\na.png,1\n"), columns=["weight"])
    with pytest.raises(DataError, match=r"lacks 2 of the 3 columns asked for:\n  weight\n  height\n.*file, age\."):
        read_regression(_table(folder, "file,age\na.png,1\n"), columns=["weight", "age", "height"])


@pytest.mark.parametrize(
    ("header", "task"),
    [("file,p_x,p_y", "landmarks"), ("file,p_x,p_y,label", "classification"), ("file,label", "classification")],
)
def test_the_task_is_guessed_only_where_columns_can_mean_one(folder: Path, header: str, task: str) -> None:
    """Pairs of x and y without a column of labels are points; all else are classes, unless asked."""
    rows = "".join(f"{name}.png" + f",{k}" * header.count(",") + "\n" for k, name in enumerate("ab"))
    pictures = open_data(str(_table(folder, f"{header}\n{rows}"))).pictures
    assert getattr(getattr(pictures, "targets", None), "task", "classification") == task
    asked = open_data(str(folder / "table.csv"), task="regression", target_columns=[header.split(",")[1]])
    assert _targets(asked.pictures).task == "regression"


def test_fails_on_columns_and_tasks_that_do_not_go_together(folder: Path) -> None:
    """Target columns are for numbers and labels; tasks other than classes need a CSV."""
    table = str(_table(folder, "file,label\na.png,1\nb.png,2\n"))
    with pytest.raises(DataError, match="--target-columns label is for --task regression"):
        open_data(table, target_columns=["label"])
    with pytest.raises(DataError, match=r"the task is regression\. Leave out --classes"):
        open_data(table, task="regression", classes=["1", "2"])
    with pytest.raises(DataError, match="--task landmarks are columns of a CSV"):
        open_data("digits", task="landmarks")


def test_the_fingerprint_changes_with_a_target(folder: Path) -> None:
    """Another coordinate, other data."""
    one = read_landmarks(_table(folder, "file,p_x,p_y\na.png,1,2\n")).pictures.fingerprint()
    same = read_landmarks(_table(folder, "file,p_x,p_y\na.png,1.0,2\n")).pictures.fingerprint()
    other = read_landmarks(_table(folder, "file,p_x,p_y\na.png,1.5,2\n")).pictures.fingerprint()
    assert one == same != other
