from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.data import ArrayPictures
from holdfast.data.arrays import load_digits
from holdfast.errors import DataError


def bytes_of(*shape: int) -> np.ndarray:
    """Random uint8 of a shape."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.row("D9")
@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 1, 6, 5), (4, 3, 6, 5), (4, 6, 5, 3), (4, 6, 5, 1)])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_every_layout_is_read_channels_first(shape: tuple[int, ...], kind: str) -> None:
    """[N, H, W], [N, C, H, W] and [N, H, W, C] give the same picture, `[C, H, W]`."""
    array = bytes_of(*shape)
    pictures = ArrayPictures(torch.from_numpy(array) if kind == "tensor" else array, [0, 1, 0, 1])
    expected = array[2] if len(shape) == 4 else array[2][None]
    if len(shape) == 4 and shape[1] not in (1, 3):
        expected = expected.transpose(2, 0, 1)
    assert np.array_equal(pictures.read(2).numpy(), expected)
    assert pictures.read(2).dtype == torch.uint8
    assert len(pictures) == 4


@pytest.mark.row("D9")
@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 1, 4, 4), (3, 4, 4, 3)])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_memory_is_shared_by_default(shape: tuple[int, ...], kind: str) -> None:
    """A later change to the array or tensor is seen in the pictures: no byte was copied."""
    array = bytes_of(*shape)
    given = torch.from_numpy(array) if kind == "tensor" else array
    pictures = ArrayPictures(given, [0, 1, 2])
    array[1] = 77
    assert (pictures.read(1) == 77).all()
    assert pictures.read(0).data_ptr() == array.ctypes.data


@pytest.mark.row("D9")
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_memory_is_copied_when_asked(kind: str) -> None:
    """With copy=True a later change to the array is not seen."""
    array = bytes_of(3, 4, 4)
    before = array.copy()
    pictures = ArrayPictures(torch.from_numpy(array) if kind == "tensor" else array, [0, 1, 2], copy=True)
    array[...] = 0
    assert np.array_equal(pictures.read(1)[0].numpy(), before[1])


@pytest.mark.row("D9")
def test_an_array_that_torch_cannot_share_is_copied() -> None:
    """A flipped view (negative strides) is read correctly, from a copy."""
    array = bytes_of(3, 4, 4)
    pictures = ArrayPictures(array[:, ::-1], [0, 1, 2])
    assert np.array_equal(pictures.read(0)[0].numpy(), array[0, ::-1])
    array[...] = 0
    assert pictures.read(0).any()


@pytest.mark.row("D9")
@pytest.mark.parametrize("kind", ["array", "tensor", "channels-last", "float"])
def test_pixels_are_not_copied_into_processes_that_are_not_forked(kind: str) -> None:
    """What is sent to a worker is a handle of a few bytes, however large the array; the pixels stay the same here."""
    array = bytes_of(2000, 8, 8, 3)
    given = {"tensor": torch.from_numpy(array), "float": array.astype(np.float32)}.get(kind, array)
    pictures = ArrayPictures(given, np.zeros(2000, np.int64))
    before = pictures.read(7).clone()
    labels = len(ForkingPickler.dumps(pictures.labels))
    assert len(ForkingPickler.dumps(pictures)) < labels + 2000
    assert pictures._pixels.is_shared()
    assert torch.equal(pictures.read(7), before)
    if kind == "tensor":
        given[7] = 9  # type: ignore[index]
        assert (pictures.read(7) == 9).all()


@pytest.mark.row("D9")
def test_labels_are_always_copied() -> None:
    """Labels are few: a later change to them changes nothing."""
    labels = np.array([0, 1, 1])
    pictures = ArrayPictures(bytes_of(3, 4, 4), labels)
    labels[:] = 0
    assert pictures.labels.tolist() == [0, 1, 1]


def test_float_pictures_are_taken_as_they_are() -> None:
    """float32 values are neither scaled nor clipped."""
    values = np.array([[[-3.5, 0.25]], [[1e6, 2.0]]], dtype=np.float32)
    assert ArrayPictures(values, [0, 1]).read(1).tolist() == [[[1e6, 2.0]]]


@pytest.mark.parametrize("labels", [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1], np.uint8), torch.tensor([0, 2, 1])])
def test_labels_may_be_a_list_an_array_or_a_tensor(labels: object) -> None:
    """All become int64, and classes are numbered up to the largest."""
    pictures = ArrayPictures(bytes_of(3, 4, 4), labels)
    assert pictures.labels.dtype == np.int64
    assert pictures.labels.tolist() == [0, 2, 1]
    assert pictures.classes == ["0", "1", "2"]
    assert pictures.name(2) == "#2"


def test_an_array_fails_when_its_shape_is_no_set_of_pictures() -> None:
    """The message shows the shape that was given and those that are understood."""
    with pytest.raises(DataError, match=r"array of shape \(4, 2, 6, 5\); expected \[N, H, W\], \[N, C, H, W\] or"):
        ArrayPictures(bytes_of(4, 2, 6, 5), [0] * 4)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint16", "bool", ">i4", "object"])
def test_an_array_fails_when_its_type_would_have_to_be_guessed(dtype: str) -> None:
    """Only uint8 and float32 are taken; the message names the type and nothing is scaled by guess."""
    with pytest.raises(DataError, match=f"array of {dtype}; expected uint8 in 0 … 255 or float32"):
        ArrayPictures(bytes_of(2, 4, 4).astype(dtype), [0, 1])


def test_labels_fail_when_there_are_more_or_fewer_than_pictures() -> None:
    """Both numbers are shown."""
    with pytest.raises(DataError, match="There are 3 pictures and 2 labels; expected one label each"):
        ArrayPictures(bytes_of(3, 4, 4), [0, 1])


@pytest.mark.parametrize(("labels", "shown"), [([-1, 0, 1], "from -1 to 1"), ([0, 1, 2], "from 0 to 2")])
def test_labels_fail_when_they_lie_outside_the_classes(labels: list[int], shown: str) -> None:
    """A label below 0, or beyond the class list, is an error that shows the range."""
    with pytest.raises(DataError, match=f"Labels run {shown}; there are 2 classes"):
        ArrayPictures(bytes_of(3, 4, 4), labels, ["a", "b"])


@pytest.mark.parametrize("make", [list, tuple, lambda array: [torch.from_numpy(one) for one in array]])
def test_a_sequence_of_pictures_is_one_array(make: Callable[[np.ndarray], Sequence[Any]]) -> None:
    """What NumPy would make an array of is read as that array."""
    array = bytes_of(2, 6, 5, 3)
    assert ArrayPictures(make(array), [0, 1]).fingerprint() == ArrayPictures(array, [0, 1]).fingerprint()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([bytes_of(4, 4), bytes_of(5, 5)], "a list, of which no one array can be made"),
        (["a.png", "b.png"], "a list of no numbers"),
        (None, "a NoneType of no numbers"),
    ],
)
def test_pictures_fail_when_they_are_no_pixels(images: Any, said: str) -> None:
    """Pictures of two sizes, paths and nothing at all are refused with what was found and what was expected."""
    with pytest.raises(TypeError, match=said) as caught:
        ArrayPictures(images, [0, 1])
    assert "expected a tensor or a NumPy array of shape [N, H, W]" in str(caught.value)


def test_a_list_of_plain_numbers_fails_as_an_array_of_them_does() -> None:
    """Python's numbers have no depth, and none is guessed."""
    with pytest.raises(DataError, match="an array of int64; expected uint8"):
        ArrayPictures(bytes_of(2, 4, 4).tolist(), [0, 1])


