"""`split.csv`: which file is train, val or test, which group it belongs to, and what it held when it was divided.

A later command reads the sets from here, so they never change under a run; and when the data did change, this table
says what: files gone, new, relabelled, or with other contents. `split_file` reads tables that people wrote.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from holdfast.data.check import CheckedFile
from holdfast.data.files import FilePictures
from holdfast.data.sample import Indices, Pictures, SetName
from holdfast.data.targets import targets_of
from holdfast.errors import DataError, first_of

_HEADER = ("path", "label", "set", "group", "bytes", "digest")
_HEADER_WITH_FOLDS = ("path", "label", "set", "fold", "group", "bytes", "digest")
_OLD_HEADER = ("path", "label", "set", "bytes", "digest")  # before there were groups: runs begun then go on


@dataclass(frozen=True)
class IndexRow:
    """One picture.

    Attributes:
        path, label: its path below DATA, and its class name, or another target as text.
        set_name: "train", "val", "test", or "" for a picture in no set.
        num_bytes, digest: size and digest of its contents; -1 and "" when they were not read.
        group: equal names were kept in one set; "" for a picture that stands alone.
        fold: counted from 1; 0 without folds, and for pictures in none.
    """

    path: str
    label: str
    set_name: str
    num_bytes: int
    digest: str
    group: str = ""
    fold: int = 0


def make_index(
    pictures: Pictures,
    sets: dict[SetName, Indices],
    checked: Sequence[CheckedFile] | None = None,
    groups: Sequence[str] | None = None,
    folds: Indices | None = None,
) -> list[IndexRow]:
    """Returns one row a picture, in the order of the collection; a picture in no set has the set ""."""
    set_of = np.full(len(pictures), "", dtype=object)
    for set_name, indices in sets.items():
        set_of[indices] = set_name
    targets = targets_of(pictures)
    return [
        IndexRow(
            pictures.name(i),
            targets.text(i),
            str(set_of[i]),
            checked[i].num_bytes if checked else -1,
            checked[i].digest if checked else "",
            groups[i] if groups is not None else "",
            int(folds[i]) if folds is not None else 0,
        )
        for i in range(len(pictures))
    ]


def format_index(rows: list[IndexRow]) -> str:
    """Returns the table as CSV text with a header; it has a column of folds only where there are folds."""
    text = io.StringIO()
    # Python's csv does not quote a lone carriage return, and takes it for a line's end when it reads.
    odd = any("\r" in r.path + r.label + r.group for r in rows)
    has_folds = any(r.fold for r in rows)
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
    writer.writerow(_HEADER_WITH_FOLDS if has_folds else _HEADER)
    for r in rows:
        fold = ("" if not r.fold else r.fold,) if has_folds else ()
        writer.writerow((r.path, r.label, r.set_name, *fold, r.group, r.num_bytes, r.digest))
    return text.getvalue()


def read_index(path: Path) -> list[IndexRow]:
    """Reads what `format_index` wrote, now or before there were groups.

    Raises:
        DataError: the table is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if tuple(header) not in (_HEADER, _HEADER_WITH_FOLDS, _OLD_HEADER):
                raise ValueError("its header is not ours")
            return [_row_of(dict(zip(header, cells, strict=True))) for cells in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"Reading {path}: {error}. It was written when the run began and must stay as it was."
        ) from error


def _row_of(cells: dict[str, str]) -> IndexRow:
    fold, group = int(cells.get("fold") or 0), cells.get("group", "")
    return IndexRow(cells["path"], cells["label"], cells["set"], int(cells["bytes"]), cells["digest"], group, fold)


def sets_from_index(rows: list[IndexRow]) -> dict[SetName, Indices]:
    """Returns the sets as the table divides them."""
    names = np.array([row.set_name for row in rows], dtype=object)
    return {s: np.flatnonzero(names == s) for s in ("train", "val", "test") if (names == s).any()}


def compare_with_index(pictures: FilePictures, rows: list[IndexRow], since: float) -> list[str]:
    """Returns what changed in the data since `rows` was written, one line a change; nothing means nothing did.

    Args:
        since: Unix time, seconds. Contents are compared only for files touched after it.
    """
    then = {row.path: row for row in rows}
    targets = targets_of(pictures)
    what = "class" if targets.task == "classification" else "target"
    now = {path: i for i, path in enumerate(pictures.paths)}
    changes = [f"{path}: gone" for path in then if path not in now]
    changes += [f"{path}: new" for path in now if path not in then]
    for path, index in now.items():
        row = then.get(path)
        if row is None:
            continue
        label = targets.text(index)
        if label != row.label:
            changes.append(f"{path}: its {what} was {row.label!r} and is {label!r}")
        elif row.num_bytes >= 0:
            changes += _compare_contents(pictures.path(index), row, since)
    if not changes and list(then) != pictures.paths:
        changes.append("the same pictures in another order, or some of them twice")
    return changes


def _compare_contents(path: Path, row: IndexRow, since: float) -> list[str]:
    try:
        status = path.stat()
        if status.st_size != row.num_bytes:
            return [f"{row.path}: was {row.num_bytes:,} bytes and is {status.st_size:,}"]
        if (
            max(status.st_mtime, status.st_ctime) >= since
            and xxhash.xxh3_128_hexdigest(path.read_bytes()) != row.digest
        ):
            return [f"{row.path}: other contents"]
    except OSError as error:
        return [f"{row.path}: cannot be read ({error.strerror})"]
    return []


def refuse_changes(source: str, changes: list[str]) -> None:
    """Raises DataError naming the changes, if there are any."""
    if changes:
        raise DataError(
            f"The data at {source} is not what this run began with ({len(changes)} changes):\n{first_of(changes)}\n"
            "Put it back as it was, or start a new run on the new data with --fork NEW."
        )
