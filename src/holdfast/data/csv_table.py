"""A CSV with a file-name column and a label column, beside a folder of pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from holdfast.data.files import FilePictures, labels_array, natural_key
from holdfast.data.sample import Collection, SetName
from holdfast.errors import DataError, first_of

_FILE_COLUMNS = (
    "file",
    "filename",
    "file_name",
    "path",
    "filepath",
    "image",
    "image_name",
    "image_path",
    "img",
    "name",
)
_LABEL_COLUMNS = ("label", "class", "target", "class_name", "category", "y")
_SET_COLUMNS = ("set", "split", "subset", "fold")
_SET_VALUES: dict[str, SetName] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip


def read_csv(
    table: Path,
    image_dir: Path | None = None,
    *,
    file_column: str | None = None,
    label_column: str | None = None,
    classes: Sequence[str] | None = None,
    target_transform: Callable[[str], str | int] | None = None,
) -> Collection:
    """Reads labelled pictures from a CSV.

    Args:
        table: the CSV, with a header line. A column `set` (or `split`) with train, val, test divides it.
        image_dir: what file names are relative to; by default the CSV's own folder.
        file_column, label_column: column names; by default the usual ones are recognised (`file`, `path`, `label` …).
        classes: class names in the order wanted; by default the labels found, in natural order.
        target_transform: maps the text of a label to another name, or to an index into `classes`.

    Raises:
        DataError: columns are missing, files are not there, labels are empty or unknown. All rows at once.
    """
    rows, header = _read_rows(table)
    file_column = _pick(table, header, file_column, _FILE_COLUMNS, "file names", "--file-column")
    label_column = _pick(table, header, label_column, _LABEL_COLUMNS, "labels", "--label-column")
    set_column = next((name for name in header if name.lower() in _SET_COLUMNS), None)
    root = image_dir or table.parent
    if not root.is_dir():
        raise DataError(f"The image directory {root} of {table} is not there. Give it with --image-dir.")

    def rename(label: str) -> str:
        return _class_name(table, label if target_transform is None else target_transform(label), classes)

    paths, names, set_names, problems = _collect(rows, root, file_column, label_column, set_column, rename)
    class_names = list(classes) if classes is not None else sorted({n for n in names if n}, key=natural_key)
    known = set(class_names)
    problems += [
        f"line {line}: label {name!r} is not in the list of classes"
        for (line, _), name in zip(rows, names, strict=True)
        if name and name not in known
    ]
    if problems:
        raise DataError(
            f"Reading {table}: {len(problems)} of its {len(rows)} rows cannot be used:\n{first_of(problems)}\n"
            "Mend them and try again."
        )
    _check_classes(table, class_names, names)
    index = {name: k for k, name in enumerate(class_names)}
    labels = labels_array([index[name] for name in names])
    sets = {s: np.flatnonzero(np.array(set_names) == s) for s in _SET_VALUES.values() if s in set_names}
    if sets and "train" not in sets:
        raise DataError(f"Reading {table}: column {set_column!r} has no row with 'train'.")
    shown = ", ".join(f"{n}→{k}" for n, k in list(index.items())[:12])
    notices = [f"labels are numbers; {shown}"] if all(name.isdecimal() for name in class_names) else []
    return Collection(FilePictures(root, paths, labels, class_names), sets, notices)


def _class_name(table: Path, value: str | int, classes: Sequence[str] | None) -> str:
    """Returns the class that a (transformed) label means: a name, or an index into `classes`. Raises DataError."""
    if classes is None or not isinstance(value, int | np.integer):
        return str(value)
    if not 0 <= value < len(classes):
        raise DataError(f"Reading {table}: target_transform made {value}; expected 0 … {len(classes) - 1}.")
    return classes[value]


def _check_classes(table: Path, class_names: list[str], names: list[str]) -> None:
    """Raises DataError when a class that is listed has no row, or when there is one class only."""
    if len(set(class_names)) < len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise DataError(f"Reading {table}: class {twice!r} is listed twice. List each class once.")
    absent = [name for name in class_names if name not in set(names)]
    if absent:
        raise DataError(
            f"Reading {table}: class {absent[0]!r} is listed but no row has it. Leave it out of --classes, or "
            "add pictures."
        )
    if len(class_names) < 2:
        raise DataError(f"{table} has one class only ({class_names[0]!r}). A classifier needs two.")


def _collect(
    rows: list[tuple[int, dict[str, str]]],
    root: Path,
    file_column: str,
    label_column: str,
    set_column: str | None,
    rename: Callable[[str], str],
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Returns each row's path, class name and set name (no set names without a column), and what is wrong with rows."""
    problems: list[str] = []
    paths: list[str] = []
    names: list[str] = []
    set_names: list[str] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        path, label = (row.get(file_column) or "").strip(), (row.get(label_column) or "").strip()
        if not path:
            problems.append(f"line {line}: no file name in column {file_column!r}")
        elif not (root / path).is_file():
            problems.append(f"line {line}: {root / path} is not there")
        elif (before := first_line.setdefault(path, line)) != line:
            # Left in, one picture could be in train and test, or in two classes.
            problems.append(f"line {line}: {path} stands in line {before} already")
        if not label:
            problems.append(f"line {line}: no label for {path!r} in column {label_column!r}")
        else:
            label = rename(label)
        if set_column is not None:
            set_name = _SET_VALUES.get((row.get(set_column) or "").strip().lower())
            if set_name is None:
                problems.append(
                    f"line {line}: {row.get(set_column)!r} in column {set_column!r} is not train, val or test"
                )
            set_names.append(set_name or "")
        paths.append(path)
        names.append(label)
    return paths, names, set_names, problems


def _read_rows(table: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # -sig: a BOM is not part of the first column's name
            sample = file.read(8192)
            file.seek(0)
            delimiter = max(",;\t", key=sample.split("\n", 1)[0].count)
            reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Reading {table}: {error}. Expected a CSV in UTF-8 with a header line.") from error
    if not rows:
        raise DataError(f"Reading {table}: no rows below the header. Expected one row a picture.")
    return rows, header


def _pick(table: Path, header: list[str], asked: str | None, usual: Sequence[str], what: str, flag: str) -> str:
    if asked is not None:
        if asked in header:
            return asked
        raise DataError(f"{table} has no column {asked!r}. Its columns: {', '.join(header)}.")
    for name in usual:
        for column in header:
            if column.lower() == name:
                return column
    raise DataError(
        f"{table} has no column for {what} that we recognise. Its columns: {', '.join(header)}. Name one with {flag}."
    )
