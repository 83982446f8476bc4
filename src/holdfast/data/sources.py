"""DATA, as a person writes it on the command line, to a collection of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from holdfast.data.arrays import ArrayPictures, load_digits
from holdfast.data.folders.folder import read_folder
from holdfast.data.idx import find_idx_folder, read_idx_folder
from holdfast.data.sample import Collection
from holdfast.data.tables.annotations import open_table
from holdfast.errors import DataError

_FORMS = "a folder of class folders, a CSV, a folder of IDX files, `digits`, or `torchvision:NAME`"

_TABLES = (".csv", ".tsv", ".txt")


def open_data(
    source: str,
    *,
    classes: Sequence[str] | None = None,
    image_dir: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    task: str | None = None,
    target_columns: Sequence[str] | None = None,
) -> Collection:
    """Opens DATA read-only.

    Args:
        source: a folder, a CSV, a folder of IDX files, "digits", or "torchvision:NAME[@FOLDER]" (a data set that
            torchvision knows and that is already unpacked in FOLDER, by default `./data`; nothing is downloaded).
        classes, image_dir, file_column, label_column: see `read_folder` and `read_csv`.
        task, target_columns: see `open_table`; DATA that is no CSV has classes.

    Raises:
        DataError: there is nothing there, or it is none of these.
    """
    is_table = Path(source).suffix.lower() in _TABLES
    if task not in (None, "classification") and not is_table:
        raise DataError(f"The targets of --task {task} are columns of a CSV, and {source} is none. Give one.")
    if classes is not None and (source == "digits" or source.startswith("torchvision:")):
        raise DataError(f"A list of classes is for folders and CSVs; {source} brings its own.")
    if source == "digits":
        return Collection(load_digits())
    if source.startswith("torchvision:"):
        return _open_torchvision(source.removeprefix("torchvision:"))
    path = Path(source).expanduser()
    if not source or not _is_there(path):
        raise DataError(f"There is nothing at {source or repr(source)}. Expected {_FORMS}.")
    if path.is_file():
        if is_table:
            directory = Path(image_dir).expanduser() if image_dir else None
            return open_table(
                path,
                directory,
                task=task,
                classes=classes,
                file_column=file_column,
                label_column=label_column,
                target_columns=target_columns,
            )
        if idx_folder := find_idx_folder(path.parent):
            return read_idx_folder(idx_folder)
        raise DataError(f"{source} is a file, and not a CSV. Expected {_FORMS}.")
    if is_empty(path):
        raise DataError(f"{source} is an empty folder. Expected one folder a class in it, such as {source}/cats/1.jpg.")
    if idx_folder := find_idx_folder(path):
        if classes is not None:
            raise DataError(f"A list of classes is for folders and CSVs; the IDX files in {source} have numbers.")
        return read_idx_folder(idx_folder)
    return read_folder(path, classes)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DataError(f"Reading {path}: {error.strerror}. Make the folders above it readable.") from error


def is_empty(folder: Path) -> bool:
    """Returns whether there is nothing in a folder. Raises DataError when it cannot be looked into."""
    try:
        with os.scandir(folder) as entries:
            found = next(entries, None)
            if found is not None:
                found.stat(follow_symlinks=False)  # listing is one right, opening what is listed another
            return found is None
    except OSError as error:
        raise DataError(f"Reading {folder}: {error.strerror}. Make it readable.") from error


def _open_torchvision(spec: str) -> Collection:
    from torchvision import datasets

    name, _, folder = spec.partition("@")
    kind = getattr(datasets, name, None)
    if not isinstance(kind, type):
        known = ", ".join(sorted(n for n in datasets.__all__ if n in _TORCHVISION_ARRAYS))
        raise DataError(f"torchvision has no data set {name!r}. Those we can open: {known}.")
    if name not in _TORCHVISION_ARRAYS:
        raise DataError(
            f"torchvision:{name} cannot be opened yet; we open {', '.join(_TORCHVISION_ARRAYS)}. Point at its "
            "folder instead."
        )
    root = folder or "data"
    try:
        parts = [kind(root, train=train, download=False) for train in (True, False)]
    except RuntimeError as error:
        raise DataError(
            f"torchvision:{name} is not unpacked in {root!r} ({str(error).splitlines()[0]}). We download "
            f"nothing: fetch it with torchvision once, or give its place as torchvision:{name}@FOLDER."
        ) from error
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets) for part in parts])
    first = len(parts[0])
    sets = {"train": np.arange(first), "test": np.arange(first, len(images))}
    return Collection(ArrayPictures(images, labels, list(parts[0].classes)), sets)  # type: ignore[arg-type]


_TORCHVISION_ARRAYS = ("MNIST", "FashionMNIST", "KMNIST", "QMNIST", "CIFAR10", "CIFAR100")
