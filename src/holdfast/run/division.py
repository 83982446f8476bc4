"""How a run divides its data: as a table says, or by itself; groups and copies of one picture are never torn apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from holdfast.config import Config
from holdfast.data.check import CheckedFile
from holdfast.data.division.split import Division, complete_sets
from holdfast.data.division.split_file import read_split, with_split
from holdfast.data.division.split_summary import shortfalls
from holdfast.data.division.together import keep_together
from holdfast.data.sample import Collection, Indices, SetName
from holdfast.errors import ConfigError, DataError
from holdfast.words import count


def divide(
    config: Config, collection: Collection, checked: Sequence[CheckedFile] | None = None
) -> tuple[Division, list[str]]:
    """Returns the sets a run trains and is measured on, the groups, and what to say.

    Args:
        checked: what reading the files told: copies of one picture are kept in one set. Without it they are not known,
            and the sets are those that the choice of defaults looks at.

    Raises:
        ConfigError, DataError: the settings do not fit each other or the data.
    """
    if config.split is not None:
        return _as_given(config, collection, config.split)
    with_split(collection, None, config.fold)  # a fold of no table is no fold
    digests = [found.digest if found.problem is None else "" for found in checked] if checked else None
    together = keep_together(collection, group_by=config.group_by, digests=digests)
    sets = complete_sets(
        collection,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        together=together.leader,
    )
    division = Division(sets, None, together.names)
    asked = {"val": config.val_fraction, "test": config.test_fraction}
    if collection.sets:
        asked = {name: share for name, share in asked.items() if name == "val" and name not in collection.sets}
    return division, together.notices + shortfalls(collection, division, together.leader, asked)


def _as_given(config: Config, collection: Collection, file: str) -> tuple[Division, list[str]]:
    given = read_split(collection, file)
    if config.group_by is not None:
        raise ConfigError("--group-by and --split: the table has kept its groups already. Leave one of them out.")
    if given.folds is not None and config.fold is None and "val" not in given.sets:
        raise ConfigError(
            f"{file} divides DATA into {int(given.folds.max())} folds. Say which one validates: --fold 1, and so on."
        )
    divided = with_split(collection, file, config.fold)
    notices = divided.notices[len(collection.notices) :]
    in_sets = sum(map(len, divided.sets.values()))
    if in_sets < len(collection.pictures):
        notices.append(f"{count(len(collection.pictures) - in_sets, 'picture is', 'pictures are')} in no set of {file}")
    if collection.usable is not None:
        usable = {name: np.intersect1d(members, collection.usable) for name, members in divided.sets.items()}
        divided = dataclasses.replace(divided, sets=usable)
    sets = complete_sets(divided, val_fraction=config.val_fraction, seed=config.seed)
    division = Division(sets, None, given.groups)
    alone = np.arange(len(collection.pictures))
    return division, notices + shortfalls(divided, division, alone, {})


def refuse_another_split(config: Config, collection: Collection, sets: dict[SetName, Indices]) -> None:
    """Raises DataError when `--split` names a table that divides the data otherwise than the run did.

    A table that is gone divides nothing otherwise: the run has its own.
    """
    if config.split is None or not Path(config.split).expanduser().exists():
        return
    now = with_split(collection, config.split, config.fold).sets
    then = dict(sets)
    if "val" not in now and "val" in then:  # the run took it out of train
        then["train"] = np.union1d(then["train"], then.pop("val"))
    known = np.concatenate(list(then.values()))  # what could not be read is in no set of the run
    for name in dict.fromkeys([*then, *now]):
        if not np.array_equal(np.intersect1d(now.get(name, known[:0]), known), np.sort(then.get(name, known[:0]))):
            raise DataError(
                f"{config.split} is not the split that this run began with: its {name} set is another. Put it back "
                "(the run has it as split.csv), leave --split out to go on as it was, or give another --out."
            )
