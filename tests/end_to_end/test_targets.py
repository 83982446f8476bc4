"""Points, labels and numbers from a CSV: train, stop in the middle, resume, val, predict, show."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TABLES = {"landmarks": "points.csv", "multilabel": "labels.csv", "regression": "numbers.csv"}
SMALL = ("--model", "mlp", "--img-size", "16", "--batch-size", "4", "--epochs", "3", "--workers", "0")


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Thirty pictures of different sizes with a bright square on them, and tables of its place, colours and area."""
    root = tmp_path / "squares"
    root.mkdir()
    draw = np.random.default_rng(5)
    points, labels, numbers = ["file,left_x,left_y,right_x,right_y"], ["file,labels"], ["file,area,warmth"]
    for k in range(30):
        width, height = (int(v) for v in draw.integers(24, 60, 2))
        x, y, side = int(draw.integers(0, width - 12)), int(draw.integers(0, height - 12)), int(draw.integers(4, 12))
        colour = [int(v) for v in draw.integers(0, 2, 3) * 200]
        pixels = np.full((height, width, 3), 40, np.uint8)
        pixels[y : y + side, x : x + side] = colour
        exif = Image.Exif()
        if k % 5 == 0:  # lies on its side, as phones write it: the table speaks of the upright picture
            exif[0x0112] = 6
            pixels = np.ascontiguousarray(np.rot90(pixels))
        Image.fromarray(pixels).save(root / f"{k}.jpg", quality=95, exif=exif)
        right = f"{x + side - 1},{y + side - 1}" if k % 6 else ","
        points.append(f"{k}.jpg,{x},{y},{right}")
        labels.append(f"{k}.jpg,{';'.join(n for n, on in zip(('red', 'green', 'blue'), colour, strict=True) if on)}")
        numbers.append(f"{k}.jpg,{side * side * 100},{'' if k % 7 == 0 else colour[0] - colour[2]}")
    for name, rows in zip(TABLES.values(), (points, labels, numbers), strict=True):
        (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _said_by_predict(task: str, prediction: dict) -> dict[str, str]:
    """The cells that predictions.csv should have, of what `predict --json` said."""
    if task == "landmarks":
        return {f"{p['name']}_{axis}": str(p[axis]) for p in prediction["points"] for axis in "xy"}
    if task == "multilabel":
        return {name: str(p) for name, p in prediction["probabilities"].items()}
    return {f"{name}_predicted": str(value) for name, value in prediction["values"].items()}


@pytest.mark.row("D3", "S10", "U1", "U2")
@pytest.mark.parametrize("task", TABLES)
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_on_the_same_bytes(
    holdfast, squares: Path, tmp_path: Path, task: str
) -> None:
    """With every augmentation of the task: cut back to a step within an epoch, the same command ends on the same
    weights; and predictions.csv, `val --csv` and `predict --json` say the same to the bit."""
    command = ("train", squares / TABLES[task], "--task", task, *SMALL, "--save-every", "1", "--keep", "all")
    if task == "regression":
        command = (*command, "--target-columns", "area,warmth")
    said = holdfast(*command, "--out", "run")
    assert said.code == 0, said.err
    shutil.copytree(tmp_path / "run", tmp_path / "cut")
    steps = {int(path.name.removeprefix("step-")): path for path in (tmp_path / "cut/checkpoints").glob("step-*")}
    per_epoch = max(steps) // 3
    middle = max(step for step in steps if step % per_epoch and step < 2 * per_epoch)  # within the second epoch
    for step in steps:  # as if it had been killed then
        if step > middle:
            shutil.rmtree(steps[step])
    for name in ("summary.json", "best.safetensors", "predictions.csv"):
        (tmp_path / "cut" / name).unlink()
    said = holdfast(*command, "--out", "cut", "--workers", "1")
    assert said.code == 0 and f"resuming cut from step {middle} of" in said.out, said.err
    last = steps[max(steps)].name
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (tmp_path / run / "checkpoints" / last / name for run in ("run", "cut"))
        assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "run/predictions.csv").read_bytes() == (tmp_path / "cut/predictions.csv").read_bytes()

    rows = {row["path"]: row for row in _rows(tmp_path / "run/predictions.csv") if row["set"] == "val"}
    val = holdfast("val", "run", "--csv", "val.csv", "--json")
    assert val.code == 0, val.err
    for row in _rows(tmp_path / "val.csv"):
        assert row == {key: value for key, value in rows[row["path"]].items() if key != "set"}
    figures, summary = json.loads(val.out), json.loads((tmp_path / "run/summary.json").read_text())["val"]
    assert {k: v for k, v in figures.items() if k in summary} == {k: v for k, v in summary.items() if k in figures}
    asked = [squares / name for name in rows][::-1]
    for prediction in json.loads(holdfast("predict", "run", *asked, "--json").out):
        row = rows[Path(prediction["path"]).name]
        said_cells = _said_by_predict(task, prediction)
        assert said_cells == {key: row[key] for key in said_cells}


