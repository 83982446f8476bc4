"""The whole check, on folders, tables and arrays, sound and not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from holdfast.data.arrays import ArrayPictures
from holdfast.data.check import Finding, Report, check_data
from holdfast.data.check import layout as layout_module
from holdfast.data.check.page import render_page
from holdfast.data.idx import read_idx_folder
from holdfast.data.sample import Collection
from holdfast.errors import ConfigError, DataError


def _find(report: Report, code: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.code == code]
    return found


def _codes(report: Report, severity: str) -> set[str]:
    return {finding.code for finding in report.of(severity)}


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(root.rglob("*"))}


def test_a_sound_folder_has_no_errors_and_no_warnings(faulty: ModuleType, tmp_path: Path) -> None:
    """Three sets of two classes of different pictures: nothing to complain of, and nothing written."""
    root = faulty.make_sound_folder(tmp_path / "data")
    before = _snapshot(tmp_path)
    report = check_data(str(root))
    assert report.ok and not report.of("warning") and len(report.facts) == 72
    assert _snapshot(tmp_path) == before


def test_pictures_named_by_absolute_paths_are_read_where_they_are(faulty: ModuleType, tmp_path: Path) -> None:
    """A table may name pictures outside its own folder by their whole paths."""
    root = faulty.make_sound_folder(tmp_path / "data")
    files = sorted((root / "train").rglob("*.jpg"))
    (tmp_path / "beside").mkdir()
    table = tmp_path / "beside" / "table.csv"
    table.write_text("path,label\n" + "".join(f"{f},{f.parent.name}\n" for f in files), encoding="utf-8")
    report = check_data(str(table))
    assert report.ok and len(report.facts) == len(files) > 0


def test_every_fault_is_found_at_once_and_by_name(faulty: ModuleType, tmp_path: Path) -> None:
    """One pass over a folder with everything wrong names each file under its own code, and nothing else."""
    report = check_data(str(faulty.make_faulty_folder(tmp_path)), group_by=r"/(\d+)\.jpg")
    found = {
        finding.code: sorted({report.layout.names[i].split("/", 1)[1] for item in finding.items for i in item.pictures})
        for finding in report.findings
        if finding.items and finding.code != "group-across-sets"
    }
    rare = ["bees/alpha.png", "bees/cmyk.jpg", "bees/deep.png", "bees/grey.jpg", "bees/moves.gif"]
    assert found == {
        "unreadable": ["ants/gone.jpg"],
        "empty": ["ants/empty.jpg"],
        "not-a-picture": ["ants/page.jpg", "ants/phone.jpg", "ants/zeros.png"],
        "damaged": sorted([f"ants/{faulty.EVIL}", "ants/cut.jpg"]),
        "bomb": ["ants/bomb.png"],
        "duplicate-labels": ["ants/1.jpg", "bees/liar.jpg"],
        "wrong-type": ["ants/really.png"],
        "duplicate-across-sets": ["ants/0.jpg", "ants/leak.jpg"],
        "near-duplicate-labels": ["ants/4.jpg", "bees/almost.jpg"],
        "near-duplicate-across-sets": ["ants/3.jpg", "ants/resaved.jpg"],
        "duplicate-within-set": ["ants/2.jpg", "ants/twice.jpg"],
        "sideways": ["bees/sideways.jpg"],
        "cmyk": ["bees/cmyk.jpg"],
        "deep": ["bees/deep.png"],
        "transparent": ["bees/alpha.png"],
        "animated": ["bees/moves.gif"],
        "small": ["bees/small.png"],
        "long": ["bees/long.jpg"],
        "rare-mode": rare,
    }
    assert len(_find(report, "group-across-sets").items) == 12
    left_out = " ".join(one.title for one in report.findings if one.code == "left-out")
    assert "unopened: train/ants/pipe.jpg" in left_out and "train/ants/labels.txt" in left_out
    assert not any("._0" in name or "Thumbs" in name for name in report.layout.names)


def test_warnings_are_errors_when_asked(faulty: ModuleType, tmp_path: Path) -> None:
    """strict=True turns a copy in two sets into an error."""
    root = faulty.make_sound_folder(tmp_path)
    (root / "val/ants/leak.jpg").write_bytes((root / "train/ants/0.jpg").read_bytes())
    assert check_data(str(root)).ok
    strict = check_data(str(root), strict=True)
    assert not strict.ok and _codes(strict, "error") == {"duplicate-across-sets"}


def test_copies_are_looked_for_as_far_as_asked(faulty: ModuleType, tmp_path: Path) -> None:
    """None looks for equal files only, duplicates=False for none."""
    root = str(faulty.make_faulty_folder(tmp_path))
    quick = {f.code for f in check_data(root, near_distance=None).findings}
    none = {f.code for f in check_data(root, duplicates=False).findings}
    assert "duplicate-labels" in quick and not any(code.startswith("near") for code in quick)
    assert not any("duplicate" in code for code in none)


def test_class_lists_that_do_not_fit_are_told_with_all_other_problems(faulty: ModuleType, tmp_path: Path) -> None:
    """A class unknown to train, an empty class and a broken file are one report, though training would stop at one."""
    root = faulty.make_sound_folder(tmp_path)
    (root / "val/wasps").mkdir()
    (root / "val/wasps/1.jpg").write_bytes(faulty.jpeg(500))
    (root / "train/flies").mkdir()
    (root / "test/bees/0.jpg").write_bytes(b"")
    report = check_data(str(root))
    assert _codes(report, "error") == {"class-not-in-train", "empty-class", "empty"}
    assert [item.text for item in _find(report, "class-not-in-train").items] == ["val/wasps"]
    assert [item.text for item in _find(report, "empty-class").items] == ["train/flies"]
    assert len(report.facts) == 73


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["Cat", "cat "], "class-names-alike"),
        (["ice cream", "ice_cream"], "class-names-alike"),
        ([" dog", "cat"], "class-name-odd"),
        (["2", "10"], "class-names-numeric"),
    ],
)
def test_class_names_that_mislead_are_warned_of(
    faulty: ModuleType, tmp_path: Path, names: list[str], code: str
) -> None:
    """Names that differ in case, spaces or punctuation only, with spaces around, and numbers that are no indices."""
    for k, name in enumerate(names):
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.jpg").write_bytes(faulty.jpeg(100 * k + number))
    assert code in _codes(check_data(str(tmp_path)), "warning")


def test_tiny_and_unequal_classes_and_missing_ones_are_warned_of(faulty: ModuleType, tmp_path: Path) -> None:
    """Two pictures against twenty-four, and a class that val lacks: told with numbers."""
    root = faulty.make_sound_folder(tmp_path, 24)
    for path in list((root / "train/bees").iterdir())[2:]:
        path.unlink()
    for path in (root / "val/bees").iterdir():
        path.unlink()
    (root / "val/bees").rmdir()
    report = check_data(str(root))
    assert _codes(report, "warning") == {"tiny-class", "imbalance", "class-missing"}
    assert [item.text for item in _find(report, "tiny-class").items] == ["bees: 2 pictures in train"]
    assert "12 times" in _find(report, "imbalance").title
    assert [item.text for item in _find(report, "class-missing").items] == ["bees: none in val"]
    assert not [f for f in report.of("note") if "no pictures in" in f.title]


def test_pictures_without_class_folders_are_checked_all_the_same(faulty: ModuleType, tmp_path: Path) -> None:
    """A flat folder is an error of structure, and its broken picture is named too."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(faulty.jpeg(number))
    (tmp_path / "3.jpg").write_bytes(b"")
    report = check_data(str(tmp_path))
    assert _codes(report, "error") == {"no-classes", "empty"} and len(report.facts) == 4


