"""Points stay on what they mark, through every transform, and come back to the picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from holdfast.data.preprocessing.keypoints import (
    flip_order,
    joint_eval_transform,
    joint_train_transform,
    mean_shape,
    picture_transform,
    steps_of,
    to_picture,
)
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform
from holdfast.errors import ConfigError
from holdfast.randomness import seed_generators

SHORT = Preprocessing(64, 72, (0.0,), (1.0,))
EXACT = Preprocessing(64, 72, (0.0,), (1.0,), exact=True)


def _spots(height: int, width: int, places: list[tuple[float, float]]) -> Tensor:
    """A dark picture with one soft bright spot at each place, `[1, H, W]` uint8."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    total = torch.zeros(height, width)
    for px, py in places:
        total += torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 40)
    return (total.clamp(0, 1) * 255).round().to(torch.uint8)[None]


def _points(places: list[tuple[float, float]], size: tuple[int, int]) -> tv_tensors.KeyPoints:
    return tv_tensors.KeyPoints(torch.tensor(places), canvas_size=size, dtype=torch.float32)


def _centre(image: Tensor) -> tuple[float, float]:
    """Centre of brightness of `[1, S, S]`, in [-1, 1] across it."""
    weights = image[0].double()
    side = weights.shape[0]
    across = (torch.arange(side) + 0.5) * 2 / side - 1
    return float((weights.sum(0) * across).sum() / weights.sum()), float(
        (weights.sum(1) * across).sum() / weights.sum()
    )


