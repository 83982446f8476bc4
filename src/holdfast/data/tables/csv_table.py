"""A CSV with a file-name column and a label column, beside a folder of pictures: what its rows mean."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from holdfast.data.files import FilePictures, labels_array, natural_key
from holdfast.data.sample import SET_NAMES, Collection, Indices, SetName
from holdfast.data.tables.label_names import label_notices, unlisted, written_differently
from holdfast.data.tables.named_files import NamedFiles, NameProblem
from holdfast.data.tables.table import Table, read_rows, trim
from holdfast.errors import DataError, first_of
from holdfast.words import count

FILE_COLUMNS = (
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
LABEL_COLUMNS = ("label", "class", "target", "class_name", "category", "y")
_SET_COLUMNS = ("set", "split", "subset", "fold")
SET_VALUES: dict[str, SetName] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class TableFiles:
    """The files that the rows of a table name, and the sets that it divides them into.

    Attributes:
        root: what the paths are relative to.
        paths: one a row, below `root` or absolute; "" where there is a problem.
        set_names: one a row; "" where the table does not divide, or there is a problem.
        problems: what is wrong with rows, one line each, besides the problems of the table itself.
        notices: what a user should know and would not guess.
    """

    root: Path
    paths: list[str]
    set_names: list[str]
    problems: list[str]
    notices: list[str]

    @property
    def sets(self) -> dict[SetName, Indices]:
        """Set → the rows in it, counted from 0; empty when the table does not divide."""
        return _sets_of(self.set_names)

    @property
    def advice(self) -> str:
        """What to do about problems. Where no row's file is there, it is the folder that is wrong, not the rows."""
        if any(self.paths):
            return "Mend them and try again."
        return f"File names are relative to {self.root}; say with --image-dir where they begin."


class TableProblems(DataError):
    """What is wrong with a table's rows. Attributes: `problems`, all of it, a line each; the text has the first ten."""

    def __init__(self, message: str, problems: list[str]) -> None:
        super().__init__(message)
        self.problems = problems


