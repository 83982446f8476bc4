from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast import ArrayPictures
from holdfast.config import Config
from holdfast.data import read_folder
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD
from holdfast.errors import ConfigError
from holdfast.run.recipe import DataSummary, preprocessing_for, resolve, summarize

DIGITS = DataSummary(num_train=1257, num_classes=10, short_side=8, channels=1)
CIFAR = DataSummary(num_train=50_000, num_classes=10, short_side=32, channels=3)
PHOTOS = DataSummary(num_train=240, num_classes=2, short_side=400, channels=3)
MANY_PHOTOS = DataSummary(num_train=100_000, num_classes=100, short_side=400, channels=3)


@pytest.mark.row("T5")
@pytest.mark.parametrize(
    ("data", "model", "img_size", "optimizer"),
    [
        (DIGITS, "lenet", 32, "adamw"),
        (CIFAR, "cifar-net", 32, "adamw"),
        (PHOTOS, "resnet18", 224, "adamw"),
        (MANY_PHOTOS, "resnet18", 224, "sgd"),
    ],
)
def test_what_is_left_open_is_chosen_from_the_data(
    data: DataSummary, model: str, img_size: int, optimizer: str
) -> None:
    """Small pictures get a small net at their own size, large ones a ResNet at 224; nothing is left open."""
    resolved, choices = resolve(Config(data="x"), data)
    assert (resolved.model, resolved.img_size, resolved.optimizer) == (model, img_size, optimizer)
    chosen = {choice.setting: choice.value for choice in choices}
    assert chosen == {name: getattr(resolved, name) for name in chosen}
    assert all(choice.reason for choice in choices)
    needed = (
        "model",
        "img_size",
        "batch_size",
        "epochs",
        "optimizer",
        "lr",
        "weight_decay",
        "warmup_epochs",
        "augment",
    )
    assert list(chosen) == list(needed)


@pytest.mark.row("T5")
@pytest.mark.parametrize(
    ("short_side", "augment", "size"),
    [(2000, None, 448), (896, "trivial", 448), (895, None, None), (2000, "none", None), (2000, "affine", None)],
)
def test_photographs_are_scaled_down_before_they_are_cropped(
    short_side: int, augment: str | None, size: int | None
) -> None:
    """From four crops on, to two; where nothing is cropped at random nothing is chosen."""
    data = DataSummary(num_train=240, num_classes=2, short_side=short_side, channels=3)
    resolved, choices = resolve(Config(data="x", augment=augment), data)
    assert (
        resolved.decode_size == size
        and [c.value for c in choices if c.setting == "decode_size"] == [size][: bool(size)]
    )
    assert resolve(Config(data="x", decode_size=0), data)[0].decode_size == 0


def test_what_is_asked_for_stays() -> None:
    """A choice of the user's is never overruled, and is not reported as one of ours."""
    asked = Config(
        data="x", model="vgg11", img_size=64, batch_size=7, epochs=3, optimizer="adam", lr=0.5, weight_decay=0.0,
        warmup_epochs=0.0, augment="none", task="classification", loss="nll", resize="exact",
    )  # fmt: skip
    assert resolve(asked, PHOTOS) == (asked, [])


@pytest.mark.parametrize("data", [DIGITS, CIFAR, PHOTOS])
def test_the_same_command_chooses_the_same(data: DataSummary) -> None:
    """Choosing is a function of its arguments: it leaves the config it is given alone, and repeats itself."""
    asked = Config(data="x")
    first = resolve(asked, data)
    assert resolve(asked, data) == first
    assert asked == Config(data="x")
    assert resolve(first[0], data) == (first[0], [])


def test_a_batch_is_never_larger_than_the_set() -> None:
    """Five pictures make batches of five."""
    resolved, _ = resolve(Config(data="x"), DataSummary(5, 2, 28, 1))
    assert resolved.batch_size == 5


def test_weights_that_are_trained_already_need_less() -> None:
    """With --weights the training is shorter and gentler."""
    fresh, _ = resolve(Config(data="x"), PHOTOS)
    tuned, _ = resolve(Config(data="x", weights="pretrained"), PHOTOS)
    assert tuned.epochs == 10 and fresh.epochs == 30
    assert tuned.lr == pytest.approx(fresh.lr / 5)