@pytest.mark.row("D3", "D6")
@pytest.mark.parametrize("task", TABLES)
def test_decoded_pictures_kept_or_not_end_on_the_same_bytes(
    holdfast, squares: Path, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a cache; and with one on disk up to the middle of an epoch, then one in memory: the same weights."""
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    command = ("train", squares / TABLES[task], "--task", task, *SMALL, "--save-every", "1", "--keep", "all")
    command = (*command, "--augment", "none", *(("--target-columns", "area") if task == "regression" else ()))
    assert holdfast(*command, "--out", "off", "--cache", "off").code == 0
    assert holdfast(*command, "--out", "kept", "--cache", "disk").code == 0
    assert list((tmp_path / "cache").rglob("*.pictures"))
    steps = {int(path.name.removeprefix("step-")): path for path in (tmp_path / "kept/checkpoints").glob("step-*")}
    middle = max(step for step in steps if step % (max(steps) // 3) and step < 2 * max(steps) // 3)
    for step in steps:  # as if it had been killed then
        if step > middle:
            shutil.rmtree(steps[step])
    for name in ("summary.json", "best.safetensors", "predictions.csv"):
        (tmp_path / "kept" / name).unlink()
    said = holdfast(*command, "--out", "kept", "--cache", "ram", "--workers", "1")
    assert said.code == 0 and f"resuming kept from step {middle} of" in said.out, said.err
    for name in (f"checkpoints/{steps[max(steps)].name}/model.safetensors", "predictions.csv"):
        assert (tmp_path / "off" / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


@pytest.mark.row("D3")
def test_the_best_of_points_is_the_least_error(holdfast, squares: Path, tmp_path: Path) -> None:
    """The best epoch in best.safetensors and `runs/x@best` is the one whose NME in results.csv is the least."""
    assert holdfast("train", squares / "points.csv", *SMALL, "--out", "run", "--tensorboard").code == 0
    results = _rows(tmp_path / "run/results.csv")
    assert list(results[0]) == ["epoch", "step", "train_loss", "val_loss", "val_nme", "lr"]
    least = min(results, key=lambda row: float(row["val_nme"]))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["best_epoch"] == int(least["epoch"]) and summary["task"] == "landmarks"
    assert summary["val"]["nme"] == pytest.approx(float(least["val_nme"]))
    assert list(summary["val"]["per_point"]) == ["left", "right"]
    assert f"step-{int(least['step']):08d}" in json.loads(holdfast("val", "run@best", "--json").out)["model"]


@pytest.mark.row("D3")
def test_points_come_back_in_pixels_of_the_upright_picture(holdfast, squares: Path, tmp_path: Path) -> None:
    """`predict --json` gives the upright picture's size, also of one that lies on its side, and its points."""
    assert holdfast("train", squares / "points.csv", *SMALL, "--epochs", "1", "--out", "run").code == 0
    for name in ("0.jpg", "1.jpg"):
        with Image.open(squares / name) as image:
            size = image.size[::-1] if name == "1.jpg" else image.size
        (prediction,) = json.loads(holdfast("predict", "run", squares / name, "--json").out)
        assert [prediction["height"], prediction["width"]] == list(size)
        assert [point["name"] for point in prediction["points"]] == ["left", "right"]
        assert all(math.isfinite(point[axis]) for point in prediction["points"] for axis in "xy")


def test_a_changed_target_is_no_longer_the_runs_data(holdfast, squares: Path) -> None:
    """A coordinate that was changed since the run began is found, by picture, before a step is made."""
    table = squares / "points.csv"
    assert holdfast("train", table, *SMALL, "--epochs", "1", "--out", "run").code == 0
    table.write_text(table.read_text().replace("7.jpg,", "7.jpg,9", 1))
    said = holdfast("train", table, *SMALL, "--out", "run")
    assert said.code != 0 and "7.jpg: its target was" in said.err


@pytest.mark.row("D3", "D7")
def test_show_draws_points(holdfast, squares: Path, tmp_path: Path) -> None:
    """Green dots stand on the grid, as the pictures are and as training would see them."""
    for extra in ((), ("--augment", "crop+affine+flip+color")):
        said = holdfast("show", squares / "points.csv", "-n", "6", "--img-size", "32", *extra, "--json")
        assert said.code == 0, said.err
        pixels = np.asarray(Image.open(tmp_path / "grid.png")).reshape(-1, 3)
        assert (pixels == (0, 230, 90)).all(1).sum() > 6
        assert json.loads(said.out)["points"] == ["left", "right"]


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        ("points.csv", ("--augment", "crop+flip", "--flip-pairs", "none"), "nothing says which points change places"),
        ("numbers.csv", ("--task", "regression"), "no column for numbers that we recognise"),
        ("numbers.csv", ("--task", "landmarks"), "has no columns of points"),
        ("points.csv", ("--keep", "best:1:accuracy"), "a run does not measure 'accuracy'"),
    ],
)
def test_what_cannot_be_meant_is_said_and_nothing_is_made(
    holdfast, squares: Path, tmp_path: Path, table: str, arguments: tuple[str, ...], message: str
) -> None:
    """One message, exit code 1 or 2, and no run directory."""
    said = holdfast("train", squares / table, *SMALL, "--out", "run", *arguments)
    assert said.code in (1, 2, 3) and message in said.err
    assert not (tmp_path / "run").exists()