def files_and_sets(
    table: Table, image_dir: Path | None = None, file_column: str | None = None, *, once: bool = True
) -> TableFiles:
    """Returns the file and the set of every row, where each row is a picture of its own.

    Args:
        table, image_dir, file_column: see `read_csv`.
        once: whether it is a problem that two rows name one file.

    Raises:
        DataError: there is no column of file names, or no image directory.
    """
    files = _files_and_sets(table, image_dir, file_column)
    first_line: dict[str, int] = {}
    for row, path in zip(table.rows, files.paths, strict=True):
        if once and path and (line := first_line.setdefault(path, row.line)) != row.line:
            files.problems.append(f"line {row.line}: {path} stands in line {line} already")
    return dataclasses.replace(files, problems=_by_line(table, files.problems))


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

    Cells are trimmed. A row that says again what another row said is left out, with a notice. Names without suffix, in
    another case or with `\\` are taken for the one file they can mean, with a notice.

    Args:
        table: the CSV, with a header line; see `read_rows`. A column `set` (or `split`) with train, val, test divides
            it.
        image_dir: what file names are relative to; by default the CSV's own folder. `..` may not lead out of it;
            absolute paths may lie anywhere.
        file_column, label_column: column names; by default the usual ones are recognised (`file`, `path`, `label` …).
        classes: class names in the order wanted; by default the labels found, in natural order.
        target_transform: maps the text of a label to another name, or to an index into `classes`.

    Raises:
        DataError: columns are missing, files are not there, labels are empty, unknown, contradict each other, or differ
            from another only in case, spaces or the form of a number (`Cat`, `cat`; 1, 1.0) and are not both in
            `classes`. All rows at once.
    """
    rows = read_rows(table)
    files = _files_and_sets(rows, image_dir, file_column)
    place = rows.find(label_column, LABEL_COLUMNS, "labels", "--label-column")
    problems = list(files.problems)
    names = rows.column(place)
    for k, row in enumerate(rows.rows):
        if not names[k]:
            named = f" for {files.paths[k]!r}" if files.paths[k] else ""
            problems.append(f"line {row.line}: no label{named} in column {rows.header[place]!r}")
        elif target_transform is not None:
            names[k] = _class_name(table, target_transform(names[k]), classes)
    kept, repeated = _without_repeated(rows, files, names, problems)
    labelled = [(row.line, name) for row, name in zip(rows.rows, names, strict=True)]
    problems += written_differently(labelled) if classes is None else unlisted(labelled, classes)
    if problems := sorted(rows.problems + _by_line(rows, problems), key=_line_of):
        found = f"{count(len(problems), 'problem')} in its {count(len(labelled), 'row')}"
        text = f"Reading {table}: {found}:\n{first_of(problems)}\n{files.advice}"
        raise TableProblems(text, problems)
    names = [names[k] for k in kept]
    class_names = list(classes) if classes is not None else sorted(set(names), key=natural_key)
    _check_classes(table, class_names, names)
    index = {name: k for k, name in enumerate(class_names)}
    pictures = FilePictures(
        files.root, [files.paths[k] for k in kept], labels_array([index[n] for n in names]), class_names
    )
    notices = rows.notices + repeated + files.notices + label_notices(index, Counter(names))
    columns = dataclasses.replace(rows, rows=[rows.rows[k] for k in kept]).columns()
    return Collection(pictures, _sets_of([files.set_names[k] for k in kept]), notices, columns=columns)


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
    found = set(names)
    absent = [name for name in class_names if name not in found]
    if absent:
        raise DataError(
            f"Reading {table}: class {absent[0]!r} is listed but no row has it. Leave it out of --classes, or "
            "add pictures."
        )
    if len(class_names) < 2:
        raise DataError(f"{table} has one class only ({class_names[0]!r}). A classifier needs two.")


def _find_set_column(table: Table, notices: list[str]) -> int | None:
    """Returns the place of the column that divides the table, if there is one.

    A column `fold` may hold numbers, and `set` may mean sets of plates: without one train, val or test it divides
    nothing, and that is said.
    """
    for wanted in _SET_COLUMNS:
        for place, name in enumerate(table.header):
            if name.lower() != wanted:
                continue
            if any(cell.lower() in SET_VALUES for cell in table.column(place)):
                return place
            notices.append(f"column {name!r} holds no train, val or test, so it divides nothing")
    return None


def _files_and_sets(table: Table, image_dir: Path | None, file_column: str | None) -> TableFiles:
    file_place = table.find(file_column, FILE_COLUMNS, "file names", "--file-column")
    notices: list[str] = []
    set_place = _find_set_column(table, notices)
    root = image_dir or table.path.parent
    if not root.is_dir():
        raise DataError(f"The image directory {root} of {table.path} is not there. Give it with --image-dir.")
    files = NamedFiles(root)
    paths: list[str] = []
    set_names: list[str] = []
    problems: list[str] = []
    for row in table.rows:
        path = set_name = ""
        if not trim(row.cells[file_place]):
            problems.append(f"line {row.line}: no file name in column {table.header[file_place]!r}")
        else:
            try:
                path = files.find(row.cells[file_place])
            except NameProblem as problem:
                text = "".join(
                    c if c.isprintable() else repr(c)[1:-1] for c in str(problem)
                )  # a name may hold a line break
                problems.append(f"line {row.line}: {text}")
        if set_place is not None:
            cell = trim(row.cells[set_place])
            set_name = SET_VALUES.get(cell.lower(), "")
            if not set_name:
                header = table.header[set_place]
                problems.append(f"line {row.line}: {cell!r} in column {header!r} is not train, val or test")
        paths.append(path)
        set_names.append(set_name)
    if set_place is not None and "train" not in set_names:
        problems.append(f"column {table.header[set_place]!r} has no row with 'train'")
    return TableFiles(root, paths, set_names, problems, notices + files.notices())


def _sets_of(set_names: list[str]) -> dict[SetName, Indices]:
    names = np.array(set_names)
    return {name: np.flatnonzero(names == name) for name in SET_NAMES if (names == name).any()}


def _without_repeated(
    table: Table, files: TableFiles, names: list[str], problems: list[str]
) -> tuple[list[int], list[str]]:
    """Returns the rows that name a file for the first time, and a notice of those that say the same again.

    Rows that contradict each other are added to `problems`: left in, one picture would be in two classes or sets.
    """
    first: dict[str, int] = {}
    again: list[tuple[int, int]] = []
    for k, path in enumerate(files.paths):
        if not path or not names[k] or (before := first.setdefault(path, k)) == k:
            continue
        line, then = table.rows[k].line, table.rows[before].line
        if names[k] != names[before]:
            problems.append(f"line {line}: {path} is {names[k]!r} here and {names[before]!r} in line {then}")
        elif files.set_names[k] != files.set_names[before]:
            here, there = files.set_names[k], files.set_names[before]
            problems.append(f"line {line}: {path} is in {here} here and in {there} in line {then}")
        else:
            again.append((before, k))
    if not again:
        return list(first.values()), []
    before, k = again[0]
    example = f"{files.paths[k]}, lines {table.rows[before].line} and {table.rows[k].line}"
    more = " …" if len(again) > 1 else ""
    return list(first.values()), [
        f"{count(len(again), 'row repeats another and is', 'rows repeat another and are')} left out ({example}{more})"
    ]


def _by_line(table: Table, problems: list[str]) -> list[str]:
    """Returns the problems in the order of their lines; those of no line go first.

    Of a row with too many cells, which the table tells of, nothing else is said: its cells stand in the wrong columns.
    """
    shifted = {_line_of(text) for text in table.problems}
    return sorted((text for text in problems if _line_of(text) not in shifted), key=_line_of)


def _line_of(problem: str) -> int:
    return int(problem[5 : problem.index(":")]) if problem.startswith("line ") else 0
