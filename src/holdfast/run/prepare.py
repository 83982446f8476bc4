"""From DATA to sets that are ready to train on: opened, checked, divided, and for a run that exists, unchanged."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import shlex
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from holdfast.checkpoints.digest import digest_of
from holdfast.config import Config
from holdfast.data import open_data
from holdfast.data.check import CheckedFile, Finding, check_files, short_findings
from holdfast.data.division.index import (
    compare_with_index,
    format_index,
    make_index,
    read_index,
    refuse_changes,
    sets_from_index,
)
from holdfast.data.division.split_file import with_split
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection, Indices, SetName
from holdfast.errors import DataError, first_of
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory
from holdfast.run.division import divide, refuse_another_split
from holdfast.words import count

INDEX_FILE = "split.csv"


@dataclass
class PreparedData:
    """The collection and its sets."""

    collection: Collection
    sets: dict[SetName, Indices]

    @property
    def classes(self) -> list[str]:
        """Class names; a label is an index into this list."""
        return self.collection.pictures.classes


def open_collection(config: Config) -> Collection:
    """Opens DATA as the settings say. Raises DataError."""
    return open_data(
        config.data,
        classes=config.classes,
        image_dir=config.image_dir,
        file_column=config.file_column,
        label_column=config.label_column,
        task=config.task,
        target_columns=config.target_columns,
    )


def prepare_new(config: Config, collection: Collection, directory: RunDirectory, console: Console) -> PreparedData:
    """Checks every picture, divides the collection and writes `split.csv`.

    Raises:
        DataError: pictures cannot be read or contradict each other (`on_bad_image` "error"), or nothing is left of a
            class.
    """
    pictures = collection.pictures
    checked: list[CheckedFile] | None = None
    if isinstance(pictures, FilePictures):
        with console.progress("checking pictures", len(pictures), unit="picture") as bar:
            given = bool(collection.sets or config.split)  # our own division has no copies in two sets
            checked = check_files(pictures, bar.update, likeness=given)
        collection = _without_bad(collection, checked, config, directory, console)
    division, notices = divide(config, collection, checked)
    if checked is not None:
        _tell(short_findings(with_split(collection, config.split, config.fold), checked), config, console)
    sets = division.sets
    if "val" not in sets:
        raise DataError(
            f"{config.data}: there are too few pictures, or groups of them, for a validation set. Add pictures, or "
            "raise --val-fraction."
        )
    directory.write(INDEX_FILE, format_index(make_index(pictures, sets, checked, division.groups)))
    return PreparedData(dataclasses.replace(collection, notices=collection.notices + notices), sets)


def prepare_again(config: Config, collection: Collection, directory: RunDirectory) -> PreparedData:
    """Takes the sets from the run's `split.csv`, after making sure that the data are what they were.

    Raises:
        DataError: they are not, or `--split` divides them otherwise; the message says what changed.
    """
    path = directory.path / INDEX_FILE
    environment = directory.environment()
    rows = read_index(path)
    if digest_of(path.read_bytes()) != environment.get("split_digest"):
        raise DataError(f"{path} is not as the run wrote it. Put it back, or start a new run with another --out.")
    pictures = collection.pictures
    if isinstance(pictures, FilePictures):
        began = datetime.fromisoformat(environment["began"]).timestamp()
        refuse_changes(config.data, compare_with_index(pictures, rows, began))
    elif pictures.fingerprint() != environment.get("data_fingerprint"):
        refuse_changes(
            config.data, [f"the arrays: {count(len(rows), 'picture')} then, {len(pictures)} now, with other contents"]
        )
    sets = sets_from_index(rows)
    refuse_another_split(config, collection, sets)
    return PreparedData(collection, sets)


def split_digest(directory: RunDirectory) -> str:
    """Returns the digest of the run's `split.csv`."""
    return digest_of((directory.path / INDEX_FILE).read_bytes())


def _tell(findings: list[Finding], config: Config, console: Console) -> None:
    """Warns in a line for each finding; raises for one that is an error, unless bad pictures are to be put up with."""
    for finding in findings:
        if finding.severity == "error" and config.on_bad_image == "error":
            raise DataError(
                f"{finding.title[0].upper()}{finding.title[1:]}:\n{first_of([item.text for item in finding.items])}\n"
                f"{finding.advice} `{_check_command(config)}` shows them; --on-bad-image skip trains all the same."
            )
        console.warn(f"{finding.title}: `{_check_command(config)}` shows them")


def _check_command(config: Config) -> str:
    words = ["holdfast", "check", config.data]
    for name in ("image_dir", "file_column", "label_column", "task", "target_columns", "classes", "split", "fold"):
        value = getattr(config, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(words)


def _without_bad(
    collection: Collection, checked: list[CheckedFile], config: Config, directory: RunDirectory, console: Console
) -> Collection:
    """Returns the collection with its sets free of unreadable pictures, or raises naming them."""
    bad = np.array([c.problem is not None for c in checked], dtype=bool)
    if not bad.any():
        return collection
    problems = [c.problem for c in checked if c.problem]
    if config.on_bad_image == "error":
        raise DataError(
            f"{len(problems)} of {count(len(checked), 'picture')} cannot be read:\n{first_of(problems)}\n"
            "Mend or remove them, or leave them out with --on-bad-image skip."
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "problem"))
    writer.writerows((collection.pictures.name(int(i)), checked[int(i)].problem) for i in np.flatnonzero(bad))
    directory.write("bad_images.csv", text.getvalue())
    console.warn(
        f"left out {count(len(problems), 'picture')} that cannot be read (all in "
        f"{directory.path / 'bad_images.csv'}):\n{first_of(problems, 3)}"
    )
    everything = np.flatnonzero(~bad)
    train = collection.sets.get("train", everything)
    left = set(collection.pictures.labels[train[~bad[train]]].tolist())
    missing = [name for k, name in enumerate(collection.pictures.classes) if k not in left]
    if missing:
        raise DataError(
            f"Without the pictures that cannot be read, nothing is left to train on of class {', '.join(missing)}. "
            f"Mend them: {problems[0]}"
        )
    sets = {name: indices[~bad[indices]] for name, indices in collection.sets.items()}
    return Collection(collection.pictures, sets, collection.notices, usable=everything)


def default_workers(config: Config, collection: Collection) -> int:
    """Returns how many processes prepare pictures: as asked, else one a core (8 at most); none for arrays."""
    if config.workers is not None:
        return config.workers
    if not isinstance(collection.pictures, FilePictures):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)
