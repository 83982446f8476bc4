"""Points, labels and numbers, with decoded pictures kept in memory, on disk or nowhere: the same batches."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from holdfast.config import Config
from holdfast.data import Collection, Loader, Pictures
from holdfast.data.check import check_files
from holdfast.data.division.index import format_index, make_index
from holdfast.data.files import FilePictures
from holdfast.data.preprocessing.keypoints import joint_eval_transform, joint_train_transform
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform, train_transform
from holdfast.data.sample import Indices, SetName
from holdfast.data.tables.annotations import open_table
from holdfast.data.targets import targets_of
from holdfast.run.caching import plan_cache

_SETS: dict[SetName, Indices] = {"train": np.arange(9), "val": np.arange(9, 12)}
_AUGMENTATIONS = {
    "landmarks": ["none", "shift+color", "crop+affine+flip+color", "affine+flip"],
    "multilabel": ["none", "shift+flip", "affine", "crop+flip+color"],
    "regression": ["none", "shift", "crop+flip+color"],
}
_TABLES = {
    "landmarks": ("file,left_x,left_y,right_x,right_y", lambda c: f"{c.normal(9, 9):.2f},4,,"),
    "multilabel": ("file,labels", lambda c: "a;b" if c.random() < 0.5 else "b"),
    "regression": ("file,size", lambda c: f"{c.normal():.4f}"),
}


def _collection(root: Path, task: str, seed: int) -> Collection:
    """Twelve pictures of many sizes, some of which lie on their side, and a table of targets."""
    chance = np.random.default_rng(seed)
    header, cells = _TABLES[task]
    rows = [header]
    for number in range(12):
        height, width = chance.integers(10, 70, 2)
        exif = Image.Exif()
        exif[0x0112] = int(chance.integers(1, 9))
        name = f"{number}.{('jpg', 'png')[number % 2]}"
        Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / name, exif=exif)
        rows.append(f"{name},{cells(chance)}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    return open_table(root / "table.csv", task=task, target_columns=["size"] if task == "regression" else None)


def _transform(task: str, name: SetName, preprocessing: Preprocessing, augmentation: str) -> Any:
    if task == "landmarks" and name == "train":
        return joint_train_transform(preprocessing, augmentation, [(0, 1)])
    if name == "train":
        return train_transform(preprocessing, augmentation)
    return joint_eval_transform(preprocessing) if task == "landmarks" else eval_transform(preprocessing)


def _seen(pictures: Pictures, indices: Indices, transform: Any, cut: int, workers: int) -> list[tuple[bytes, ...]]:
    """Two epochs, left after `cut` batches and taken up by another loader."""
    batches: list[Any] = []
    for start, stop in ((0, cut), (cut, None)):
        loader = Loader(pictures, indices, batch_size=2, transform=transform, shuffle=True, num_workers=workers)
        loader.seek(start)
        total = 2 * len(loader) if stop is None else stop
        while len(batches) < total:
            for batch in loader:
                batches.append(tuple(part.numpy().tobytes() for part in batch))
                if len(batches) == total:
                    break
        loader.close()
    return batches


@st.composite
def _recipes(draw: st.DrawFn) -> dict[str, Any]:
    task = draw(st.sampled_from(list(_TABLES)))
    return {
        "task": task,
        "augment": draw(st.sampled_from(_AUGMENTATIONS[task])),
        "decode_size": draw(st.sampled_from([None, 20])),
        "resize": draw(st.sampled_from(["exact", "short"])),
        "seed": draw(st.integers(0, 2**16)),
        "cut": draw(st.integers(1, 3)),
        "interpolation": draw(st.sampled_from(["bilinear", "bicubic"])),
    }


@pytest.mark.row("D3", "D6")
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(_recipes())
def test_a_cache_changes_no_bit_of_pictures_or_targets(recipe: dict[str, Any]) -> None:
    """Whatever the task and what is done to pictures first: nowhere, in memory and on disk agree, from any batch on;
    and without `decode_size` they agree with a loader that knows no cache."""
    task, augmentation = recipe["task"], recipe["augment"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures = _collection(root, task, recipe["seed"]).pictures
        assert isinstance(pictures, FilePictures)
        index = root / "split.csv"
        index.write_text(format_index(make_index(pictures, _SETS, check_files(pictures))))
        exact = recipe["resize"] == "exact"
        preprocessing = Preprocessing(
            16, 18, (0.5,) * 3, (0.2,) * 3, interpolation=recipe["interpolation"], exact=exact
        )
        given = {key: recipe[key] for key in ("task", "augment", "decode_size", "resize")}
        for name, indices in _SETS.items():
            transform = _transform(task, name, preprocessing, augmentation)
            seen = {}
            for kind in ("off", "ram", "disk"):
                config = Config(data="x", epochs=2, cache=kind, cache_dir=str(root / "cache"), **given)
                cache = plan_cache(config, pictures, _SETS, preprocessing, index)
                cache.open(pictures, _SETS)
                wrapped = cache.wrap(pictures, name)
                assert cache.note is None and targets_of(wrapped) is targets_of(pictures)
                seen[kind] = _seen(wrapped, indices, transform, recipe["cut"] if kind != "off" else 1, 0)
            assert seen["ram"] == seen["off"] and seen["disk"] == seen["off"]
            if name == "val" or not recipe["decode_size"]:
                assert _seen(pictures, indices, transform, 1, 0) == seen["off"]