def test_the_pairs_of_a_face_are_asked_for_until_they_are_given(holdfast, squares: Path) -> None:
    """68 points without names of left and right bring a hint; with --flip-pairs there is nothing left to say."""
    names = [line.split(",")[0] for line in (squares / "points.csv").read_text().splitlines()[1:]]
    header = ",".join(f"x{k},y{k}" for k in range(68))
    row = ",".join(f"{k % 9 + 5},{k % 7 + 5}" for k in range(68))
    (squares / "face.csv").write_text(f"file,{header}\n" + "".join(f"{name},{row}\n" for name in names))
    hint = "--flip-pairs 68 lets training mirror"
    command = ("train", squares / "face.csv", *SMALL[:-4], "--workers", "0", "--epochs", "1")
    assert hint in holdfast(*command, "--out", "without").out
    said = holdfast(*command, "--flip-pairs", "68", "--out", "with")
    assert said.code == 0 and "68 points" in said.out and hint not in said.out
    assert hint in holdfast("show", squares / "face.csv").out
    assert hint not in holdfast("show", squares / "face.csv", "--flip-pairs", "68").out


def test_check_takes_what_train_takes(holdfast, squares: Path, tmp_path: Path) -> None:
    """`--task` and `--target-columns` mean the same; without them points are recognised by both."""
    value = json.loads(holdfast("check", squares / "points.csv", "--json").out)
    assert (value["task"], value["points"], value["num_pictures"]) == ("landmarks", ["left", "right"], 30)
    assert [row["num_missing"] for row in value["targets"]] == [0, 5]
    numbers = ("check", squares / "numbers.csv", "--task", "regression", "--target-columns", "area,warmth")
    value = json.loads(holdfast(*numbers, "--json").out)
    assert [row["num_missing"] for row in value["targets"]] == [0, 5]
    said = holdfast("check", squares / "labels.csv", "--task", "multilabel", "--html", "page.html")
    assert said.code == 0 and "30 pictures, 3 labels" in said.out
    assert "<h2>Labels</h2>" in (tmp_path / "page.html").read_text()
    assert holdfast("check", squares, "--task", "landmarks").code == 3


def test_training_names_the_check_that_reads_as_it_does(holdfast, squares: Path) -> None:
    """Two equal pictures with other numbers are warned of, and the command to look at them has the same options."""
    shutil.copy(squares / "1.jpg", squares / "2.jpg")
    options = ("--task", "regression", "--target-columns", "area,warmth")
    said = holdfast("train", squares / "numbers.csv", *options, *SMALL[:-4], "--workers", "0", "--epochs", "1")
    command = f"holdfast check {squares / 'numbers.csv'} {' '.join(options)}"
    assert said.code == 0 and f"different numbers: `{command}` shows them" in said.out
    assert "different numbers" in holdfast(*command.split()[1:]).out
