import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data import ImageFolder, Loader, read_folder
from holdfast.data.check import check_files
from holdfast.data.looking.look import look_at
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform
from holdfast.errors import DataError


def add(root: Path, *paths: str) -> None:
    """Puts a small PNG at each path below `root`."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "#123456").save(root / path, "PNG")


def paths_of(root: Path) -> dict[str, str]:
    """Path → class name, as read."""
    pictures = read_folder(root).pictures
    return {pictures.name(i): pictures.classes[pictures.labels[i]] for i in range(len(pictures))}


def problem(root: Path, classes: list[str] | None = None) -> str:
    """The message with which reading fails."""
    with pytest.raises(DataError) as caught:
        read_folder(root, classes)
    return str(caught.value)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Every name below `root` with its mode, size and time of change."""
    entries = [root, *root.rglob("*")]
    return {str(p): (s.st_mode, s.st_size if p.is_file() else 0, s.st_mtime_ns) for p in entries for s in [p.lstat()]}


@pytest.mark.row("D1")
class TestLayouts:
    """Where pictures are found."""

    def test_class_folders_give_labels_in_natural_order(self, picture_folder: Path) -> None:
        """Classes are numbered by name, pictures follow class by class, and there are no sets."""
        collection = read_folder(picture_folder)
        pictures = collection.pictures
        assert pictures.classes == ["blue", "green", "red"]
        assert pictures.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
        assert pictures.name(9) == "green/1.jpg"
        assert (collection.sets, collection.notices) == ({}, [])

    def test_numbered_folders_and_files_sort_by_value(self, tmp_path: Path) -> None:
        """Class 2 comes before class 10 and picture 9 before 10, and the mapping is announced."""
        add(tmp_path, "10/1.png", "2/10.png", "2/9.png", "1/1.png")
        collection = read_folder(tmp_path)
        assert collection.pictures.classes == ["1", "2", "10"]
        assert [collection.pictures.name(i) for i in range(4)] == ["1/1.png", "2/9.png", "2/10.png", "10/1.png"]
        assert collection.notices == ["class folders are numbers; folder → index in natural order: 1→0, 2→1, 10→2"]

    @pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
    def test_sets_are_read_from_their_folders(self, tmp_path: Path, names: tuple[str, str, str]) -> None:
        """train, val and test divide one collection, by their usual names in any case."""
        train, val, test = names
        add(tmp_path, f"{train}/a/1.png", f"{train}/b/1.png", f"{train}/b/2.png")
        add(tmp_path, f"{val}/a/1.png", f"{val}/b/1.png", f"{test}/a/1.png", f"{test}/b/1.png")
        collection = read_folder(tmp_path)
        assert {name: members.tolist() for name, members in collection.sets.items()} == {
            "train": [0, 1, 2], "val": [3, 4], "test": [5, 6],
        }  # fmt: skip
        assert collection.pictures.labels.tolist() == [0, 1, 1, 0, 1, 0, 1]
        assert collection.pictures.name(5) == f"{test}/a/1.png"

    def test_pictures_at_any_depth_belong_to_their_class(self, tmp_path: Path) -> None:
        """Folders within a class folder do not matter."""
        add(tmp_path, "a/1.png", "a/deep/er/2.png", "b/x/1.png")
        assert paths_of(tmp_path) == {"a/1.png": "a", "a/deep/er/2.png": "a", "b/x/1.png": "b"}

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        """A folder `train` that holds pictures, and no folders, is a class among the others."""
        add(tmp_path, "train/1.png", "bus/1.png", "test/1.png")
        collection = read_folder(tmp_path)
        assert collection.pictures.classes == ["bus", "test", "train"]
        assert collection.sets == {}

    def test_names_with_spaces_and_umlauts_are_read(self, tmp_path: Path) -> None:
        """Names are taken as they are."""
        add(tmp_path, "große Katzen/ein Bild.png", "dogs/#1%.png")
        assert paths_of(tmp_path) == {"große Katzen/ein Bild.png": "große Katzen", "dogs/#1%.png": "dogs"}

    def test_the_real_ants_and_bees_are_read(self, real_data: Path) -> None:
        """The tutorial's set has 245 and 153 pictures of two classes, the GIF among them."""
        collection = read_folder(real_data / "hymenoptera_data")
        assert collection.pictures.classes == ["ants", "bees"]
        counts = {n: np.bincount(collection.pictures.labels[m]).tolist() for n, m in collection.sets.items()}
        assert counts == {"train": [124, 121], "val": [70, 83]}
        assert collection.notices == []

    def test_the_order_of_the_folder_on_disk_does_not_matter(self, tmp_path: Path) -> None:
        """Two folders filled in opposite order give the same collection, fingerprint and all."""
        names = [f"{c}/{i}.png" for c in "abc" for i in range(12)]
        add(tmp_path / "one", *names)
        add(tmp_path / "two", *reversed(names))
        one, two = read_folder(tmp_path / "one").pictures, read_folder(tmp_path / "two").pictures
        assert [one.name(i) for i in range(36)] == [two.name(i) for i in range(36)]
        assert one.fingerprint() == two.fingerprint()


