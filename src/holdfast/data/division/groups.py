"""Pictures that belong together (one patient, one video, one leaf) and must never stand in two sets.

A group is named by a column of the CSV, or by a regular expression on the path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from holdfast.errors import ConfigError, DataError
from holdfast.words import count


def group_names(
    paths: Sequence[str],
    spec: str,
    columns: Mapping[str, Sequence[str]] | None = None,
    notices: list[str] | None = None,
) -> list[str]:
    r"""Returns the name of each picture's group; equal names, one group.

    Args:
        paths: N paths below the root of DATA, with `/`, as `Pictures.name` gives them.
        spec: a column in `columns`, or else a regular expression that is searched for in the path. Its first capture
            group names the group (the whole match when it has none): `patient(\d+)_`, `^[^/]+/([^_]+)_`.
        columns: column → N cells, `Collection.columns`; None or empty when DATA is no CSV.
        notices: lines are appended that say which pictures have no group and so are each a group of their own.

    Raises:
        ConfigError: `spec` is neither a column nor a regular expression.
        DataError: no picture has a group.
    """
    columns = columns or {}
    if spec in columns:
        found = [cell.strip() for cell in columns[spec]]
        what = f"an empty cell in column '{spec}'"
        expected = "Fill the column, or take another."
    else:
        found = _first_groups(paths, spec, columns)
        what = f"no match of '{spec}' in the path"
        expected = f"Expected a regular expression on paths such as '{paths[0]}'" if paths else "There are no pictures"
        expected += f", or one of the columns {', '.join(columns)}." if columns else "."
    alone = [path for path, name in zip(paths, found, strict=True) if not name]
    if len(alone) == len(found):
        raise DataError(f"Grouping by '{spec}': every picture has {what}. {expected}")
    if alone and notices is not None:
        notices.append(
            f"{len(alone):,} of {count(len(paths), 'picture')} {'has' if len(alone) == 1 else 'have'} {what}: "
            f"{'it is' if len(alone) == 1 else 'each is'} a group of its own "
            f"({alone[0]}{' …' if len(alone) > 1 else ''})"
        )
    return [name or path for path, name in zip(paths, found, strict=True)]


def _first_groups(paths: Sequence[str], spec: str, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns what `spec` finds in each path, "" where it finds nothing."""
    try:
        pattern = re.compile(spec)
    except re.error as error:
        known = f"one of the columns {', '.join(columns)}" if columns else "a column of a CSV"
        raise ConfigError(
            f"--group-by '{spec}' is not a regular expression ({error}). Expected one, or {known}."
        ) from error
    matches = (pattern.search(path) for path in paths)
    return [(match[1 if pattern.groups else 0] or "") if match else "" for match in matches]
