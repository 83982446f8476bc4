"""DATA as it lies there, right or wrong: where `open_data` stops at what it cannot use, this goes on and notes it.

What can be trained on is taken from `open_data` itself, so the check and the training never disagree. Only when it
refuses is DATA walked again, leniently, so that pictures are checked whatever the class folders look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from holdfast.data.check.finding import Finding, Item, Severity, shown
from holdfast.data.check.lenient_folder import walk_folder
from holdfast.data.division.split_file import with_split
from holdfast.data.files import FilePictures, natural_key
from holdfast.data.notice import Notice, without
from holdfast.data.sample import Collection, Indices, Pictures
from holdfast.data.sources import open_data
from holdfast.data.tables.annotations import guess_task
from holdfast.data.tables.csv_table import LABEL_COLUMNS, TableProblems, files_and_sets
from holdfast.data.tables.table import Table, read_rows
from holdfast.data.targets import TASKS, Targets, Task, targets_of
from holdfast.errors import DataError

# Of notices; the others are notes. What is left out by mistake makes a worse model, and nothing else says so.
_SEVERITIES: dict[str, Severity] = {"loose-pictures": "warning", "dead-links": "warning", "unread-kinds": "warning"}
_ADVICE = {
    "loose-pictures": "Move into a class folder.",
    "dead-links": "Mend: a class may be missing.",
    "unread-kinds": "Convert to JPEG or PNG.",
}


@dataclass
class Layout:
    """Every picture of DATA that could be found.

    Attributes:
        names: what each picture is called: its path below `root`, or its place in an array.
        labels: `[N]` places in `classes`; -1 for a picture of no class.
        sets: one word a picture, "train", "val" or "test"; "" where DATA does not divide.
        classes: class names; none where something else is learned than classes.
        task: what is learned of a picture.
        targets: of each picture; None for classes, and where they could not be read.
        root: what the names are relative to; None for arrays.
        pictures: the collection, where it can be opened; arrays are read from it.
        columns: of a CSV.
        findings: what is wrong with the structure, and what else there is to know of it.
    """

    names: list[str] = field(default_factory=list)
    labels: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    sets: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    task: Task = "classification"
    targets: Targets | None = None
    root: Path | None = None
    pictures: Pictures | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def class_of(self, index: int) -> str:
        """Returns the class name of a picture, "" for a picture of no class."""
        return self.classes[self.labels[index]] if self.labels[index] >= 0 else ""

    @cached_property
    def answers(self) -> Indices:
        """`[N]` int64: equal numbers for equal targets; -1 for a picture of no class."""
        if self.targets is None:
            return self.labels
        _, places = np.unique([self.targets.text(i) for i in range(len(self.targets))], return_inverse=True)
        return places.astype(np.int64)

    def told(self, index: int) -> str:
        """Returns what is to be learned of a picture, in a few words; "" of points, which are no words."""
        if self.targets is None:
            return self.class_of(index)
        return "" if self.task == "landmarks" else self.targets.text(index).replace("|", ", ")


def read_layout(
    source: str,
    *,
    classes: Sequence[str] | None = None,
    image_dir: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    task: str | None = None,
    target_columns: Sequence[str] | None = None,
    split: str | None = None,
    fold: int | None = None,
) -> Layout:
    """Returns what lies at DATA. Arguments as for `open_data` and `with_split`.

    Raises:
        DataError: there is nothing at `source`.
    """
    path = Path(source).expanduser()
    if path.exists() and not path.is_dir() and not path.is_file():  # reading a pipe would wait for a writer for ever
        raise DataError(f"{source} is neither a folder nor a file. Expected a folder of class folders or a CSV.")
    try:
        collection = open_data(
            source,
            classes=classes,
            image_dir=image_dir,
            file_column=file_column,
            label_column=label_column,
            task=task,
            target_columns=target_columns,
        )
    except DataError as error:
        if not source or source == "digits" or source.startswith("torchvision:"):
            raise
        if path.is_dir():
            return _refused_folder(path, error, classes)
        if path.suffix.lower() not in (".csv", ".tsv", ".txt") or not path.is_file():
            raise
        return _refused_table(
            path, error, Path(image_dir).expanduser() if image_dir else None, file_column, label_column, task
        )
    try:
        return layout_of(with_split(collection, split, fold))
    except DataError as error:  # a table that does not fit: the pictures are checked as they are divided without it
        layout = layout_of(collection)
        layout.findings.insert(0, _refusal(error))
        return layout


def layout_of(collection: Collection) -> Layout:
    """Returns the layout of a collection that is open."""
    pictures = collection.pictures
    sets = np.full(len(pictures), "", dtype=object)
    for name, indices in collection.sets.items():
        sets[indices] = name
    targets = targets_of(pictures)
    has_classes = targets.task == "classification"
    # What is counted anew here, picture by picture, is not told twice.
    notes = [_of_notice(line) for line in without(collection.notices, "targets")]
    return Layout(
        list(pictures.paths) if isinstance(pictures, FilePictures) else list(map(pictures.name, range(len(pictures)))),
        pictures.labels if has_classes else np.full(len(pictures), -1),
        sets.tolist(),
        list(pictures.classes) if has_classes else [],
        targets.task,
        None if has_classes else targets,
        pictures.root if isinstance(pictures, FilePictures) else None,
        pictures,
        collection.columns,
        notes,
    )


def _of_notice(line: str) -> Finding:
    kind = line.kind if isinstance(line, Notice) else "structure"
    return Finding(_SEVERITIES.get(kind, "note"), kind, shown(line), _ADVICE.get(kind, ""))


def _refused_folder(root: Path, error: DataError, classes: Sequence[str] | None) -> Layout:
    found = walk_folder(root, classes)
    if not any(finding.severity == "error" for finding in found.findings):
        found.findings.insert(0, _refusal(error))
    index = {name: k for k, name in enumerate(found.classes)}
    labels = np.array([index.get(name, -1) for name in found.class_names], dtype=np.int64)
    return Layout(found.paths, labels, found.sets, found.classes, root=root, findings=found.findings)


def _refused_table(
    path: Path,
    error: DataError,
    image_dir: Path | None,
    file_column: str | None,
    label_column: str | None,
    asked: str | None,
) -> Layout:
    """Takes from a CSV the rows whose files are there, whatever the others are."""
    findings = [_refusal(error)]
    try:
        table = read_rows(path)
        files = files_and_sets(table, image_dir, file_column, once=False)
    except DataError:
        return Layout(findings=findings)
    lines = error.problems if isinstance(error, TableProblems) else [*table.problems, *files.problems]
    if lines:
        findings[0].items = [Item(shown(line)) for line in lines]
    task: Task = next((known for known in TASKS if known == asked), guess_task(table.header))
    labels = _labels(table, label_column) if task == "classification" else [""] * len(table.rows)
    kept = sorted({path: k for k, path in reversed(list(enumerate(files.paths))) if path}.values())
    classes = sorted({labels[k] for k in kept if labels[k]}, key=natural_key)
    index = {name: k for k, name in enumerate(classes)}
    columns = {name: [cells[k] for k in kept] for name, cells in table.columns().items()}
    return Layout(
        [files.paths[k] for k in kept],
        np.array([index.get(labels[k], -1) for k in kept], dtype=np.int64),
        [files.set_names[k] for k in kept],
        classes,
        task,
        root=files.root,
        columns=columns,
        findings=findings,
    )


def _labels(table: Table, label_column: str | None) -> list[str]:
    try:
        return table.column(table.find(label_column, LABEL_COLUMNS, "labels", "--label-column"))
    except DataError:
        return [""] * len(table.rows)


def _refusal(error: DataError) -> Finding:
    """Returns what `open_data` said as a finding: its first sentence, and its list as items."""
    first, *lines = str(error).splitlines()
    items = [Item(shown(line.strip())) for line in lines if line.startswith("  ") and not line.startswith("  … and")]
    advice = " ".join(line for line in lines if not line.startswith("  "))
    return Finding("error", "structure", shown(first.rstrip(".:")), advice, items)
