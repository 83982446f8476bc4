from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from holdfast.data.cache.cached_pictures import CachedPictures
from holdfast.data.cache.key import Prefix
from holdfast.data.loading.reading import ReadSample, Sample
from holdfast.data.preprocessing.keypoints import joint_train_transform
from holdfast.data.preprocessing.picture_file import open_bytes
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from holdfast.data.speed.clock import Clock
from holdfast.data.speed.joint_stages import prepare_joint
from holdfast.data.speed.stages import measure_stages
from holdfast.data.tables.annotations import AnnotatedPictures, read_landmarks
from holdfast.errors import DataError
from holdfast.randomness import derive_seed, seed_generators

PREPROCESSING = Preprocessing(32, 36, IMAGENET_MEAN, IMAGENET_STD, scaled_decode=True, exact=True)


def darker(image: Any, points: Any) -> Any:
    """A transform of the user's own: of picture and points."""
    return image // 2, points


def forgetful(image: Any, points: Any) -> Any:
    """One that loses the points."""
    return image


@pytest.fixture
def faces(tmp_path: Path) -> AnnotatedPictures:
    """Three JPEGs of 200 × 260 with two points each, one of them missing."""
    random = np.random.default_rng(0)
    for number in range(3):
        noise = Image.fromarray(random.integers(0, 256, (10, 8, 3), np.uint8))
        noise.resize((200, 260)).save(tmp_path / f"{number}.jpg")
    rows = ["file,left_x,left_y,right_x,right_y", "0.jpg,20,30,150,31", "1.jpg,,,90,200", "2.jpg,5,6,199,259"]
    (tmp_path / "points.csv").write_text("\n".join(rows) + "\n")
    pictures = read_landmarks(tmp_path / "points.csv").pictures
    assert isinstance(pictures, AnnotatedPictures)
    return pictures


def _prepared(faces: AnnotatedPictures, prefix: Prefix, transform: Any, index: int) -> tuple[Any, Clock]:
    path = faces.path(index)
    opened = partial(open_bytes, path.read_bytes(), path, faces.channels, faces.decoder)
    seed_generators(derive_seed("sample", 0, 0, index))
    clock = Clock()
    made = prepare_joint(clock, opened(), opened, prefix, transform, None, faces, index)
    return made, clock


@pytest.mark.row("D3")
@pytest.mark.parametrize("prefix", [Prefix(), Prefix(80, scaled=True)])
@pytest.mark.parametrize(
    ("augmentation", "custom"),
    [("none", None), ("shift+flip", None), ("crop+affine+flip+color", None), ("none", "mine:darker")],
)
def test_what_is_measured_is_what_a_worker_makes(
    faces: AnnotatedPictures, prefix: Prefix, augmentation: str, custom: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Picture and points have the bits of the loader's own reading, missing points too, whatever the augmentation."""
    if custom:
        monkeypatch.setattr("holdfast.data.preprocessing.keypoints.import_callable", lambda *_: darker)
    transform = joint_train_transform(PREPROCESSING, augmentation, [(0, 1)], custom)
    read = ReadSample(CachedPictures(faces, prefix), transform, 0)
    for index in range(3):
        (picture, points), clock = _prepared(faces, prefix, transform, index)
        sample = read(0, index)
        assert isinstance(sample, Sample) and isinstance(sample.target, torch.Tensor)
        assert torch.equal(picture, sample.image) and picture.dtype == torch.float32
        assert torch.equal(points.nan_to_num(9), sample.target.nan_to_num(9))
        assert [name for name, _, _ in clock.seconds][-2:] == ["ToDtype", "Normalize"]
    assert ("darker" in [name for name, _, _ in clock.seconds]) == bool(custom)


def test_a_transform_that_loses_the_points_is_named(faces: AnnotatedPictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it made, and of which picture."""
    monkeypatch.setattr("holdfast.data.preprocessing.keypoints.import_callable", lambda *_: forgetful)
    transform = joint_train_transform(PREPROCESSING, "none", custom="mine:forgetful")
    with pytest.raises(DataError, match=r"made a Image of 1\.jpg; expected a picture and its points"):
        _prepared(faces, Prefix(), transform, 1)


def test_the_main_process_has_nothing_to_finish(faces: AnnotatedPictures) -> None:
    """Points' pictures leave the workers as floats, and are handed over as such."""
    transform = joint_train_transform(PREPROCESSING, "crop+color")
    sampled, stages, ready = measure_stages(
        faces, np.arange(3), Prefix(), transform, batch_size=2, device=torch.device("cpu")
    )
    assert sampled.num == 3 and [tuple(picture.shape) for picture in ready] == [(3, 32, 32)] * 2
    assert {picture.dtype for picture in ready} == {torch.float32}
    assert "main" not in {stage.place for stage in stages}
