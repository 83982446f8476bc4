"""Which pictures must stay in one set: those of one group, and those that are the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from holdfast.data.division.duplicates import exact_duplicates, joined
from holdfast.data.division.groups import group_names
from holdfast.data.sample import Collection, Indices
from holdfast.words import count


@dataclass(frozen=True)
class Together:
    """What belongs together.

    Attributes:
        leader: `[N]` int64; pictures with equal numbers belong together, one that stands alone has its own index.
        names: N names for the table; equal numbers have equal names, "" stands alone.
        notices: what a user should know, one line each.
    """

    leader: Indices
    names: list[str]
    notices: list[str] = field(default_factory=list)


def keep_together(
    collection: Collection,
    *,
    group_by: str | None = None,
    digests: Sequence[str] | None = None,
    near: Sequence[Indices] = (),
) -> Together:
    """Joins groups and duplicates: where a picture of one group is also in another, both are one.

    Args:
        group_by: a column of the CSV or a regular expression, see `group_names`; None for no groups.
        digests: N digests of contents; equal ones are duplicates, and "" equals none.
        near: groups of indices that look the same.

    Raises:
        ConfigError, DataError: see `group_names`.
    """
    pictures = collection.pictures
    num = len(pictures)
    notices: list[str] = []
    asked: list[str] | None = None
    groups: list[Indices] = []
    if group_by is not None:
        asked = group_names([pictures.name(i) for i in range(num)], group_by, collection.columns, notices)
        groups = exact_duplicates(asked)
        notices.append(f"{count(len(set(asked)), 'group')} by {group_by!r}, each in one set")
    exact = exact_duplicates(digests) if digests is not None else []
    leader = joined(num, groups, exact, near)
    notices += _duplicate_notices(collection, exact, "the same file as another") if exact else []
    notices += _duplicate_notices(collection, near, "nearly the same picture as another") if near else []
    return Together(leader, _names(collection, leader, asked), notices)


def _names(collection: Collection, leader: Indices, asked: list[str] | None) -> list[str]:
    """Returns the names for the table: of the groups that were asked for, else of the first of the duplicates."""
    num_members = np.bincount(leader, minlength=len(leader))
    if asked is None:
        first: dict[int, str] = {}
        for index in np.flatnonzero(num_members[leader] > 1).tolist():
            name = collection.pictures.name(index)
            first[int(leader[index])] = min(first.get(int(leader[index]), name), name)
        return [first.get(lead, "") for lead in leader.tolist()]
    members: dict[int, set[str]] = {}
    for lead, name in zip(leader.tolist(), asked, strict=True):
        members.setdefault(lead, set()).add(name)
    joint = {}
    for lead, names in members.items():
        listed = sorted(names)
        joint[lead] = " + ".join(listed[:3]) + (f" + {len(listed) - 3} more" if len(listed) > 3 else "")
    return [joint[lead] for lead in leader.tolist()]


def _duplicate_notices(collection: Collection, groups: Sequence[Indices], what: str) -> list[str]:
    pictures = collection.pictures
    extra = sum(len(group) - 1 for group in groups)
    one, other = (pictures.name(int(i)) for i in groups[0][:2])
    more = " …" if extra > 1 else ""
    notices = [f"{count(extra, 'picture is', 'pictures are')} {what}, and kept beside it ({one}, {other}{more})"]
    labels = pictures.labels
    torn = [group for group in groups if len(np.unique(labels[group])) > 1]
    if torn:
        a, b = next((i, j) for i, j in zip(torn[0][:-1], torn[0][1:], strict=True) if labels[i] != labels[j])
        first, second = (f"{pictures.name(int(i))} is {pictures.classes[labels[i]]!r}" for i in (a, b))
        more = " …" if len(torn) > 1 else ""
        notices.append(
            f"{len(torn):,} of them {'stands' if len(torn) == 1 else 'stand'} under two labels "
            f"({first}, {second}{more}): one is wrong"
        )
    return notices
