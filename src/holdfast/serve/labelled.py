"""Which labelled pictures `val` means: the run's own sets, or other data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.config import load_config
from holdfast.data import open_data
from holdfast.data.division.index import read_index, sets_from_index
from holdfast.data.division.split_file import with_split
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection, Indices, Pictures
from holdfast.data.targets import TargetSpec
from holdfast.errors import ConfigError, DataError
from holdfast.serve.predictor import Predictor


@dataclass(frozen=True)
class Labelled:
    """Pictures, which of them, and what to call them."""

    pictures: Pictures
    indices: Indices
    description: str


def open_labelled(
    predictor: Predictor,
    data: str | None,
    set_name: str | None,
    *,
    image_dir: str | None = None,
    split: str | None = None,
    fold: int | None = None,
) -> Labelled:
    """Opens the pictures.

    Args:
        data: None for the data of the run that the model belongs to, divided as it divided them.
        set_name: "train", "val", "test" or "all"; None for val of the run's data, and for all of other data (or its
            val or test set where it is divided).
        image_dir: what file names in a CSV are relative to.
        split, fold: divide the data so, see `with_split`; by default as the run or DATA does.

    Raises:
        ConfigError: no run is known and no data given, or there is no such set.
        DataError: the data cannot be opened, or are not the run's any more.
    """
    if data is not None:
        collection = with_split(_open_other(predictor.spec, data, image_dir), split, fold)
        asked = set_name or next((name for name in ("val", "test") if name in collection.sets), "all")
    else:
        data, collection = _open_own(predictor, image_dir)
        collection, asked = with_split(collection, split, fold), set_name or "val"
    sets = collection.sets
    pictures = collection.pictures
    if isinstance(pictures, FilePictures):
        pictures.channels = predictor.preprocessing.channels
    if asked == "all":
        return Labelled(pictures, np.arange(len(pictures), dtype=np.int64), data)
    if asked not in sets:
        raise ConfigError(f"{data} has no {asked} set. It has: {', '.join(sets) or 'no sets; take --set all'}.")
    return Labelled(pictures, sets[asked], f"{data} ({asked})")


def _open_other(spec: TargetSpec, data: str, image_dir: str | None) -> Collection:
    """Opens other data than the run's, its targets being of the model's task."""
    names = list(spec.names)
    return open_data(
        data,
        image_dir=image_dir,
        task=spec.task,
        target_columns=names if spec.task == "regression" else None,
        classes=names if spec.task == "multilabel" else None,
    )


def _open_own(predictor: Predictor, image_dir: str | None) -> tuple[str, Collection]:
    """Opens the data of the run that a model belongs to, divided as the run divided them; returns also their name."""
    run = predictor.file.run
    if run is None:
        raise ConfigError(f"{predictor.file.path} belongs to no run here; give the labelled pictures as DATA.")
    config = load_config(run / "config.yaml", environ={})
    collection = open_data(
        config.data,
        classes=config.classes,
        image_dir=image_dir or config.image_dir,
        file_column=config.file_column,
        label_column=config.label_column,
        task=config.task,
        target_columns=config.target_columns,
    )
    rows = read_index(run / "split.csv")
    if [collection.pictures.name(i) for i in range(len(collection.pictures))] != [row.path for row in rows]:
        raise DataError(
            f"The data at {config.data} are not those of the run in {run} any more. Give labelled pictures as DATA."
        )
    collection.sets = sets_from_index(rows)
    return config.data, collection
