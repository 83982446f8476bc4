"""`holdfast check` by its real command line, and the short form before training."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.row("D1")
def test_a_folder_with_every_fault_is_told_in_one_run(cli, faulty: ModuleType, tmp_path: Path) -> None:
    """Exit 3, one line a fault, valid JSON of the same, and a page; nothing else is written."""
    root = faulty.make_faulty_folder(tmp_path / "data")
    before = {p: p.lstat().st_mtime_ns for p in root.rglob("*")}
    said = cli("check", root, "--html", "page.html")
    assert said.returncode == 3 and "9 errors" in said.stdout and "Traceback" not in said.stderr
    assert "train/ants/cut.jpg: damaged or cut short" in said.stdout
    value = json.loads(cli("check", root, "--json").stdout)
    codes = [finding["code"] for finding in value["findings"] if finding["severity"] == "error"]
    assert codes == ["unreadable", "empty", "not-a-picture", "damaged", "bomb", "duplicate-labels"]
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert {p: p.lstat().st_mtime_ns for p in root.rglob("*")} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "page.html"]


def test_sound_pictures_are_exit_0_and_strict_minds_warnings(holdfast, faulty: ModuleType, tmp_path: Path) -> None:
    """A leak is a warning, exit 0; with --strict it is exit 3; --quiet says nothing where there is no error."""
    root = faulty.make_sound_folder(tmp_path / "data")
    assert holdfast("check", root, "--quiet").out == ""
    shutil.copy(root / "train/ants/0.jpg", root / "val/ants/leak.jpg")
    said = holdfast("check", root)
    assert said.code == 0 and "equal contents in more than one set" in said.out
    assert holdfast("check", root, "--strict", "--quiet").code == 3
    assert holdfast("check", root, "--no-duplicates", "--strict").code == 0


def test_groups_by_a_regex_that_leak_are_told(holdfast, faulty: ModuleType, tmp_path: Path) -> None:
    """--group-by with a regular expression on the path; one that is none is a usage error."""
    root = faulty.make_sound_folder(tmp_path / "data")
    assert "in more than one set" in holdfast("check", root, "--group-by", r"/(\d+)\.jpg").out
    assert holdfast("check", root, "--group-by", "(").code == 2


def test_training_stops_at_contradictions_and_warns_of_leaks(holdfast, faulty: ModuleType, tmp_path: Path) -> None:
    """The short form: equal pictures with two labels are exit 3, named; leaks are a line each, and it trains."""
    root = faulty.make_sound_folder(tmp_path / "data")
    shutil.copy(root / "train/ants/0.jpg", root / "val/ants/leak.jpg")
    (root / "val/ants/resaved.jpg").write_bytes(faulty.jpeg(4, (60, 45), 60))  # train/ants/3.jpg, smaller
    train = ("train", root, "--model", "mlp", "--img-size", "16", "--epochs", "1", "--workers", "0")
    said = holdfast(*train, "--out", "leaky")
    assert said.code == 0, said.err
    for what in ("with equal contents", "that look the same"):
        assert f"1 group of pictures {what} in more than one set: `holdfast check {root}` shows them" in said.out
    shutil.copy(root / "train/ants/1.jpg", root / "train/bees/liar.jpg")
    said = holdfast(*train, "--out", "liar")
    assert said.code == 3 and "train/ants/1.jpg (ants)  =  train/bees/liar.jpg (bees)" in said.err
    assert holdfast(*train, "--out", "all-the-same", "--on-bad-image", "skip").code == 0


def test_real_photographs_are_described(holdfast, real_data: Path) -> None:
    """The large photographs: two lie on their side, and there are no class folders to train on."""
    said = holdfast("check", real_data / "large_photos", "--json")
    value = json.loads(said.out)
    assert said.code == 3 and value["num_good"] == value["num_pictures"] == 32
    assert value["tables"]["orientation"] == {"1 upright": 30, "6 sideways": 2}
    assert [f["code"] for f in value["findings"] if f["severity"] == "error"] == ["no-classes"]


def test_cifar_has_near_duplicates_and_no_leak(holdfast, real_data: Path, tmp_path: Path) -> None:
    """Two thousand four hundred pictures of CIFAR hold a deer and a frog twice, and nothing that stops training."""
    with tarfile.open(real_data / "cifar10_subset/cifar10_subset.tar.gz") as archive:
        wanted = ("/train/frog/", "/train/deer/", "/test/frog/", "/test/deer/")
        members = [m for m in archive if any(part in m.name for part in wanted)]
        archive.extractall(tmp_path, members, filter="data")
    value = json.loads(holdfast("check", tmp_path / "cifar10_subset", "--json").out)
    assert value["ok"]
    (near,) = [f for f in value["findings"] if f["code"] == "near-duplicate-within-set"]
    assert [item["pictures"] for item in near["items"]] == [
        ["train/deer/0429.jpg", "train/deer/3517.jpg"],
        ["train/frog/2704.jpg", "train/frog/3246.jpg"],
    ]