def test_a_class_folder_that_is_linked_twice_contradicts_itself(faulty: ModuleType, tmp_path: Path) -> None:
    """One folder under two class names: each picture has two labels."""
    faulty.make_sound_folder(tmp_path / "real")
    root = tmp_path / "data"
    root.mkdir()
    for name in ("ants", "bees"):
        (root / name).symlink_to(tmp_path / "real/train/ants", target_is_directory=True)
    report = check_data(str(root))
    assert len(_find(report, "duplicate-labels").items) == 12


def test_an_unreadable_folder_is_told_and_the_rest_checked(
    faulty: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system lists no folder (simulated: root may read everything), it is named and the others are read."""
    root = faulty.make_sound_folder(tmp_path)
    opened = os.open

    def closed(path: str, *rest: int, **more: int) -> int:
        if str(path).endswith("train/bees"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", closed)
    report = check_data(str(root))
    assert [item.text for item in _find(report, "unreadable-folder").items] == ["train/bees: Permission denied"]
    assert _codes(report, "error") == {"unreadable-folder"}  # and no word of an empty class
    assert len(report.facts) == 60


def test_two_folders_of_one_set_are_told_and_both_are_checked(faulty: ModuleType, tmp_path: Path) -> None:
    """`train` and `training` side by side: one of them is wrong, and the pictures of both are read."""
    root = faulty.make_sound_folder(tmp_path)
    shutil.copytree(root / "val", root / "training")
    report = check_data(str(root))
    assert _codes(report, "error") == {"set-folder-twice"} and len(report.facts) == 96
    assert [item.text for item in _find(report, "set-folder-twice").items] == ["train: train and training"]


def test_links_that_lead_nowhere_are_warned_of(faulty: ModuleType, tmp_path: Path) -> None:
    """A class folder on a disk that is not mounted, and a link to itself: classes that nobody would miss."""
    root = faulty.make_sound_folder(tmp_path)
    (root / "train/wasps").symlink_to("/nowhere")
    (root / "train/circle").symlink_to("circle")
    report = check_data(str(root))
    assert report.ok and "circle, wasps" in _find(report, "dead-links").title
    shutil.rmtree(root / "train/bees")
    (root / "train/bees").mkdir()  # now it is walked leniently
    report = check_data(str(root))
    assert [item.text for item in _find(report, "dead-links").items] == ["train/circle", "train/wasps"]


def test_what_a_notice_says_is_not_said_twice(faulty: ModuleType, tmp_path: Path) -> None:
    """Class names that are numbers, alike, or missing from val: told once each, by the check and not by the folder."""
    for k, name in enumerate(("1", "3", "01")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "train" / name / f"{number}.jpg").write_bytes(faulty.jpeg(100 * k + number))
    shutil.copytree(tmp_path / "train/1", tmp_path / "val/1")
    codes = [finding.code for finding in check_data(str(tmp_path), duplicates=False).findings]
    assert sorted(codes) == ["class-missing", "class-names-alike", "class-names-numeric"]


def test_class_folders_that_lie_deeper_are_pointed_at(faulty: ModuleType, tmp_path: Path) -> None:
    """An archive's own folder around the set: one class, it seems, and the advice names the folder that is meant."""
    faulty.make_sound_folder(tmp_path / "archive/insects")
    finding = _find(check_data(str(tmp_path)), "one-class")
    assert finding.advice.startswith(f"Is {tmp_path}/archive/insects meant?")


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No right to list DATA itself (simulated): an error with its name, and no word of missing classes."""

    def closed(path: str | Path = ".") -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os, "listdir", closed)
    report = check_data(str(tmp_path))
    assert _codes(report, "error") == {"unreadable-folder"}


def test_a_table_of_sets_counts_and_its_leaks_are_told(faulty: ModuleType, tmp_path: Path) -> None:
    """With `split` the sets are the table's: a copy on its two sides is a leak. One that does not fit is an error."""
    lines = ["path,set"]
    for name in ("ants", "bees"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            path = f"{name}/{number}.jpg"
            (tmp_path / "data" / path).write_bytes(faulty.jpeg(number % 11 + 50 * len(lines)))
            lines.append(f"{path},{'val' if number > 8 else 'train'}")
    shutil.copy(tmp_path / "data/ants/0.jpg", tmp_path / "data/ants/11.jpg")
    table = tmp_path / "split.csv"
    table.write_text("\n".join(lines) + "\n")
    report = check_data(str(tmp_path / "data"), split=str(table))
    assert report.to_json()["num_by_class"] == {"train": {"ants": 9, "bees": 9}, "val": {"ants": 3, "bees": 3}}
    assert "duplicate-across-sets" in _codes(report, "warning")
    table.write_text("\n".join(lines[:-2]) + "\n")
    report = check_data(str(tmp_path / "data"), split=str(table))
    assert len(_find(report, "structure").items) == 2 and len(report.facts) == 24


def test_all_wrong_rows_of_a_table_are_items(faulty: ModuleType, tmp_path: Path) -> None:
    """Fourteen rows without label: each is told, in the order of lines, and rows that contradict are told once."""
    for k in range(16):
        (tmp_path / f"{k}.jpg").write_bytes(faulty.jpeg(k))
    rows = [f"{k}.jpg,{'cat' if k < 2 else ''}" for k in range(16)] + ["0.jpg,dog"]
    (tmp_path / "table.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    items = _find(check_data(str(tmp_path / "table.csv")), "structure").items
    assert [int(item.text[5 : item.text.index(":")]) for item in items] == list(range(4, 19))


def test_rows_of_a_table_that_cannot_be_used_are_told_with_the_pictures(faulty: ModuleType, tmp_path: Path) -> None:
    """Twelve missing files, a row without label and a broken picture: every row is an item, and the rest is read."""
    (tmp_path / "good.jpg").write_bytes(faulty.jpeg(1))
    (tmp_path / "bad.jpg").write_bytes(faulty.jpeg(2)[:600])
    rows = ["good.jpg,cat", "bad.jpg,dog", *(f"gone{k}.jpg,cat" for k in range(12)), "good.jpg,"]
    (tmp_path / "table.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    report = check_data(str(tmp_path / "table.csv"))
    structure = _find(report, "structure")
    assert structure.severity == "error"
    assert sum("gone" in item.text for item in structure.items) == 12
    assert _codes(report, "error") == {"structure", "damaged"} and report.layout.names == ["good.jpg", "bad.jpg"]


def test_groups_of_a_column_may_not_stand_in_two_sets(faulty: ModuleType, tmp_path: Path) -> None:
    """A patient in train and in val is a warning that says how many pictures are where."""
    lines = ["file,label,set,patient"]
    for k in range(8):
        (tmp_path / f"{k}.jpg").write_bytes(faulty.jpeg(k))
        lines.append(
            f"{k}.jpg,{'cat' if k % 2 else 'dog'},{'val' if k > 4 else 'train'},{'p1' if k in (0, 1, 7) else k}"
        )
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    report = check_data(str(tmp_path / "table.csv"), group_by="patient")
    assert [item.text for item in _find(report, "group-across-sets").items] == ["p1: 2 in train, 1 in val"]
    with pytest.raises(ConfigError, match="regular expression"):
        check_data(str(tmp_path / "table.csv"), group_by="(")


def test_digits_are_sound() -> None:
    """Pictures in memory are checked like files: 1,797 of 8 × 8, compared for equal contents."""
    report = check_data("digits")
    assert report.ok and len(report.facts) == 1797 and not report.of("warning")


def test_arrays_tell_contradictions_and_leaks(tmp_path: Path) -> None:
    """IDX files with a picture of two labels, in two sets: an error and a warning."""
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 9), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        labels = np.arange(40, dtype=np.uint8) % 4 if prefix == "train" else np.ones(40, dtype=np.uint8)
        for name, values, head in (("images-idx3", images, (40, 9, 9)), ("labels-idx1", labels, (40,))):
            header = bytes([0, 0, 8, len(head)]) + b"".join(n.to_bytes(4, "big") for n in head)
            (tmp_path / f"{prefix}-{name}-ubyte").write_bytes(header + values.tobytes())
        images = images if prefix == "t10k" else np.concatenate([images[:2], 255 - images[2:]])
    assert len(read_idx_folder(tmp_path).pictures) == 80
    report = check_data(str(tmp_path))
    assert [item.text for item in _find(report, "duplicate-labels").items] == ["#0 (0)  =  #40 (1)"]
    assert [item.text for item in _find(report, "duplicate-across-sets").items] == [
        "#0 (train)  =  #40 (test)", "#1 (train)  =  #41 (test)",
    ]  # fmt: skip


def test_numbers_that_are_not_finite_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float picture with a NaN is named; the others are sound, and equal ones are still found."""
    images = np.random.default_rng(0).random((20, 1, 40, 40), dtype=np.float32)
    images[3, 0, 5, 5] = np.nan
    images[7] = images[6]
    collection = Collection(ArrayPictures(images, np.arange(20) // 10))
    monkeypatch.setattr(layout_module, "open_data", lambda *_, **__: collection)
    report = check_data("digits")
    assert [item.text for item in _find(report, "damaged").items] == ["#3: values that are not finite"]
    assert [item.text for item in _find(report, "duplicate").items] == ["#6  =  #7"]


def test_where_there_is_nothing_it_is_said(tmp_path: Path) -> None:
    """A path that is not there is no report but an error, and an empty folder a finding."""
    with pytest.raises(DataError, match="There is nothing at"):
        check_data(str(tmp_path / "nowhere"))
    assert not check_data(str(tmp_path)).ok
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="neither a folder nor a file"):
        check_data(str(tmp_path / "pipe.csv"))


def test_the_report_is_json(faulty: ModuleType, tmp_path: Path) -> None:
    """It survives JSON unchanged, names every picture of a finding, and counts agree."""
    report = check_data(str(faulty.make_faulty_folder(tmp_path)))
    value = json.loads(json.dumps(report.to_json()))
    assert value == report.to_json()
    assert value["num_pictures"] == 95 and value["num_good"] == 87 and not value["ok"]
    assert value["num_by_class"]["train"] == {"ants": 23, "bees": 22}
    assert value["tables"]["orientation"] == {"1 upright": 86, "6 sideways": 1}
    (damaged,) = [finding for finding in value["findings"] if finding["code"] == "damaged"]
    assert f"train/ants/{faulty.EVIL}" in [name for item in damaged["items"] for name in item["pictures"]]


def test_names_that_are_no_text_are_errors_that_can_be_written(faulty: ModuleType, tmp_path: Path) -> None:
    """A file and a folder whose names are not UTF-8: named in JSON and on the page with their bytes escaped."""
    root = faulty.make_sound_folder(tmp_path)
    (root / "train/ants" / os.fsdecode(b"b\xe9.jpg")).write_bytes(faulty.jpeg(900))
    for set_name in ("train", "val", "test"):
        (root / set_name / "bees").rename(root / set_name / os.fsdecode(b"b\xfcr"))
    report = check_data(str(root))
    assert not report.ok
    text = json.dumps(report.to_json(), ensure_ascii=False) + render_page(report)
    text.encode()
    assert r"b\\udce9.jpg" in text and r"b\\udcfcr" in text
    assert len(_find(report, "misnamed").items) == 4


def test_ants_and_bees_have_no_leaks(real_data: Path) -> None:
    """The tutorial's set: no errors, no warnings, one palette GIF that is not like the others."""
    report = check_data(str(real_data / "hymenoptera_data"))
    assert report.ok and not report.of("warning")
    assert [item.text for item in _find(report, "rare-mode").items] == ["train/ants/imageNotFound.gif: P"]