@pytest.mark.row("D1")
class TestClassLists:
    """A class list that the user gives, and classes that sets disagree on."""

    def test_a_given_list_decides_the_order(self, picture_folder: Path) -> None:
        """Labels are places in the list that was given."""
        pictures = read_folder(picture_folder, ["red", "blue", "green"]).pictures
        assert pictures.classes == ["red", "blue", "green"]
        assert {pictures.name(i).split("/")[0]: int(pictures.labels[i]) for i in range(24)} == {
            "red": 0, "blue": 1, "green": 2,
        }  # fmt: skip

    def test_reading_fails_when_a_listed_class_is_absent(self, picture_folder: Path) -> None:
        """The class and the place where it was looked for are named."""
        message = problem(picture_folder, ["blue", "green", "red", "violet"])
        assert f"class 'violet' is listed but {picture_folder / 'violet'} is not there" in message
        assert "(1 problem)" in message

    def test_reading_fails_when_a_class_is_not_listed(self, picture_folder: Path) -> None:
        """A folder that the list leaves out is never dropped in silence."""
        message = problem(picture_folder, ["blue", "red"])
        assert f"class 'green' is in {picture_folder} but not in the list of classes" in message

    def test_reading_fails_when_a_class_is_listed_twice(self, picture_folder: Path) -> None:
        """A doubled name would shift the indices after it."""
        assert "class 'red' is listed twice" in problem(picture_folder, ["blue", "red", "green", "red"])

    def test_reading_fails_when_a_class_is_empty(self, picture_folder: Path) -> None:
        """A class folder without pictures is named; it gets no index by accident."""
        (picture_folder / "grey" / "deep").mkdir(parents=True)
        (picture_folder / "grey" / "notes.txt").write_text("none yet")
        assert f"{picture_folder / 'grey'}: no pictures in this class" in problem(picture_folder)

    def test_reading_fails_when_val_has_a_class_that_train_has_not(self, tmp_path: Path) -> None:
        """A class that could never be learned is an error that names it, its set and its folder."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/aa/1.png")
        message = problem(tmp_path)
        assert f"class 'aa' is in val but not in train ({tmp_path / 'val' / 'aa'})" in message

    def test_a_class_that_val_lacks_is_noticed_and_shifts_nothing(self, tmp_path: Path) -> None:
        """Without `a` in val, `b` in val keeps the index that it has in train."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", "val/b/1.png")
        collection = read_folder(tmp_path)
        assert collection.pictures.labels.tolist() == [0, 1, 1]
        assert collection.notices == ["class 'a' has no pictures in val; indices stay as they are in train"]

    def test_reading_fails_when_a_class_of_val_is_empty(self, tmp_path: Path) -> None:
        """An empty class folder in val is named with its path."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", "val/b/1.png")
        (tmp_path / "val" / "a").mkdir()
        assert f"{tmp_path / 'val' / 'a'}: no pictures in this class" in problem(tmp_path)

    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        """Ten problems are shown and the others counted."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", *[f"val/x{i}/1.png" for i in range(12)])
        message = problem(tmp_path)
        assert "(12 problems)" in message
        assert "class 'x9' is in val" in message
        assert "x10" not in message
        assert "… and 2 more" in message

    def test_reading_fails_when_there_is_one_class_only(self, tmp_path: Path) -> None:
        """The one class is named."""
        add(tmp_path, "cats/1.png", "cats/2.png")
        assert problem(tmp_path) == (
            f"{tmp_path} has one class only ('cats'). A classifier needs two; add a second class folder."
        )


