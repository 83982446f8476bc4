"""A division as a file: read from a table that we, a run or a person wrote, and written where it overwrites nothing."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from holdfast.data.division.split import Division, sets_of_fold
from holdfast.data.files import FilePictures
from holdfast.data.sample import SET_NAMES, Collection, Indices
from holdfast.data.tables.csv_table import FILE_COLUMNS, SET_VALUES
from holdfast.data.tables.table import Table, read_rows, trim
from holdfast.errors import ConfigError, DataError, first_of

_FILES_OF_A_RUN = ("config.yaml", "environment.json")


def with_split(collection: Collection, file: str | Path | None, fold: int | None = None) -> Collection:
    """Returns the collection divided as the file says; what DATA itself says of sets counts no more.

    Without a file it returns the collection as it is.

    Args:
        file: a table with a column `path` (as pictures are named below DATA) and `set` (train, val, test, or empty for
            a picture in no set), and if it likes `label`, `group` and `fold`: what `holdfast split` writes, and every
            run. A table with `fold` alone divides into folds.
        fold: this one validates, the others train.

    Raises:
        DataError: the table does not fit the pictures; everything that is wrong, line by line.
        ConfigError: a fold of no file.
    """
    if file is None:
        if fold is not None:
            raise ConfigError(f"--fold {fold} names a fold of a table. Give the table with --split FILE.")
        return collection
    division = read_split(collection, file)
    sets = division.sets
    notices = list(collection.notices)
    if fold is not None:
        try:
            sets = sets_of_fold(division, fold)
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
    if collection.sets:
        notices.append(f"DATA has sets of its own ({', '.join(collection.sets)}); those of {file} count")
    return dataclasses.replace(collection, sets=sets, notices=notices)


def read_split(collection: Collection, file: str | Path) -> Division:
    """Returns the division that the file describes, in indices of the collection. See `with_split`."""
    table = read_rows(Path(file).expanduser())
    pictures = collection.pictures
    index_of = {pictures.name(i): i for i in range(len(pictures))}
    names = np.full(len(pictures), "", dtype=object)
    groups = [""] * len(pictures)
    folds = np.zeros(len(pictures), dtype=np.int64)
    columns = _columns(table)
    first_line: dict[int, int] = {}
    problems: list[str] = []
    for row in table.rows:
        cells = {name: trim(row.cells[place]) for name, place in columns.items()}
        index = _find(index_of, row.cells[columns["path"]])
        wrong: list[str] = []
        if index is None:
            wrong.append(f"{cells['path']!r} is not in DATA")
        elif (line := first_line.setdefault(index, row.line)) != row.line:
            wrong.append(f"{cells['path']} stands in line {line} already")
        elif "label" in cells and cells["label"] != trim(pictures.classes[pictures.labels[index]]):
            label = pictures.classes[pictures.labels[index]]
            wrong.append(f"{cells['path']} is {cells['label']!r} here and {label!r} in DATA")
        set_name = SET_VALUES.get(cells.get("set", "train").lower(), "")
        if not set_name and cells["set"]:
            wrong.append(f"set {cells['set']!r} is none of {', '.join(SET_NAMES)}")
        fold = cells.get("fold", "")
        if fold and (not fold.isdecimal() or int(fold) < 1):
            wrong.append(f"fold {fold!r} is not a number counted from 1")
        problems += [f"line {row.line}: {text}" for text in wrong]
        if index is not None and not wrong:
            names[index], groups[index], folds[index] = set_name, cells.get("group", ""), int(fold or 0)
    problems += table.problems
    problems += [f"{name} is in DATA and in no row" for name, i in index_of.items() if i not in first_line]
    if problems:
        count = f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"
        raise DataError(
            f"The split {file} does not fit DATA ({count}):\n{first_of(problems)}\n"
            "Mend it, give the DATA it was made for, or divide DATA anew with `holdfast split`."
        )
    sets: dict[str, Indices] = {s: np.flatnonzero(names == s) for s in SET_NAMES if (names == s).any()}
    return Division(sets, folds if folds.any() else None, groups)  # type: ignore[arg-type]


def refuse_place_in_data(file: Path, collection: Collection, data: str) -> None:
    """Raises ConfigError when a file that is to be written (`--out`) lies in what was opened at `data`."""
    source, pictures = Path(data).expanduser(), collection.pictures
    places = [source]
    # A table may lie among its pictures, and people work in that folder; an image directory of its own is DATA.
    if isinstance(pictures, FilePictures) and source.parent.resolve() != pictures.root.resolve():
        places.append(pictures.root)
    if any(file.resolve().is_relative_to(place.resolve()) for place in places):
        raise ConfigError(
            f"{file} lies in DATA ({data}), and nothing is ever written there. Give another place with --out."
        )


def write_split(text: str, file: Path, collection: Collection, data: str, *, force: bool = False) -> bool:
    """Writes the table whole or not at all; returns False when it stood there already, byte for byte.

    Args:
        data: DATA as it was given; nothing is written there.
        force: overwrite another split. A file that is no split is never overwritten, nor the split of a run.

    Raises:
        ConfigError: the place is in DATA, holds something else, or cannot be written.
    """
    refuse_place_in_data(file, collection, data)
    try:
        if file.exists():
            there = file.read_bytes()
            if there == text.encode():
                return False
            _refuse_to_overwrite(file, there, force)
        descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(text.encode())
                out.flush()
                os.fsync(out.fileno())
            Path(draft).chmod(0o666 & ~_umask())
            Path(draft).replace(file)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"Writing {file}: {error.strerror or error}.") from error
    return True


def _refuse_to_overwrite(file: Path, there: bytes, force: bool) -> None:
    header = there.split(b"\n", 1)[0]
    if not header.startswith((b"path,label,set", b'"path","label","set"')):
        raise ConfigError(
            f"{file} is there and is no split of ours; it is not overwritten. Give another place with --out."
        )
    if all((file.parent / name).exists() for name in _FILES_OF_A_RUN):
        raise ConfigError(f"{file} belongs to the run in {file.parent}, which needs it. Give another place with --out.")
    if not force:
        raise ConfigError(
            f"{file} holds another split. Give another place with --out, or overwrite it with --force; what was "
            "trained on it is then no longer comparable."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _columns(table: Table) -> dict[str, int]:
    """Returns the places of the columns that say something about a division."""
    found = {"path": table.find(None, FILE_COLUMNS, "file names", "`path` in its first line")}
    for name, usual in (
        ("set", ("set", "split", "subset")),
        ("label", ("label",)),
        ("group", ("group",)),
        ("fold", ("fold",)),
    ):
        if any(column.lower() in usual for column in table.header):
            found[name] = table.find(None, usual, f"the {name}", f"`{name}`")
    if "set" not in found and "fold" not in found:
        raise DataError(
            f"{table.path} is no split: it has no column `set` or `fold`. Its columns: {', '.join(table.header)}."
        )
    return found


def _find(index_of: dict[str, int], cell: str) -> int | None:
    """Returns the picture that the cell names: as written, trimmed, or as Windows writes paths."""
    return next((index_of[t] for t in (cell, trim(cell), trim(cell).replace("\\", "/")) if t in index_of), None)
