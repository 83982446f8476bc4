"""Bad input: one clear message that names the thing, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

QUICK = ("--epochs", "1", "--model", "mlp", "--img-size", "16", "--workers", "0", "--batch-size", "4")


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_size, p.lstat().st_mtime_ns) for p in sorted(root.rglob("*"))}


def test_missing_data_is_named(holdfast) -> None:
    """DATA that is not there: exit 3, with its path and what could be given."""
    said = holdfast("train", "no/such/folder")
    assert said.code == 3 and "There is nothing at no/such/folder" in said.err


def test_empty_folder_is_named(holdfast, tmp_path: Path) -> None:
    """An empty folder: exit 3."""
    (tmp_path / "empty").mkdir()
    said = holdfast("train", "empty")
    assert said.code == 3 and "empty is an empty folder" in said.err


def test_class_without_pictures_is_named(holdfast, picture_folder: Path) -> None:
    """A class folder with no pictures in it: exit 3, with its path."""
    (picture_folder / "yellow").mkdir()
    said = holdfast("train", picture_folder, *QUICK)
    assert said.code == 3 and "pictures/yellow: no pictures in this class" in said.err


@pytest.mark.row("D1")
def test_class_of_val_unknown_to_train_is_named(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """A class that only val has: exit 3; a class that val lacks: a note, and no index shifts."""
    shutil.copytree(picture_folder, tmp_path / "sets/train")
    shutil.copytree(picture_folder, tmp_path / "sets/val")
    shutil.rmtree(tmp_path / "sets/val/blue")
    said = holdfast("train", "sets", *QUICK)
    assert said.code == 0 and "class 'blue' has no pictures in val" in said.out
    with (tmp_path / "runs/sets-mlp/predictions.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"green", "red"}
    (tmp_path / "sets/val/red").rename(tmp_path / "sets/val/pink")
    said = holdfast("train", "sets", *QUICK, "--out", "other")
    assert said.code == 3 and "class 'pink' is in val but not in train" in said.err


@pytest.mark.row("D1")
def test_numbers_as_classes_are_mapped_in_natural_order(holdfast, picture_folder: Path) -> None:
    """Folders 2, 10, 1: the mapping is printed, 10 after 2."""
    for old, new in (("blue", "2"), ("green", "10"), ("red", "1")):
        (picture_folder / old).rename(picture_folder / new)
    said = holdfast("train", picture_folder, *QUICK)
    assert said.code == 0 and "1→0, 2→1, 10→2" in said.out


@pytest.fixture
def bad_pictures(picture_folder: Path) -> Path:
    """The folder with four pictures that cannot be read: empty, cut short, text, and a truncated PNG."""
    (picture_folder / "red/empty.jpg").write_bytes(b"")
    whole = (picture_folder / "red/1.jpg").read_bytes()
    (picture_folder / "red/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (picture_folder / "green/notes.jpg").write_text("these are not the pixels you are looking for")
    Image.new("RGB", (64, 64), (1, 2, 3)).save(picture_folder / "blue/x.png")
    png = (picture_folder / "blue/x.png").read_bytes()
    (picture_folder / "blue/x.png").write_bytes(png[: len(png) - 30])
    return picture_folder


def test_unreadable_pictures_stop_training_before_it_begins(holdfast, bad_pictures: Path) -> None:
    """All of them at once, by name, with the count; exit 3; DATA is as it was."""
    before = _snapshot(bad_pictures)
    said = holdfast("train", bad_pictures, *QUICK)
    assert said.code == 3
    assert "4 of 28 pictures cannot be read" in said.err
    for name in ("red/empty.jpg", "red/cut.jpg", "green/notes.jpg", "blue/x.png"):
        assert name in said.err
    assert "--on-bad-image skip" in said.err and "epoch" not in said.out
    assert _snapshot(bad_pictures) == before


def test_unreadable_pictures_are_left_out_on_request(holdfast, bad_pictures: Path, tmp_path: Path) -> None:
    """`--on-bad-image skip` trains on the rest, lists them, and the same command resumes."""
    command = ("train", bad_pictures, *QUICK, "--on-bad-image", "skip", "--out", "run")
    said = holdfast(*command)
    assert said.code == 0 and "left out 4 pictures" in said.out
    with (tmp_path / "run/bad_images.csv").open() as file:
        assert sorted(row["path"] for row in csv.DictReader(file)) == [
            "blue/x.png", "green/notes.jpg", "red/cut.jpg", "red/empty.jpg",
        ]  # fmt: skip
    with (tmp_path / "run/split.csv").open() as file:
        assert sum(row["set"] == "" for row in csv.DictReader(file)) == 4
    assert "is finished" in holdfast(*command).out


def test_csv_problems_are_named_all_at_once(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Missing columns; unknown files and empty labels with their lines; exit 3."""
    table = tmp_path / "t.csv"
    table.write_text("picture,kind\nred/1.jpg,red\n")
    said = holdfast("train", table, "--image-dir", picture_folder)
    assert said.code == 3 and "no column for file names" in said.err and "picture, kind" in said.err
    table.write_text("file,label\nred/1.jpg,red\nred/99.jpg,red\nblue/1.jpg,\n")
    said = holdfast("train", table, "--image-dir", picture_folder)
    assert said.code == 3 and "line 3" in said.err and "red/99.jpg is not there" in said.err
    assert "line 4: no label" in said.err