@pytest.mark.parametrize("labels", [[0.7, 1.2], ["a", "b"], [[0], [1]], [True, False]])
def test_labels_fail_when_they_are_not_a_row_of_integers(labels: list[object]) -> None:
    """0.7 never becomes 0 in silence; text, columns and truth values are refused with shape and type."""
    with pytest.raises(DataError, match=r"The labels have shape \(2,.*\) and type .*; expected \[N\] integers"):
        ArrayPictures(bytes_of(2, 4, 4), labels)


def test_the_fingerprint_tells_pixels_labels_and_classes_apart() -> None:
    """One changed pixel, label or name, or another layout of the same bytes, changes the digest; a copy does not."""
    array = bytes_of(2, 3, 4, 4)
    changed = array.copy()
    changed[1, 2, 3, 3] ^= 1
    here = ArrayPictures(array, [0, 1]).fingerprint()
    assert ArrayPictures(array.copy(), torch.tensor([0, 1])).fingerprint() == here
    others = [
        ArrayPictures(changed, [0, 1]),
        ArrayPictures(array, [1, 0]),
        ArrayPictures(array, [0, 1], ["a", "b"]),
        ArrayPictures(array.reshape(2, 3, 2, 8), [0, 1]),
    ]
    assert len({here, *(other.fingerprint() for other in others)}) == 5


def test_the_fingerprint_of_a_view_is_that_of_its_pixels() -> None:
    """Channels-last memory and its channels-first copy hold the same pictures."""
    array = bytes_of(2, 6, 5, 3)
    first = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    assert ArrayPictures(array, [0, 1]).fingerprint() == ArrayPictures(first, [0, 1]).fingerprint()


def test_the_digits_are_the_real_ones() -> None:
    """scikit-learn's digits: 1,797 pictures of 8 × 8 in 17 grey levels, ten classes of about 180."""
    digits = load_digits()
    assert len(digits) == 1797
    assert digits.read(0).shape == (1, 8, 8)
    assert digits.classes == list("0123456789")
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.read(0)[0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