@pytest.mark.row("D3")
@pytest.mark.parametrize("preprocessing", [SHORT, EXACT])
@pytest.mark.parametrize("size", [(90, 120), (120, 90), (40, 50), (64, 64)])
def test_outside_training_a_point_stays_on_its_spot(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    """After resize by short side or to the exact size, the point is where the bright spot is, to a tenth of a pixel."""
    place = (size[1] * 0.45, size[0] * 0.55)
    image, points = joint_eval_transform(preprocessing)(_spots(*size, [place]), _points([place], size))
    assert image.shape == (1, 64, 64) and image.dtype == torch.float32
    assert points[0].tolist() == pytest.approx(_centre(image), abs=0.2 / 32)


@pytest.mark.row("D3")
@pytest.mark.parametrize("augmentation", ["crop", "shift", "affine", "flip", "crop+affine+flip+color", "none"])
def test_in_training_a_point_stays_on_its_spot(augmentation: str) -> None:
    """Under every augmentation and many seeds, points follow their spots; flips are right to a part of a pixel too."""
    place = (60.0, 41.0)
    image, size = _spots(84, 110, [place]), (84, 110)
    transform = joint_train_transform(EXACT, augmentation, [(0, 1)])
    for seed in range(12):
        seed_generators(seed)
        made, points = transform(image, _points([place, place], size))
        if augmentation == "crop+affine+flip+color":  # the spot may be cut, and colours have no floor
            assert (points - points[0]).abs().max() == 0
            continue
        x, y = points[0].tolist()
        if max(abs(x), abs(y)) < 0.6:  # far enough from the edge for the whole spot to be seen
            assert _centre(made) == pytest.approx((x, y), abs=0.25 / 32), (augmentation, seed)


@pytest.mark.row("D3")
def test_a_flip_exchanges_the_names_of_pairs() -> None:
    """In a mirrored picture the point called left is the one that was right, and the middle one keeps its name."""
    places = [(20.0, 30.0), (80.0, 34.0), (50.0, 60.0)]
    transform = joint_train_transform(EXACT, "flip", [(0, 1)])
    plain = joint_eval_transform(EXACT)(_spots(84, 100, places), _points(places, (84, 100)))[1]
    seen = set()
    for seed in range(20):
        seed_generators(seed)
        points = transform(_spots(84, 100, places), _points(places, (84, 100)))[1]
        flipped = not torch.allclose(points, plain)
        if flipped:
            mirrored = plain[[1, 0, 2]] * torch.tensor([-1.0, 1.0])
            assert torch.allclose(points, mirrored, atol=1e-6)
        seen.add(flipped)
    assert seen == {True, False}


def test_a_flip_without_pairs_is_refused() -> None:
    """Nothing says which points change places, and the message says what to give."""
    with pytest.raises(ConfigError, match=r"flips pictures.*--flip-pairs"):
        joint_train_transform(EXACT, "crop+flip")


@pytest.mark.parametrize("word", ["trivial", "crop+spin", ""])
def test_fails_on_an_augmentation_that_points_cannot_follow(word: str) -> None:
    """TrivialAugment and unknown words are refused with those that there are."""
    with pytest.raises(ConfigError, match="Join words of: none, shift, crop, affine, flip, color"):
        joint_train_transform(EXACT, word, [(0, 1)])


@pytest.mark.row("D3")
@pytest.mark.parametrize("augmentation", ["none", "crop+affine+flip+color", "shift+flip"])
def test_missing_points_stay_missing_and_harm_no_other(augmentation: str) -> None:
    """A NaN comes out as NaN at its own (or its partner's) place, and the others are what they would be."""
    image, size = _spots(84, 110, [(50, 40)]), (84, 110)
    transform = joint_train_transform(EXACT, augmentation, [(0, 2)])
    for seed in range(6):
        seed_generators(seed)
        whole = transform(image, _points([(10, 10), (50, 40), (100, 12)], size))[1]
        seed_generators(seed)
        holes = transform(image, _points([(math.nan, math.nan), (50, 40), (100, 12)], size))[1]
        missing = holes.isnan().all(-1)
        assert missing.sum() == 1 and not missing[1]
        assert torch.equal(holes[~missing], whole[~missing])


@pytest.mark.row("D3")
def test_points_off_the_picture_are_kept_where_they_are() -> None:
    """Nothing is clamped: a point to the left of the picture has an x below -1."""
    points = joint_eval_transform(EXACT)(_spots(50, 100, [(50, 25)]), _points([(-10, 25), (50, 70)], (50, 100)))[1]
    assert points[0, 0] == pytest.approx((-10 + 0.5) * 2 / 100 - 1) and points[1, 1] > 1


@pytest.mark.row("D3", "U1")
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(8, 900), st.integers(8, 900)),
    exact=st.booleans(),
    shares=st.lists(st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)), min_size=1, max_size=5),
)
def test_to_picture_undoes_what_the_transform_did(
    size: tuple[int, int], exact: bool, shares: list[tuple[float, float]]
) -> None:
    """For any picture and any point, resize, crop and scaling are undone to a thousandth of the side."""
    preprocessing = EXACT if exact else SHORT
    height, width = size
    places = [(x * width, y * height) for x, y in shares]
    points = joint_eval_transform(preprocessing)(torch.zeros(1, *size, dtype=torch.uint8), _points(places, size))[1]
    back = to_picture(points.flatten(), size, preprocessing)
    assert torch.allclose(back, torch.tensor(places), atol=1e-3 * max(size))


def test_a_picture_alone_has_the_pixels_of_a_picture_with_points() -> None:
    """What `predict` feeds the network is to the bit what evaluation feeds it, and what pictures of classes get."""
    image = torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for exact in (False, True):
        preprocessing = Preprocessing(32, 36, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), exact=exact)
        joint = joint_eval_transform(preprocessing)(image, _points([(3, 4)], (70, 90)))[0]
        assert type(joint) is Tensor
        assert torch.equal(picture_transform(preprocessing)(image), joint)
        assert torch.equal(eval_transform(preprocessing)(image), joint)