def test_unknown_model_gets_the_nearest_names(holdfast) -> None:
    """Exit 2, with a suggestion."""
    said = holdfast("train", "digits", "--model", "resnet81")
    assert said.code == 2 and "There is no model 'resnet81'" in said.err and "resnet18" in said.err


def test_picture_smaller_than_the_network_takes(holdfast) -> None:
    """Exit 2, naming model and size, for ours and for the zoo."""
    said = holdfast("train", "digits", "--model", "lenet", "--img-size", "4")
    assert said.code == 2 and "lenet needs pictures of 8 × 8" in said.err
    said = holdfast("train", "digits", "--model", "alexnet", "--img-size", "8")
    assert said.code == 2 and "alexnet cannot take pictures of 8 × 8" in said.err


def test_unknown_option_and_key_get_the_nearest(holdfast, tmp_path: Path) -> None:
    """Exit 2 for a flag, a --set key and a key in a file."""
    said = holdfast("train", "digits", "--epoch", "3")
    assert said.code == 2 and "--epochs" in said.err
    said = holdfast("train", "digits", "--set", "batchsize=3")
    assert said.code == 2 and "Did you mean 'batch_size'" in said.err
    (tmp_path / "c.yaml").write_text("epoks: 3\n")
    said = holdfast("train", "digits", "-c", "c.yaml")
    assert said.code == 2 and "'epoks' in c.yaml" in said.err and "epochs" in said.err


def test_out_that_is_not_ours_is_refused(holdfast, tmp_path: Path) -> None:
    """A file, another program's folder: exit 2, and nothing in them is touched."""
    (tmp_path / "file").write_text("mine")
    said = holdfast("train", "digits", "--out", "file")
    assert said.code == 2 and "is a file" in said.err and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.doc").write_text("mine")
    before = _snapshot(tmp_path / "folder")
    said = holdfast("train", "digits", "--out", "folder")
    assert said.code == 2 and "thesis.doc" in said.err and _snapshot(tmp_path / "folder") == before


def test_out_below_a_file_cannot_be_made(holdfast, tmp_path: Path) -> None:
    """A place that cannot be written: exit 1, with the reason. (Root may write anywhere, so no mode bits here.)"""
    (tmp_path / "file").write_text("mine")
    said = holdfast("train", "digits", "--out", "file/run")
    assert said.code == 1 and "Making the run directory file/run" in said.err


def test_changed_recipe_is_refused_with_the_difference(holdfast, tmp_path: Path) -> None:
    """Exit 2, naming setting, old and new value; the run is not touched; --fork goes on elsewhere."""
    first = ("train", "digits", "--model", "mlp", "--epochs", "2", "--out", "run")
    assert holdfast(*first).code == 0
    before = _snapshot(tmp_path / "run/checkpoints")
    said = holdfast(*first, "--lr", "0.5")
    assert said.code == 2 and "lr: 0.002 → 0.5" in said.err
    said = holdfast(*first, "--lr", "0.5", "--batch-size", "64", "--force")
    assert said.code == 2 and "batch_size: 32 → 64" in said.err
    assert _snapshot(tmp_path / "run/checkpoints") == before
    forked = ("train", "digits", "--model", "mlp", "--epochs", "3", "--lr", "0.001", "--out", "run", "--fork", "new")
    said = holdfast(*forked)
    assert said.code == 0 and "forked from" in said.out and "epoch   3/3" in said.out
    assert "new is finished" in holdfast(*forked).out
    assert _snapshot(tmp_path / "run/checkpoints") == before