def test_the_rate_follows_the_batch() -> None:
    """For zoo models half the batch has half the rate, up to the batch the rate is known for."""
    rates = [resolve(Config(data="x", batch_size=size), MANY_PHOTOS)[0].lr for size in (64, 128, 256, 512)]
    assert rates == [0.025, 0.05, 0.1, 0.1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"img_size": 5000}, "img_size is 5000; expected 1 to 4096"),
        ({"lr": 0.0}, "lr is 0.0; expected above 0"),
        ({"lr": float("nan")}, "lr is nan; expected above 0"),
        ({"lr": float("inf")}, "lr is inf; expected above 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected 0 or more"),
        ({"momentum": 1.0}, r"momentum is 1.0; expected in \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1.0; expected in \[0, 1\)"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0; expected 0 or more"),
        ({"workers": -1}, "workers is -1; expected 0 or more"),
        ({"log_every": 0}, "log_every is 0; expected 1 or more"),
    ],
)
def test_fails_on_numbers_that_cannot_be_meant(wrong: dict[str, float], message: str) -> None:
    """A number outside its range is refused with the range."""
    with pytest.raises(ConfigError, match=f"These settings cannot be used: {message}"):
        resolve(Config(data="x", **wrong), PHOTOS)


def test_all_wrong_numbers_are_named_at_once() -> None:
    """Two mistakes, one message."""
    with pytest.raises(ConfigError, match=r"epochs is 0.*; workers is -1"):
        resolve(Config(data="x", epochs=0, workers=-1), PHOTOS)


def _folder(root: Path, mode: str, size: tuple[int, int]) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new(mode, size).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), ("RGBA", 3)])
def test_summarize_tells_grey_from_colour_and_takes_the_short_side(tmp_path: Path, mode: str, channels: int) -> None:
    """Headers say whether all pictures are grey, and how short their short side is."""
    pictures = read_folder(_folder(tmp_path, mode, (40, 30))).pictures
    assert summarize(pictures, {"train": np.arange(6)}) == DataSummary(6, 2, 30, channels)


def test_one_colour_picture_makes_the_set_colour(tmp_path: Path) -> None:
    """A set is grey only when every picture that was looked at is."""
    folder = _folder(tmp_path, "L", (20, 20))
    Image.new("RGB", (20, 20)).save(folder / "b" / "2.png")
    assert summarize(read_folder(folder).pictures, {"train": np.arange(6)}).channels == 3


def test_summarize_passes_over_what_it_cannot_read(tmp_path: Path) -> None:
    """An unreadable picture is left to the check that names it; without any readable one the usual size is taken."""
    folder = _folder(tmp_path, "L", (20, 20))
    (folder / "a" / "0.png").write_bytes(b"no picture")
    assert summarize(read_folder(folder).pictures, {"train": np.arange(6)}) == DataSummary(6, 2, 20, 1)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no picture")
    assert summarize(read_folder(folder).pictures, {"train": np.arange(6)}) == DataSummary(6, 2, 224, 3)


def test_summarize_reads_arrays() -> None:
    """Arrays are summarized like files."""
    pictures = ArrayPictures(np.zeros((9, 3, 12, 10), np.uint8), np.arange(9) % 3)
    assert summarize(pictures, {"train": np.arange(5)}) == DataSummary(5, 3, 10, 3, decoded=True)


def test_pictures_in_memory_are_not_scaled_while_they_are_decoded() -> None:
    """None is chosen for them, however large they are; one that is asked for is refused, and 0 is as they are."""
    data = DataSummary(num_train=240, num_classes=2, short_side=2000, channels=3, decoded=True)
    assert resolve(Config(data="x"), data)[0].decode_size is None
    assert resolve(Config(data="x", decode_size=0), data)[0].decode_size == 0
    with pytest.raises(
        ConfigError, match=r"decode_size is 448: it scales files .* the pictures of x are pixels already"
    ):
        resolve(Config(data="x", decode_size=448), data)


def test_small_pictures_are_shown_whole_and_large_ones_cropped() -> None:
    """A large picture's short side goes to 8/7 of the crop; a small one's to the crop itself."""
    small = preprocessing_for(Config(img_size=32), CIFAR)
    large = preprocessing_for(Config(img_size=224, eval_transform="a:b"), PHOTOS)
    assert (small.img_size, small.resize) == (32, 32)
    assert (large.img_size, large.resize, large.custom) == (224, 256, "a:b")
    assert (large.mean, large.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert preprocessing_for(Config(img_size=32), DIGITS).channels == 1
