import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from holdfast.data.idx import find_idx_folder, read_idx, read_idx_folder
from holdfast.errors import DataError


def write_idx(path: Path, array: np.ndarray, code: int = 8) -> Path:
    """Writes an array as an IDX file, gzipped when the name says so."""
    header = b"\0\0" + bytes([code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def small_mnist(folder: Path, suffix: str = ".gz", sets: tuple[str, ...] = ("train", "t10k")) -> dict[str, np.ndarray]:
    """Writes a small set in MNIST's form; returns its arrays by file name."""
    generator = np.random.default_rng(0)
    written = {}
    for prefix, n in (("train", 7), ("t10k", 3)):
        if prefix in sets:
            images = generator.integers(0, 256, (n, 5, 4), dtype=np.uint8)
            labels = (np.arange(n) % 3).astype(np.uint8)
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                write_idx(folder / f"{prefix}-{kind}-ubyte{suffix}", array)
                written[f"{prefix}-{kind}"] = array
    return written


@pytest.mark.row("D8")
def test_the_real_mnist_is_read_as_it_comes(real_data: Path) -> None:
    """The four original files give 60,000 and 10,000 pictures with the known counts, mean and deviation."""
    collection = read_idx_folder(real_data / "mnist")
    pictures, sets = collection.pictures, collection.sets
    assert len(pictures) == 70_000
    assert list(sets) == ["train", "test"]
    assert (sets["train"][0], sets["train"][-1], sets["test"][0], sets["test"][-1]) == (0, 59_999, 60_000, 69_999)
    counts = np.bincount(pictures.labels[sets["train"]]).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    counts = np.bincount(pictures.labels[sets["test"]]).tolist()
    assert counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert pictures.classes == list("0123456789")
    assert pictures.read(0).shape == (1, 28, 28)
    assert pictures.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    pixels = read_idx(real_data / "mnist" / "train-images-idx3-ubyte.gz")
    assert pixels.shape == (60_000, 28, 28)
    assert round(float(pixels.mean()) / 255, 5) == 0.13066
    assert np.array_equal(pictures.read(4).numpy()[0], pixels[4])


@pytest.mark.row("D8")
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_both_sets_are_read_gzipped_or_not(tmp_path: Path, suffix: str) -> None:
    """Train comes first and t10k is the test set."""
    written = small_mnist(tmp_path, suffix)
    collection = read_idx_folder(tmp_path)
    assert collection.sets["train"].tolist() == list(range(7))
    assert collection.sets["test"].tolist() == [7, 8, 9]
    assert np.array_equal(collection.pictures.read(8)[0].numpy(), written["t10k-images-idx3"][1])
    assert collection.pictures.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2]


def test_names_with_a_dot_are_found(tmp_path: Path) -> None:
    """Some mirrors write `images.idx3-ubyte`."""
    small_mnist(tmp_path, "", ("train",))
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert len(read_idx_folder(tmp_path).pictures) == 7


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_the_folder_is_found_where_torchvision_unpacks_it(tmp_path: Path, place: str) -> None:
    """The files are found in the folder itself, in raw/ and in MNIST/raw/ below it."""
    small_mnist(tmp_path / place)
    assert find_idx_folder(tmp_path) == tmp_path / place


def test_no_folder_is_found_where_there_are_no_files(picture_folder: Path) -> None:
    """A folder of class folders is not one of IDX files."""
    assert find_idx_folder(picture_folder) is None


def test_fashion_mnist_has_its_names(tmp_path: Path) -> None:
    """Below a folder called FashionMNIST the ten classes have their published names."""
    folder = tmp_path / "FashionMNIST" / "raw"
    small_mnist(folder)
    classes = read_idx_folder(folder).pictures.classes
    assert (len(classes), classes[0], classes[9]) == (10, "T-shirt/top", "Ankle boot")


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_every_type_of_the_format_is_read(tmp_path: Path, code: int, dtype: str) -> None:
    """The six value types come back with their values, in any number of dimensions."""
    array = np.arange(-12, 12).reshape(2, 3, 2, 2).astype(dtype)
    read = read_idx(write_idx(tmp_path / "values", array, code))
    assert read.dtype == np.dtype(dtype)
    assert np.array_equal(read, array)


@pytest.mark.parametrize("missing", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("prefix", ["train", "t10k"])
def test_a_set_fails_when_its_companion_is_missing(tmp_path: Path, prefix: str, missing: str) -> None:
    """The file that is missing is named."""
    small_mnist(tmp_path)
    (tmp_path / f"{prefix}-{missing}-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        read_idx_folder(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has only one of the two {prefix} files; {prefix}-{missing}-ubyte[.gz] is missing."
    )


def test_a_folder_fails_when_it_has_no_idx_files(tmp_path: Path) -> None:
    """The names that are looked for are shown."""
    with pytest.raises(DataError, match=r"has no IDX files \(train-images-idx3-ubyte"):
        read_idx_folder(tmp_path)


def test_a_set_fails_when_pictures_and_labels_differ_in_number(tmp_path: Path) -> None:
    """Both files and both shapes are named."""
    small_mnist(tmp_path, "")
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(6, np.uint8))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte has shape \(7, 5, 4\) and .*-ubyte \(6,\)"):
        read_idx_folder(tmp_path)


@pytest.mark.parametrize("left", [0.1, 0.5, 0.99])
def test_a_gzip_file_cut_short_fails_by_name(tmp_path: Path, left: float) -> None:
    """A download that stopped early is refused, never read in part."""
    path = write_idx(tmp_path / "images.gz", np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    with pytest.raises(DataError, match=r"^Reading .*images\.gz: damaged or cut short"):
        read_idx(path)


def test_a_damaged_gzip_file_fails_by_name(tmp_path: Path) -> None:
    """A changed byte within is caught by gzip's own checksum."""
    path = write_idx(tmp_path / "images.gz", np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"images\.gz: damaged or cut short"):
        read_idx(path)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_plain_file_fails_when_its_length_is_not_as_promised(tmp_path: Path, change: int) -> None:
    """One byte too few or too many is an error that shows both lengths."""
    path = write_idx(tmp_path / "labels", np.arange(1000, dtype=np.int64).astype(np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change < 0 else data + b"\0")
    with pytest.raises(DataError, match=f"labels: {1008 + change:,} bytes unpacked; its header promises 1,008"):
        read_idx(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file (it begins with nothing)"),
        (b"\0\0\x08", "not an IDX file (it begins with 00 00 08)"),
        (b"\x89PNG\r\n", "not an IDX file (it begins with 89 50 4e 47)"),
        (b"\0\0\x07\x01\0\0\0\0", "not an IDX file (it begins with 00 00 07 01)"),
        (b"\0\0\x08\x03\0\0\0\x01", "the file ends within its header"),
    ],
)
def test_reading_fails_when_the_file_is_not_idx(tmp_path: Path, data: bytes, message: str) -> None:
    """What the file begins with is shown."""
    path = tmp_path / "something"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"Reading {path}: {message}."
