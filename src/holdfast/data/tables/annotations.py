"""CSVs that say more of a picture than its class: points, several labels, numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xxhash

from holdfast.data.decoding.decode import Decoder
from holdfast.data.files import FilePictures, natural_key
from holdfast.data.notice import Notice
from holdfast.data.sample import Collection, Indices
from holdfast.data.tables.csv_table import LABEL_COLUMNS, TableProblems, files_and_sets, read_csv
from holdfast.data.tables.picture_size import picture_size
from holdfast.data.tables.point_names import FACE_68_PAIRS, pairs_from_names, point_columns
from holdfast.data.tables.table import Table, read_rows
from holdfast.data.targets import Targets, Task
from holdfast.errors import DataError, first_of
from holdfast.words import count

_MISSING = ("", "nan", "na", "n/a", "null", "none", "-")
_LABELS_COLUMNS = ("labels", "tags", "classes", *LABEL_COLUMNS)


class AnnotatedPictures(FilePictures):
    """Image files below `root` with targets other than one class.

    `classes` and `labels` are the groups by which they are divided into sets; see `Targets.strata`.

    Args:
        root, paths, channels, decoder: see `FilePictures`.
        targets: of N pictures.
    """

    def __init__(
        self, root: Path, paths: Sequence[str], targets: Targets, *, channels: int = 3, decoder: Decoder = "auto"
    ) -> None:
        labels, groups = targets.strata()
        super().__init__(root, paths, labels, groups, channels=channels, decoder=decoder)
        self.targets = targets

    def fingerprint(self) -> str:
        """Returns a digest of every path, size and target."""
        return xxhash.xxh3_128_hexdigest(f"{super().fingerprint()} {self.targets.digest()}".encode())


def read_landmarks(table: Path, image_dir: Path | None = None, *, file_column: str | None = None) -> Collection:
    """Reads pictures with points from a CSV: a column of file names, and two columns a point.

    Args:
        table: the CSV. Points are columns `part_0_x,part_0_y`, `x1,y1`, `left_eye_x,left_eye_y` and the like, in pixels
            of the upright picture; an empty cell or NaN is a missing point. A point off the picture is kept as it is.
        image_dir: what file names are relative to; by default the CSV's own folder.
        file_column: by default the usual names are recognised.

    Returns:
        Pictures whose `targets.values` are `[N, P, 2]` float64.

    Raises:
        DataError: columns are missing, cells are no numbers, files are not there. All rows at once.
    """
    rows = read_rows(Path(table))
    columns = point_columns(rows.header)
    if not columns:
        raise DataError(
            f"{table} has no columns of points. Its columns: {', '.join(rows.header[:20])}. Expected two a point, "
            "such as nose_x,nose_y or x1,y1."
        )
    problems: list[str] = []
    values = np.stack([_numbers(rows, list(places), problems) for places in columns.values()], axis=1)
    half = np.isnan(values).sum(-1) == 1
    for row, point in np.argwhere(half):
        problems.append(f"line {rows.rows[row].line}: point {list(columns)[point]} has one of x and y only")
    for row in np.flatnonzero(np.isnan(values).all((1, 2))):
        problems.append(f"line {rows.rows[row].line}: not one point")
    collection = _collection(
        rows, image_dir, file_column, problems, lambda: Targets("landmarks", list(columns), values)
    )
    pictures = collection.pictures
    assert isinstance(pictures, AnnotatedPictures)
    sizes = _sizes(pictures)
    pictures.targets = Targets("landmarks", list(columns), values, sizes)
    collection.notices += _point_notices(pictures.targets)
    return collection


def read_multilabel(
    table: Path,
    image_dir: Path | None = None,
    *,
    file_column: str | None = None,
    label_column: str | None = None,
    columns: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
) -> Collection:
    """Reads pictures with any number of labels each from a CSV.

    Args:
        label_column: the column that lists a picture's labels with `;`, `|`, `,` or spaces between them. An empty cell
            is a picture without any.
        columns: instead, columns of 0 and 1, one a label.
        labels: the labels in the order wanted; by default those found, in natural order, or `columns`. Where each is
            the name of a column, they are `columns`.
        table, image_dir, file_column: see `read_landmarks`.

    Returns:
        Pictures whose `targets.values` are `[N, K]` float32.

    Raises:
        DataError: as `read_landmarks`; also labels that are not listed, or fewer than one.
    """
    rows = read_rows(Path(table))
    problems: list[str] = []
    # One label that is a column is enough: what the others lack is said then.
    if columns is None and label_column is None and labels and _are_columns(rows, labels):
        columns = labels
    if columns is not None:
        names = list(columns)
        values = _numbers(rows, _places(rows, names), problems).astype(np.float32)
        bad = np.argwhere((values != 0) & (values != 1) & ~np.isnan(values) | np.isnan(values))
        problems += [f"line {rows.rows[r].line}: column {names[k]!r} is not 0 or 1" for r, k in bad]
    else:
        cells = rows.column(rows.find(label_column, _LABELS_COLUMNS, "labels", "--label-column"))
        lists = _split_labels(cells)
        names = list(labels) if labels is not None else sorted({n for found in lists for n in found}, key=natural_key)
        place = {name: k for k, name in enumerate(names)}
        values = np.zeros((len(lists), len(names)), dtype=np.float32)
        for row, found in enumerate(lists):
            for name in found:
                if name in place:
                    values[row, place[name]] = 1
                else:
                    known = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
                    problems.append(
                        f"line {rows.rows[row].line}: label {name!r} is not in the list of labels ({known})"
                    )
    if not problems and not (values == 1).any():
        raise DataError(f"Reading {table}: no picture has a label. Expected a;b or a column of 0 and 1 for each label.")
    targets = Targets("multilabel", names, values)
    collection = _collection(rows, image_dir, file_column, problems, lambda: targets)
    shown = ", ".join(f"{name} {int(number)}" for name, number in zip(names, (values == 1).sum(0), strict=True))
    collection.notices.append(Notice(f"{count(len(names), 'label')}, on so many pictures: {shown[:300]}", "targets"))
    if never := [name for name, number in zip(names, (values == 1).sum(0), strict=True) if not number]:
        collection.notices.append(Notice(f"no picture has the label {', '.join(never[:10])}", "targets"))
    return collection


def read_regression(
    table: Path,
    image_dir: Path | None = None,
    *,
    columns: Sequence[str] | None = None,
    file_column: str | None = None,
) -> Collection:
    """Reads pictures with one or several numbers each from a CSV.

    Args:
        columns: the columns of numbers; by default the usual names of a label. An empty cell or NaN is missing.
        table, image_dir, file_column: see `read_landmarks`.

    Returns:
        Pictures whose `targets.values` are `[N, K]` float64.

    Raises:
        DataError: as `read_landmarks`.
    """
    rows = read_rows(Path(table))
    places = (
        _places(rows, columns)
        if columns is not None
        else [rows.find(None, LABEL_COLUMNS, "numbers", "--target-columns")]
    )
    names = [rows.header[place] for place in places]
    problems: list[str] = []
    values = _numbers(rows, places, problems)
    problems += [f"line {rows.rows[row].line}: not one number" for row in np.flatnonzero(np.isnan(values).all(1))]
    targets = Targets("regression", names, values)
    collection = _collection(rows, image_dir, file_column, problems, lambda: targets)
    for name, column in zip(names, values.T, strict=True):
        missing = int(np.isnan(column).sum())
        more = f", {missing} missing" if missing else ""
        text = f"{name}: from {np.nanmin(column):.6g} to {np.nanmax(column):.6g}{more}"
        collection.notices.append(Notice(text, "targets"))
    return collection


def open_table(
    table: Path,
    image_dir: Path | None = None,
    *,
    task: str | None = None,
    classes: Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    target_columns: Sequence[str] | None = None,
) -> Collection:
    """Reads a CSV for a task.

    Args:
        task: one of TASKS; None for points where columns come in pairs of x and y and none is a label's, else classes.
        classes: names of classes or labels, in the order wanted.
        target_columns: the columns of numbers (regression), or of 0 and 1 (multilabel).
        table, image_dir, file_column, label_column: see `read_csv`.

    Raises:
        DataError: as the readers; also columns that the task has no use for.
    """
    if task is None:
        task = "classification" if label_column or target_columns else guess_task(read_rows(table).header)
    if target_columns and task in ("classification", "landmarks"):
        raise DataError(
            f"--target-columns {','.join(target_columns)} is for --task regression and --task multilabel; the task "
            f"is {task}."
        )
    if classes is not None and task in ("regression", "landmarks"):
        raise DataError(f"A list of classes is for classes and labels, and the task is {task}. Leave out --classes.")
    if task == "landmarks":
        return read_landmarks(table, image_dir, file_column=file_column)
    if task == "multilabel":
        return read_multilabel(
            table, image_dir, file_column=file_column, label_column=label_column, columns=target_columns, labels=classes
        )
    if task == "regression":
        columns = target_columns or ([label_column] if label_column else None)
        return read_regression(table, image_dir, columns=columns, file_column=file_column)
    return read_csv(table, image_dir, file_column=file_column, label_column=label_column, classes=classes)


def guess_task(header: Sequence[str]) -> Task:
    """Returns the task that the columns can only mean."""
    has_label = any(name.lower() in LABEL_COLUMNS for name in header)
    return "landmarks" if point_columns(header) and not has_label else "classification"


def _collection(
    rows: Table,
    image_dir: Path | None,
    file_column: str | None,
    problems: list[str],
    make_targets: Callable[[], Targets],
) -> Collection:
    """Joins what the cells of targets say with files and sets; raises with all problems of all rows."""
    files = files_and_sets(rows, image_dir, file_column)
    problems = [*files.problems, *problems]
    if problems:
        text = (
            f"Reading {rows.path}: {count(len(problems), 'thing')} in its {count(len(rows.rows), 'row')} cannot be "
            f"used:\n{first_of(problems)}\n{files.advice}"
        )
        raise TableProblems(text, problems)
    pictures = AnnotatedPictures(files.root, files.paths, make_targets())
    return Collection(pictures, files.sets, [*rows.notices, *files.notices], columns=rows.columns())


def _numbers(rows: Table, places: Sequence[int], problems: list[str]) -> np.ndarray:
    """Returns `[N, K]` float64: the columns as numbers, NaN where a cell says that there is none."""
    values = np.full((len(rows.rows), len(places)), np.nan)
    for k, place in enumerate(places):
        for row, cell in enumerate(rows.column(place)):
            if cell.lower() in _MISSING:
                continue
            try:
                number = float(cell)
                if not math.isfinite(number):
                    raise ValueError
                values[row, k] = number
            except ValueError:
                problems.append(f"line {rows.rows[row].line}: {cell!r} in column {rows.header[place]!r} is no number")
    return values


def _places(rows: Table, names: Sequence[str]) -> list[int]:
    """Returns the places of columns in the header. Raises DataError, naming all that are not there."""
    missing = [name for name in names if name not in rows.header]
    if len(missing) > 1:
        raise DataError(
            f"{rows.path} lacks {len(missing)} of the {len(names)} columns asked for:\n{first_of(missing)}\n"
            f"Its columns: {', '.join(rows.header[:20])}."
        )
    return [rows.find(name, (), "targets", "--target-columns") for name in names]


def _are_columns(rows: Table, labels: Sequence[str]) -> bool:
    listed = any(name.lower() in _LABELS_COLUMNS for name in rows.header)
    return set(labels) <= set(rows.header) or (not listed and not set(labels).isdisjoint(rows.header))


def _split_labels(cells: Sequence[str]) -> list[list[str]]:
    """Splits every cell by the first of `;`, `|`, `,` and space that stands in any of them."""
    separator = next((sign for sign in ";|," if any(sign in cell for cell in cells)), None)
    return [list(dict.fromkeys(word.strip() for word in cell.split(separator) if word.strip())) for cell in cells]


def _sizes(pictures: FilePictures) -> Indices:
    """Returns `[N, 2]` int64: height and width of each upright picture, 0 where it cannot be read."""

    def size(index: int) -> tuple[int, int]:
        try:
            return picture_size(pictures.path(index))
        except DataError:
            return 0, 0  # said, with its reason, when the pictures are checked

    with ThreadPoolExecutor(8) as pool:
        return np.array(list(pool.map(size, range(len(pictures)))), dtype=np.int64).reshape(-1, 2)


def _point_notices(targets: Targets) -> list[str]:
    notices: list[str] = []
    names, known = targets.names, ~np.isnan(targets.values).any(-1)
    if missing := int((~known).sum()):
        pictures = int((~known).any(1).sum())
        text = (
            f"{count(missing, 'point is missing', 'points are missing')}, on {count(pictures, 'picture')}, and "
            f"{'counts' if missing == 1 else 'count'} for nothing"
        )
        notices.append(Notice(text, "targets"))
    off = targets.off_picture()
    if off.any():
        text = (
            f"{count(int(off.sum()), 'point lies off its', 'points lie off their')} picture, on "
            f"{count(int(off.any(1).sum()), 'picture')} (the first in row {int(off.any(1).argmax()) + 1}); kept, and "
            "learned, as given"
        )
        notices.append(Notice(text, "targets"))
    if len(names) == 68 and not pairs_from_names(names):
        text = (
            f"68 points: if they are those of a face as 300-W numbers them, --flip-pairs 68 lets training mirror "
            f"pictures ({len(FACE_68_PAIRS)} pairs change places) and tells errors in units of the eyes' distance"
        )
        notices.append(Notice(text, "flip-pairs"))
    return notices