def test_your_own_pipeline_gets_picture_and_key_points(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A v2 pipeline by import path is called with both; its bytes are scaled and its points put across the input."""
    (tmp_path / "own_joint.py").write_text(
        "from torchvision.transforms import v2\nboth = v2.Compose([v2.Resize((8, 8)), v2.RandomHorizontalFlip(1.0)])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    transform = joint_train_transform(Preprocessing(8, 8, (0.0,), (1.0,)), "none", custom="own_joint:both")
    image, points = transform(torch.full((1, 8, 8), 255, dtype=torch.uint8), _points([(0, 7)], (8, 8)))
    assert float(image.min()) == 1.0
    assert points.tolist() == [[pytest.approx(7.5 / 4 - 1), pytest.approx(7.5 / 4 - 1)]]


def test_flip_order_is_its_own_inverse() -> None:
    """Mirroring twice is mirroring never."""
    order = flip_order([(0, 3), (1, 2)], 5)
    assert order.tolist() == [3, 2, 1, 0, 4]
    assert np.array_equal(order[order], np.arange(5))


@pytest.mark.row("D3")
@pytest.mark.parametrize("preprocessing", [SHORT, EXACT])
def test_the_mean_shape_is_where_points_lie_across_the_input(preprocessing: Preprocessing) -> None:
    """Mean and deviation are those of the transformed points; missing points and unreadable pictures are left out."""
    values = np.array([[[10, 20], [30, 5]], [[40, 8], [math.nan] * 2], [[1, 1], [2, 2]]], np.float64)
    sizes = np.array([[60, 90], [80, 50], [0, 0]])
    first, second = (
        joint_eval_transform(preprocessing)(torch.zeros(1, *map(int, size), dtype=torch.uint8), points)[1]
        for size, points in zip(
            sizes[:2],
            (_points([(10, 20), (30, 5)], (60, 90)), _points([(40, 8), (math.nan, math.nan)], (80, 50))),
            strict=True,
        )
    )
    mean, std = mean_shape(values, sizes, preprocessing)
    assert mean[:2] == pytest.approx(((first[0] + second[0]) / 2).tolist(), abs=1e-6)
    assert std[:2] == pytest.approx(((first[0] - second[0]).abs() / 2).tolist(), abs=1e-6)
    assert mean[2:] == pytest.approx(first[1].tolist(), abs=1e-6) and std[2:] == [1.0, 1.0]


@pytest.mark.parametrize("augmentation", ["none", "shift+flip", "crop+affine+flip+color"])
def test_the_steps_one_after_another_are_the_transform(augmentation: str) -> None:
    """Picture and points have the same bits from the same seed: nothing is left out and nothing added."""
    places, size = [(20.0, 30.0), (80.0, 34.0)], (84, 100)
    transform = joint_train_transform(EXACT, augmentation, [(0, 1)])
    together, finishing = steps_of(transform)
    for seed in range(4):
        seed_generators(seed)
        whole = transform(_spots(*size, places), _points(places, size))
        seed_generators(seed)
        image, points = tv_tensors.Image(_spots(*size, places)), _points(places, size)
        for step in together:
            image, points = step(image, points)
        picture = image.as_subclass(Tensor)
        for finish in finishing:
            picture = finish(picture)
        assert torch.equal(picture, whole[0]) and torch.equal(points.as_subclass(Tensor), whole[1])


@pytest.mark.row("D3")
def test_colours_change_as_torchvision_changes_them() -> None:
    """The picture has the pixels of torchvision's own jitter under the same seed, and points stay where they are."""
    picture = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colours = Preprocessing(64, 72, (0.0,) * 3, (1.0,) * 3)
    points = _points([(30.0, 40.0)], (90, 120))
    plain, placed = joint_eval_transform(colours)(picture, points)
    for seed in range(5):
        seed_generators(seed)
        found, moved = joint_train_transform(colours, "color")(picture, points)
        seed_generators(seed)
        square = (plain * 255).round().to(torch.uint8)
        expected = v2.ColorJitter(0.3, 0.3, 0.3)(square).float() / 255
        assert torch.allclose(found, expected, rtol=0, atol=1e-6) and torch.equal(moved, placed)