@pytest.mark.row("D1")
class TestNotPictures:
    """What lies around in folders."""

    def test_hidden_files_and_folders_are_passed_over(self, tmp_path: Path) -> None:
        """Hidden pictures, hidden classes and what other systems leave behind are no pictures and no news."""
        add(
            tmp_path,
            "a/1.png",
            "a/.2.png",
            "a/._1.png",
            "a/.cache/3.png",
            "b/1.png",
            ".git/x/1.png",
            "__MACOSX/a/1.png",
        )
        (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
        (tmp_path / "b" / "desktop.ini").write_bytes(b"x")
        (tmp_path / ".DS_Store").write_bytes(b"x")
        assert paths_of(tmp_path) == {"a/1.png": "a", "b/1.png": "b"}
        assert read_folder(tmp_path).notices == []

    def test_files_that_are_no_pictures_are_noticed(self, tmp_path: Path) -> None:
        """Other files in a class folder are left out, and named: five of them, and how many more."""
        add(tmp_path, "a/1.png", "b/1.png")
        for number in range(7):
            (tmp_path / "b" / f"notes{number}.txt").write_text("x")
        assert read_folder(tmp_path).notices == [
            "not pictures by their names, left out: " + ", ".join(f"b/notes{i}.txt" for i in range(5)) + " and 2 more"
        ]

    def test_pictures_beside_the_class_folders_are_noticed(self, tmp_path: Path) -> None:
        """Pictures that lie in no class folder are left out and named, in the root and in a set's folder."""
        add(tmp_path / "flat", "a/1.png", "b/1.png", "loose10.png", "loose9.png", ".hidden.png")
        assert read_folder(tmp_path / "flat").notices == [
            f"pictures in no class folder of {tmp_path / 'flat'}, left out: loose9.png, loose10.png"
        ]
        add(tmp_path / "split", "train/a/1.png", "train/b/1.png", "train/x.png", "val/a/1.png", "val/b/1.png")
        assert read_folder(tmp_path / "split").notices == [
            f"pictures in no class folder of {tmp_path / 'split' / 'train'}, left out: x.png"
        ]

    def test_reading_fails_when_pictures_have_no_class_folders(self, tmp_path: Path) -> None:
        """Loose pictures alone are counted and the expected layout is shown."""
        add(tmp_path, "1.png", "2.png", "3.png")
        assert problem(tmp_path) == (
            f"Reading {tmp_path}: 3 pictures directly in it and no class folders. Expected one folder a class, such as "
            f"{tmp_path}/cats/1.jpg."
        )

    def test_where_the_pictures_may_be_is_said(self, tmp_path: Path) -> None:
        """An archive is to be unpacked, and a table is to be given itself; other files say nothing."""
        for name in ("notes.txt", "cats 2.tar.gz", "cats 10.zip", "labels.CSV"):
            (tmp_path / name).write_bytes(b"")
        assert problem(tmp_path).endswith(
            f"such as {tmp_path}/cats/1.jpg. cats 2.tar.gz is an archive: unpack it first. "
            f"labels.CSV may be a table of pictures: give {tmp_path}/labels.CSV."
        )

    def test_reading_fails_when_the_folder_is_empty_or_no_folder(self, tmp_path: Path) -> None:
        """Both are told apart."""
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("x")
        assert f"Reading {tmp_path / 'empty'}: no class folders in it." in problem(tmp_path / "empty")
        assert problem(tmp_path / "file").startswith(f"{tmp_path / 'file'} is not a folder. Expected a folder of class")
        assert problem(tmp_path / "gone").startswith(f"{tmp_path / 'gone'} is not a folder.")

    def test_reading_fails_when_there_is_no_train_folder(self, tmp_path: Path) -> None:
        """val and test alone are named, and what to add."""
        add(tmp_path, "val/a/1.png", "val/b/1.png", "test/a/1.png", "test/b/1.png")
        assert problem(tmp_path) == f"{tmp_path} has test, val but no train folder. Add {tmp_path}/train/<class>/…."

    def test_reading_fails_when_a_set_has_two_folders(self, tmp_path: Path) -> None:
        """`val` and `valid` side by side are ambiguous."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png")
        assert problem(tmp_path) == f"{tmp_path} has two folders for the val set: val and valid. Keep one of them."


@pytest.mark.row("D1")
class TestLinks:
    """Links are followed, loops are not."""

    def test_linked_files_folders_and_roots_are_read(self, tmp_path: Path) -> None:
        """A link to a picture, to a folder of pictures, to a class and to the root all work."""
        add(tmp_path / "store", "1.png", "more/2.png", "dogs/3.png")
        root = tmp_path / "root"
        (root / "cats").mkdir(parents=True)
        (root / "cats" / "1.png").symlink_to(tmp_path / "store" / "1.png")
        (root / "cats" / "more").symlink_to(tmp_path / "store" / "more")
        (root / "dogs").symlink_to(tmp_path / "store" / "dogs")
        (tmp_path / "link").symlink_to(root)
        expected = {"cats/1.png": "cats", "cats/more/2.png": "cats", "dogs/3.png": "dogs"}
        assert paths_of(root) == expected
        assert paths_of(tmp_path / "link") == expected
        assert read_folder(tmp_path / "link").pictures.read(2).shape == (3, 4, 4)

    @pytest.mark.parametrize("target", ["root/cats", "root", ".", "root/cats/deep"])
    def test_a_link_that_loops_adds_nothing(self, tmp_path: Path, target: str) -> None:
        """A link to the class itself, or to any folder above, brings in no picture, least of all another class's."""
        root = tmp_path / "root"
        add(root, "cats/1.png", "cats/deep/2.png", "dogs/1.png")
        (root / "cats" / "deep" / "loop").symlink_to(tmp_path / target)
        assert paths_of(root) == {"cats/1.png": "cats", "cats/deep/2.png": "cats", "dogs/1.png": "dogs"}

    def test_a_loop_within_a_set_does_not_mix_classes(self, tmp_path: Path) -> None:
        """In train/cats a link to train brings in no dogs."""
        add(tmp_path, "train/cats/1.png", "train/dogs/1.png", "val/cats/1.png", "val/dogs/1.png")
        (tmp_path / "train" / "cats" / "up").symlink_to("..")
        assert len(paths_of(tmp_path)) == 4

    def test_a_broken_link_is_kept_and_named_when_read(self, tmp_path: Path) -> None:
        """A picture whose link leads nowhere is listed, so that the check can name it."""
        add(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "b" / "2.png").symlink_to(tmp_path / "nowhere.png")
        pictures = read_folder(tmp_path).pictures
        assert pictures.name(2) == "b/2.png"
        with pytest.raises(DataError, match=r"b/2\.png: cannot be read \(No such file or directory\)"):
            pictures.read(2)


def test_nothing_is_written_into_the_data(picture_folder: Path) -> None:
    """After reading, checking, fingerprinting, looking and loading, with and without workers, no name, size or time
    below DATA has changed, and a folder that may not be written to is enough."""
    for folder in [*picture_folder.iterdir(), picture_folder]:
        folder.chmod(0o555)
    before = snapshot(picture_folder)
    try:
        collection = read_folder(picture_folder)
        pictures = collection.pictures
        pictures.fingerprint()
        assert all(found.problem is None for found in check_files(pictures))
        look_at(collection, num=4)
        look_at(collection, num=4, augment="crop+flip", img_size=16)
        transform = eval_transform(Preprocessing(16, 16, (0.5,) * 3, (0.5,) * 3))
        for num_workers in (0, 1):
            loader = Loader(pictures, batch_size=8, transform=transform, num_workers=num_workers)
            assert sum(len(batch.indices) for batch in loader) == 24
        assert snapshot(picture_folder) == before
    finally:
        for folder in [picture_folder, *picture_folder.iterdir()]:
            folder.chmod(0o755)


@pytest.mark.row("D1")
def test_image_folder_is_a_collection_for_any_loop(tmp_path: Path) -> None:
    """ImageFolder takes text or a path, a class list and the number of channels, and knows its sets."""
    add(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    folder = ImageFolder(str(tmp_path), ["b", "a"], channels=1)
    assert len(folder) == 4
    assert folder.classes == ["b", "a"]
    assert folder.read(0).shape == (1, 4, 4)
    assert folder.read(0).dtype == torch.uint8
    assert {name: members.tolist() for name, members in folder.sets.items()} == {"train": [0, 1], "val": [2, 3]}


def test_image_folder_fails_as_reading_does(tmp_path: Path) -> None:
    """The public class raises the same DataError."""
    with pytest.raises(DataError, match="is not a folder"):
        ImageFolder(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_reading_fails_when_a_folder_may_not_be_read(picture_folder: Path) -> None:
    """A class folder without permission is named, never passed over."""
    (picture_folder / "red").chmod(0)
    try:
        assert "red: Permission denied" in problem(picture_folder)
    finally:
        (picture_folder / "red").chmod(0o755)


def test_a_collection_outlives_a_change_of_the_folder(picture_folder: Path) -> None:
    """Pictures added after reading are not part of the collection."""
    pictures = read_folder(picture_folder).pictures
    shutil.copy(picture_folder / "red" / "0.jpg", picture_folder / "red" / "new.jpg")
    assert len(pictures) == 24


def test_a_file_name_that_is_not_text_fails(tmp_path: Path) -> None:
    """No table can hold a name that is not UTF-8: it is refused with the folder it is in."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "b/1.png").rename(tmp_path / "b" / os.fsdecode(b"\xff.png"))
    with pytest.raises(DataError, match=r"/b: the file name .* is not UTF-8"):
        read_folder(tmp_path)


@pytest.mark.row("D1")
class TestSetFolders:
    """How people name the folders of sets, and what lies beside them."""

    @pytest.mark.parametrize(
        ("train", "val", "test"),
        [("Train", "VAL", "Test"), ("training_set", "validation-set", "test set"), ("train_data", "dev", "TESTING")],
    )
    def test_other_spellings_are_known(self, tmp_path: Path, train: str, val: str, test: str) -> None:
        """In any case, with "set" or "data" at the end, joined by a space, a dash or an underscore."""
        add(tmp_path, *(f"{folder}/{c}/1.png" for folder in (train, val, test) for c in "ab"))
        assert {name: len(members) for name, members in read_folder(tmp_path).sets.items()} == {
            "train": 2, "val": 2, "test": 2,
        }  # fmt: skip

    def test_a_train_folder_alone_is_a_set(self, tmp_path: Path) -> None:
        """The other sets are taken from it later."""
        add(tmp_path, "train/a/1.png", "train/b/1.png")
        assert {name: members.tolist() for name, members in read_folder(tmp_path).sets.items()} == {"train": [0, 1]}

    def test_folders_beside_the_sets_are_noticed(self, tmp_path: Path) -> None:
        """A misspelt set, or anything else that is no set, is left out and named."""
        add(tmp_path, "train/a/1.png", "train/b/1.png", "validaton/a/1.png", "masks/1.png", ".git/x/1.png")
        assert read_folder(tmp_path).notices == ["folders beside those of the sets, left out: masks, validaton"]

    def test_many_classes_that_val_lacks_are_one_notice(self, tmp_path: Path) -> None:
        """They are counted, and the first are named."""
        add(tmp_path, *(f"train/c{i}/1.png" for i in range(20)), "val/c3/1.png")
        (notice,) = read_folder(tmp_path).notices
        assert notice.startswith(
            "19 classes have no pictures in val; indices stay as they are in train: 'c0', 'c1', 'c2'"
        )
        assert notice.endswith(", 'c12', …")


@pytest.mark.row("D1")
class TestNearlyTheSame:
    """Class names that a person would take for one."""

    def test_classes_that_differ_in_case_or_spaces_are_noticed(self, tmp_path: Path) -> None:
        """They stay classes of their own, and are named."""
        add(tmp_path, "Cat/1.png", "cat/1.png", "cat /1.png", "dog/1.png")
        (notice,) = read_folder(tmp_path).notices
        assert notice == (
            "classes 'Cat' and 'cat' and 'cat ' differ only in case, spaces or accents' encoding; "
            "each is a class of its own"
        )

    def test_the_spelling_of_train_is_shown_for_a_class_of_val(self, tmp_path: Path) -> None:
        """`cat` in val beside `Cat` in train is an error that says so."""
        add(tmp_path, "train/Cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png")
        assert "class 'cat' is in val but not in train" in problem(tmp_path)
        assert "; train has 'Cat'" in problem(tmp_path)

    def test_the_spelling_on_disk_is_shown_for_a_listed_class(self, picture_folder: Path) -> None:
        """`Red` in the list beside `red` on disk."""
        assert "is not there; there is 'red'" in problem(picture_folder, ["blue", "green", "Red"])


@pytest.mark.row("D1")
class TestHostileFolders:
    """What nobody expects, all at once and one line each."""

    def test_all_that_is_unusable_is_told_at_once(self, tmp_path: Path) -> None:
        """Ten lines of twelve problems, from all classes."""
        add(tmp_path, "a/1.png", "b/1.png")
        for number in range(12):
            name = os.fsdecode(b"%d\xff.png" % number)
            (tmp_path / "ab"[number % 2] / name).touch()
        message = problem(tmp_path)
        assert "12 things in it cannot be used" in message
        assert message.count("is not UTF-8") == 11  # ten of them, and what to do
        assert "… and 2 more" in message

    def test_a_pipe_named_like_a_picture_is_left_out_unopened(self, tmp_path: Path) -> None:
        """It is named in a notice; nothing waits for it."""
        add(tmp_path, "a/1.png", "b/1.png")
        os.mkfifo(tmp_path / "a" / "2.png")
        collection = read_folder(tmp_path)
        assert len(collection.pictures) == 2
        assert collection.notices == ["neither files nor folders, left out unopened: a/2.png"]

    def test_a_class_folder_that_is_no_text_is_refused(self, tmp_path: Path) -> None:
        """No class can be called what no table holds."""
        add(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
        assert "the folder name '\\udcff\\udcfe' is not UTF-8" in problem(tmp_path)

    def test_a_name_with_a_line_break_stays_in_one_line(self, tmp_path: Path) -> None:
        """In notices and errors alike; the picture and the class keep their names."""
        add(tmp_path, "a\nb/1\n2.png", "c/1.png")
        (tmp_path / "c" / "no\nte.txt").touch()
        collection = read_folder(tmp_path)
        assert collection.pictures.name(0) == "a\nb/1\n2.png"
        assert collection.notices == [r"not pictures by their names, left out: c/no\nte.txt"]
        (tmp_path / "d\ne").mkdir()
        assert f"{tmp_path}/d\\ne: no pictures in this class" in problem(tmp_path)

    def test_classes_named_with_underscores_are_classes(self, tmp_path: Path) -> None:
        """Only what other systems leave behind is passed over."""
        add(tmp_path, "__background__/1.png", "_x/1.png", "a/1.png", "__MACOSX/a/1.png", "@eaDir/a/1.png")
        assert read_folder(tmp_path).pictures.classes == ["__background__", "_x", "a"]

    def test_ten_thousand_classes_are_read(self, tmp_path: Path) -> None:
        """In natural order, and a list of them is held against them."""
        source = tmp_path / "one.png"
        source.touch()
        root = tmp_path / "root"
        root.mkdir()
        for number in range(10_001):
            (root / f"c{number}").mkdir()
            os.link(source, root / f"c{number}" / "1.png")
        names = [f"c{number}" for number in range(10_001)]
        assert read_folder(root).pictures.classes == names
        pictures = read_folder(root, names[::-1]).pictures
        assert pictures.name(0) == "c10000/1.png"
        assert pictures.labels[-1] == 10_000
