"""`split`: from DATA to a table that says which picture is train, val or test, or in which fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.data.division.contents import read_contents
from holdfast.data.division.index import format_index, make_index
from holdfast.data.division.split import Division, complete_sets, divide_into_folds
from holdfast.data.division.split_file import write_split
from holdfast.data.division.split_summary import count_classes, shortfalls, summary_json, table_lines
from holdfast.data.division.together import keep_together
from holdfast.data.sample import Collection, Indices
from holdfast.data.targets import targets_of
from holdfast.run.console import Console


@dataclass(frozen=True)
class Split:
    """A division that was written.

    Attributes:
        data: as it was given.
        file: the table.
        is_new: False when the same table stood there already.
        collection, division: what was divided, and into what.
        leader: equal numbers were kept together, see `Together`.
        notes: what a user should know, and what could not be had.
    """

    data: str
    file: Path
    is_new: bool
    collection: Collection
    division: Division
    leader: Indices
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns counts and notes as JSON values."""
        counts = count_classes(self.collection, self.division)
        return {
            "data": self.data,
            "file": str(self.file),
            **summary_json(self.collection, counts, self.leader, self.notes),
        }

    def lines(self) -> Iterator[str]:
        """Returns counts and notes as text."""
        targets = targets_of(self.collection.pictures)
        classes = targets.names if targets.task == "classification" else []
        yield from table_lines(classes, count_classes(self.collection, self.division))
        yield from (f"note: {note}" for note in self.notes)
        yield f"wrote {self.file}" if self.is_new else f"{self.file} says so already"


def split(
    collection: Collection,
    data: str,
    out: Path,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    folds: int | None = None,
    seed: int = 0,
    group_by: str | None = None,
    near_duplicates: bool = False,
    pool: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> Split:
    """Divides a collection and writes the table.

    Args:
        collection: what was opened at `data`.
        data: DATA as it was given; nothing is written there.
        out: the table.
        folds: divide the training pictures into so many folds; None for one val set.
        pool: divide all pictures anew, whatever sets DATA has.
        near_duplicates: keep together also what looks the same; decodes every picture.
        force: overwrite another split.
        val_fraction, test_fraction, seed: see `complete_sets`.
        group_by: see `group_names`.

    Raises:
        DataError: pictures cannot be read, or the division leaves nothing to train on.
        ConfigError: the table cannot be written there, or `group_by` is no regular expression.
    """
    console = console or Console(quiet=True)
    notes = list(collection.notices)
    if pool and collection.sets:
        notes.append(f"DATA's own sets ({', '.join(collection.sets)}) were pooled and all of it divided anew")
        collection = dataclasses.replace(collection, sets={})
    with console.progress("reading pictures", len(collection.pictures), unit="picture") as bar:
        checked, near = read_contents(collection.pictures, near=near_duplicates, progress=bar.update)
    together = keep_together(collection, group_by=group_by, digests=[c.digest for c in checked], near=near)
    if folds is not None:
        division = divide_into_folds(
            collection, folds, test_fraction=test_fraction, seed=seed, together=together.leader
        )
    else:
        sets = complete_sets(
            collection, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, together=together.leader
        )
        division = Division(sets)
    notes += together.notices
    if collection.sets:
        made = "" if "val" not in collection.sets else "; nothing was left to divide (--pool divides all anew)"
        notes.append(f"DATA's own sets are kept: {', '.join(collection.sets)}{made}")
    asked = {} if "val" in collection.sets or folds is not None else {"val": val_fraction}
    asked |= {} if collection.sets else {"test": test_fraction}
    notes += shortfalls(collection, division, together.leader, asked)
    rows = make_index(collection.pictures, division.sets, checked, together.names, division.folds)
    is_new = write_split(format_index(rows), out, collection, data, force=force)
    return Split(data, out, is_new, collection, division, together.leader, notes)
