"""What is measured is what a training would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.config import Config
from holdfast.run.bench_data import bench_data
from holdfast.run.prepare import open_collection
from holdfast.run.train import _resolve


@pytest.mark.parametrize(
    ("header", "cells", "asked"),
    [
        ("file,label", "{kind}", {}),
        ("file,tags", "small;{kind}", {"task": "multilabel", "label_column": "tags"}),
        ("file,age", "{number}.5", {"task": "regression", "target_columns": ["age"]}),
        ("file,left_x,left_y,right_x,right_y", "1,2,{number},4", {}),
        ("file,nose_x,nose_y", "1,{number}", {"batch_size": 4, "augment": "crop"}),
    ],
)
def test_settings_left_open_are_those_of_train(
    picture_folder: Path, header: str, cells: str, asked: dict[str, Any]
) -> None:
    """For every task, the choices are those that `train` makes of the same settings and pictures."""
    files = sorted(picture_folder.rglob("*.jpg"))
    rows = [f"{path},{cells.format(kind=path.parent.name, number=n)}" for n, path in enumerate(files)]
    table = picture_folder.parent / "table.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    config = Config(data=str(table), image_dir=str(picture_folder), workers=0, **asked)
    timing = bench_data(config, num=3)
    resolved, _, _ = _resolve(config, open_collection(config))
    found = {name: getattr(timing, name) for name in ("img_size", "augment", "decode_size", "batch_size")}
    assert found == {name: getattr(resolved, name) for name in found}
    assert timing.task == resolved.task and timing.sampled.num == 3
