"""Names by rule: `regex=>replacement`, one after another, over all names of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from holdfast.errors import CheckpointMismatch, ConfigError, first_of

ARROW = "=>"


def rename(names: Iterable[str], rules: Sequence[str], where: str) -> dict[str, str]:
    """Returns name → new name.

    Args:
        names: of the tensors.
        rules: `regex=>replacement`: every place where the expression is found is replaced, `\\1` being its first
            group, as in `re.sub`; each rule sees what the one before it made.
        where: the file, for messages.

    Raises:
        ConfigError: a rule is none, its expression is not one, or it fits no name.
        CheckpointMismatch: two names become one, or one becomes empty.
    """
    renamed = {name: name for name in names}
    for rule in rules:
        pattern, replacement = _parsed(rule)
        try:
            after = {name: pattern.sub(replacement, now) for name, now in renamed.items()}
        except (re.error, IndexError) as error:
            raise ConfigError(
                f"--rename {rule!r}: found {error}; expected a replacement whose \\1, \\2 … are groups of the regex."
            ) from error
        if not any(pattern.search(now) for now in renamed.values()):
            shown = ", ".join(list(renamed.values())[:3])
            raise ConfigError(
                f"--rename {rule!r}: none of the {len(renamed)} names of {where} contains it; expected one at least. "
                f"They are like {shown}."
            )
        renamed = after
    _refuse_clashes(renamed, where)
    return renamed


def _parsed(rule: str) -> tuple[re.Pattern[str], str]:
    pattern, arrow, replacement = rule.partition(ARROW)
    if not arrow or not pattern:
        raise ConfigError(f"--rename {rule!r}: expected 'regex{ARROW}replacement', such as '^backbone\\.{ARROW}'.")
    try:
        return re.compile(pattern), replacement
    except re.error as error:
        raise ConfigError(f"--rename {rule!r}: {pattern!r} is no regular expression ({error}). Correct it.") from error


def _refuse_clashes(renamed: dict[str, str], where: str) -> None:
    taken: dict[str, str] = {}
    problems = []
    for name, new in renamed.items():
        if not new:
            problems.append(f"{name} becomes empty")
        elif taken.setdefault(new, name) != name:
            problems.append(f"{taken[new]} and {name} both become {new}")
    if problems:
        raise CheckpointMismatch(
            f"Renaming the tensors of {where}: found names that clash; expected a name for each:\n"
            f"{first_of(problems)}\nChange the rules."
        )
