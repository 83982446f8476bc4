import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from holdfast.data import open_data
from holdfast.errors import DataError


def idx_files(folder: Path, suffix: str = "") -> None:
    """Ten small pictures and their labels, and three more for testing, in MNIST's form."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, n in (("train", 10), ("t10k", 3)):
        images = bytes([0, 0, 8, 3]) + struct.pack(">3I", n, 28, 28) + bytes(range(256)) * 3 * n + bytes(16 * n)
        labels = bytes([0, 0, 8, 1]) + struct.pack(">I", n) + bytes(range(n))
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{prefix}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)


def problem(source: object, **options: object) -> str:
    """The message with which opening fails."""
    with pytest.raises(DataError) as caught:
        open_data(str(source), **options)
    return str(caught.value)


def test_the_digits_need_no_files() -> None:
    """`digits` is scikit-learn's set."""
    assert len(open_data("digits").pictures) == 1797


@pytest.mark.row("D1")
def test_a_folder_of_class_folders_is_opened(picture_folder: Path) -> None:
    """A folder, and a class list for it."""
    assert open_data(str(picture_folder)).pictures.classes == ["blue", "green", "red"]
    assert open_data(str(picture_folder), classes=["red", "green", "blue"]).pictures.classes[0] == "red"


def test_a_path_may_begin_with_a_tilde(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder."""
    monkeypatch.setenv("HOME", str(picture_folder.parent))
    assert len(open_data("~/pictures").pictures) == 24


@pytest.mark.row("D2")
@pytest.mark.parametrize("name", ["t.csv", "t.TSV", "t.txt"])
def test_a_table_is_opened(picture_folder: Path, tmp_path: Path, name: str) -> None:
    """A CSV elsewhere, with its image directory and its columns named."""
    (tmp_path / name).write_text("a,b\nx,blue/0.jpg\ny,red/0.jpg\n")
    collection = open_data(
        str(tmp_path / name), image_dir=str(picture_folder), file_column="b", label_column="a", classes=["y", "x"]
    )
    assert collection.pictures.labels.tolist() == [1, 0]


@pytest.mark.row("D8")
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_opened_by_their_folder_or_by_one_of_them(tmp_path: Path, suffix: str) -> None:
    """The folder, the folder above `raw`, and any one of the files lead to the whole set."""
    idx_files(tmp_path / "MNIST" / "raw", suffix)
    one = tmp_path / "MNIST" / "raw" / f"t10k-labels-idx1-ubyte{suffix}"
    for source in (tmp_path / "MNIST" / "raw", tmp_path / "MNIST", tmp_path, one):
        collection = open_data(str(source))
        assert {name: len(members) for name, members in collection.sets.items()} == {"train": 10, "test": 3}


def test_a_set_of_torchvisions_is_opened_where_it_is_unpacked(tmp_path: Path) -> None:
    """`torchvision:MNIST@FOLDER` reads what torchvision left there, with its class names."""
    idx_files(tmp_path / "MNIST" / "raw")
    collection = open_data(f"torchvision:MNIST@{tmp_path}")
    assert {name: members.tolist() for name, members in collection.sets.items()} == {
        "train": list(range(10)), "test": [10, 11, 12],
    }  # fmt: skip
    assert collection.pictures.classes[0] == "0 - zero"
    assert np.array_equal(collection.pictures.read(12).numpy(), open_data(str(tmp_path)).pictures.read(12).numpy())


def test_opening_fails_when_a_set_of_torchvisions_is_not_unpacked(tmp_path: Path) -> None:
    """Nothing is downloaded: the place and what to do are named, and nothing is created."""
    message = problem(f"torchvision:MNIST@{tmp_path / 'nowhere'}")
    assert message.startswith(f"torchvision:MNIST is not unpacked in '{tmp_path / 'nowhere'}' (Dataset not found.")
    assert "We download nothing" in message
    assert list(tmp_path.iterdir()) == []


def test_opening_fails_when_torchvision_has_no_such_set() -> None:
    """Those that can be opened are listed."""
    assert problem("torchvision:Nonsense") == (
        "torchvision has no data set 'Nonsense'. "
        "Those we can open: CIFAR10, CIFAR100, FashionMNIST, KMNIST, MNIST, QMNIST."
    )


def test_opening_fails_when_a_set_of_torchvisions_is_of_another_kind() -> None:
    """A set that torchvision has and we do not read says so."""
    assert problem("torchvision:CocoDetection").startswith(
        "torchvision:CocoDetection cannot be opened yet; we open MNIST"
    )


def test_opening_fails_when_there_is_nothing(tmp_path: Path) -> None:
    """The path as it was written, and the forms that are understood."""
    message = problem(tmp_path / "gone")
    assert message.startswith(f"There is nothing at {tmp_path / 'gone'}. Expected a folder of class folders, a CSV,")


def test_opening_fails_when_the_folder_is_empty(tmp_path: Path) -> None:
    """An empty folder is called empty."""
    assert problem(tmp_path).startswith(f"{tmp_path} is an empty folder.")


def test_opening_fails_when_it_is_another_file(picture_folder: Path) -> None:
    """A single picture is not a data set."""
    message = problem(picture_folder / "red" / "0.jpg")
    assert message.startswith(f"{picture_folder / 'red' / '0.jpg'} is a file, and not a CSV.")