@pytest.mark.row("S10")
def test_longer_run_goes_on_and_a_shorter_one_is_refused(holdfast) -> None:
    """--epochs N and +N lengthen a run by the stated rule; the words that lengthened it resume it."""
    first = ("train", "digits", "--model", "mlp", "--out", "run")
    assert holdfast(*first, "--epochs", "2").code == 0
    said = holdfast(*first, "--epochs", "3")
    assert said.code == 0 and "from 2 to 3 epochs" in said.out and "epoch   3/3" in said.out
    said = holdfast(*first, "--epochs", "+1")
    assert said.code == 0 and "from 3 to 4 epochs" in said.out
    assert "is finished: 4 epochs" in holdfast(*first, "--epochs", "2").out
    said = holdfast(*first, "--epochs", "1")
    assert said.code == 2 and "has 4 epochs and --epochs asks for 1" in said.err


def test_changed_data_are_refused_with_what_changed(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Files gone, new, moved to another class, rewritten: exit 3, each by name."""
    command = ("train", picture_folder, *QUICK, "--out", "run")
    assert holdfast(*command).code == 0
    (picture_folder / "red/1.jpg").unlink()
    shutil.copy(picture_folder / "red/2.jpg", picture_folder / "red/new.jpg")
    (picture_folder / "blue/3.jpg").rename(picture_folder / "green/blue3.jpg")
    stat = (picture_folder / "green/4.jpg").stat()
    data = bytearray((picture_folder / "green/4.jpg").read_bytes())
    data[-40] ^= 1
    (picture_folder / "green/4.jpg").write_bytes(data)
    os.utime(picture_folder / "green/4.jpg", (stat.st_atime + 3600, stat.st_mtime + 3600))
    said = holdfast(*command)
    assert said.code == 3
    for words in (
        "red/1.jpg: gone",
        "red/new.jpg: new",
        "blue/3.jpg: gone",
        "green/blue3.jpg: new",
        "green/4.jpg: other",
    ):
        assert words in said.err


def test_predict_names_what_it_cannot_read_and_does_the_rest(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Exit 1 after the rest, the error beside its path; a model that is not there is exit 2."""
    assert holdfast("train", picture_folder, *QUICK, "--out", "run").code == 0
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    said = holdfast("predict", "run", "bad.jpg", picture_folder / "red/1.jpg", "gone.jpg", "--json")
    import json

    first, second, third = json.loads(said.out)
    assert said.code == 1 and first["path"] == "bad.jpg" and "not an image" in first["error"]
    assert set(second) == {"path", "class", "index", "probability", "top"} and "error" in third
    said = holdfast("predict", "nothing/here", "bad.jpg")
    assert said.code == 2 and "There is no model at nothing/here" in said.err


def test_second_process_on_one_run_is_refused(cli, tmp_path: Path) -> None:
    """While one process trains, the second gets exit 1 and says who has the run; the first is not disturbed."""
    command = ["train", "digits", "--epochs", "60", "--out", "run", "--log-every", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast", *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert any(line.startswith("step ") for line in first.stdout)
        second = cli(*command)
        assert (
            second.returncode == 1 and f"process {first.pid}" in second.stderr and "is training in run" in second.stderr
        )
        assert first.poll() is None
        first.send_signal(signal.SIGINT)
        rest = first.stdout.read()
        assert first.wait(60) == 130 and "saved" in rest
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast", *command], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as again:
        assert again.stdout is not None
        assert any(line.startswith("resuming run from step") for line in again.stdout)
        again.send_signal(signal.SIGTERM)
        rest = again.stdout.read()
        assert again.wait(60) == 143 and "saved" in rest


def test_a_run_inside_data_is_refused(holdfast, picture_folder: Path) -> None:
    """Nothing is written into DATA, not even the run: exit 2, and DATA is as it was."""
    before = _snapshot(picture_folder)
    said = holdfast("train", picture_folder, *QUICK, "--out", picture_folder / "runs/x")
    assert said.code == 2 and "lies in DATA" in said.err and _snapshot(picture_folder) == before


def test_one_picture_in_two_rows_is_refused(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Left in, it could be in train and test, or in two classes: exit 3, with both lines."""
    (tmp_path / "t.csv").write_text("file,label\nred/1.jpg,red\nblue/1.jpg,blue\nred/1.jpg,blue\n")
    said = holdfast("train", "t.csv", "--image-dir", picture_folder)
    assert said.code == 3 and "line 4: red/1.jpg is 'blue' here and 'red' in line 2" in said.err


def test_rows_in_another_order_are_other_data(holdfast, picture_folder: Path, tmp_path: Path) -> None:
    """Sets are kept by place, so a shuffled CSV must not pass for the same one."""
    rows = [f"{c}/{n}.jpg,{c}" for c in ("blue", "green", "red") for n in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    command = ("train", "t.csv", "--image-dir", picture_folder, *QUICK, "--out", "run")
    assert holdfast(*command).code == 0
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *reversed(rows)]))
    said = holdfast(*command)
    assert said.code == 3 and "in another order" in said.err


def test_a_start_that_failed_leaves_nothing_to_trip_over(holdfast) -> None:
    """No checkpoint, nothing begun: the corrected command runs under its own recipe."""
    said = holdfast("train", "digits", *QUICK, "--out", "run", "--weights", "nowhere.pth")
    assert said.code == 2 and "nowhere.pth: there is no such file" in said.err
    assert holdfast("train", "digits", *QUICK, "--out", "run").code == 0


def test_divergence_is_an_error_and_never_the_best(holdfast, tmp_path: Path) -> None:
    """A loss that is no number: exit 1, what to do, no model handed on, earlier checkpoints kept."""
    said = holdfast("train", "digits", *QUICK, "--optimizer", "sgd", "--lr", "1e30", "--out", "run")
    assert said.code == 1 and "The loss is not a number any more" in said.err
    assert not (tmp_path / "run/best.safetensors").exists()


def test_a_fork_that_stopped_before_its_first_save_is_forked_again(holdfast, tmp_path: Path) -> None:
    """The same command again begins with the source's weights, never with fresh ones."""
    base = ("train", "digits", "--model", "mlp", "--img-size", "8")
    assert holdfast(*base, "--epochs", "2", "--out", "run").code == 0
    fork = (*base, "--epochs", "4", "--weight-decay", "0.5", "--out", "run")
    assert "forked from" in holdfast(*fork, "--fork", "whole").out
    assert "forked from" in holdfast(*fork, "--fork", "cut").out
    shutil.rmtree(tmp_path / "cut/checkpoints")
    (tmp_path / "cut/summary.json").unlink()
    said = holdfast(*fork, "--fork", "cut")
    assert said.code == 1 and "has a model (best.safetensors) and no checkpoint any more" in said.err
    (tmp_path / "cut/best.safetensors").unlink()
    assert "forked from" in holdfast(*fork, "--fork", "cut").out
    newest = max((tmp_path / "whole/checkpoints").glob("step-*")).name
    for part in ("model", "optimizer"):
        one, other = (tmp_path / run / "checkpoints" / newest / f"{part}.safetensors" for run in ("whole", "cut"))
        assert one.read_bytes() == other.read_bytes()
    state = (tmp_path / "whole/checkpoints" / newest / "state.json").read_text()
    assert '"weight_decay":0.5' in state and '"weight_decay":0.02' not in state


def test_a_damaged_best_does_not_stop_the_end(holdfast, tmp_path: Path) -> None:
    """The best checkpoint damaged: best.safetensors, made at its best, stands in; damaged too, it is made anew."""
    import json

    command = ("train", "digits", "--model", "mlp", "--img-size", "8", "--epochs", "3", "--out", "run")
    assert holdfast(*command).code == 0
    run = tmp_path / "run"
    best = json.loads((run / "summary.json").read_text())["best_step"]
    whole = (run / "best.safetensors").read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 4
    (run / "best.safetensors").write_bytes(flipped)
    (run / "summary.json").unlink()
    assert holdfast(*command).code == 0
    assert (run / "best.safetensors").read_bytes() == whole
    victim = run / "checkpoints" / f"step-{best:08d}" / "model.safetensors"
    data = bytearray(victim.read_bytes())
    data[-9] ^= 4
    newest = max((run / "checkpoints").glob("step-*"))
    if newest.name != victim.parent.name:
        victim.write_bytes(data)
        (run / "summary.json").unlink()
        assert holdfast(*command).code == 0
        assert (run / "best.safetensors").read_bytes() == whole
