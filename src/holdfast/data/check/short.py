"""Is every picture there, whole and readable? Asked once, before the first step: hour nine brings no surprise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.check.classes import class_findings
from holdfast.data.check.copies import exact_findings
from holdfast.data.check.finding import Finding
from holdfast.data.check.layout import layout_of
from holdfast.data.check.probe import Facts, in_threads, probe, probe_without_likeness
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection


@dataclass(frozen=True)
class CheckedFile:
    """What reading one file told: size in bytes, digest of its contents, and what is wrong with it, if anything."""

    num_bytes: int
    digest: str
    problem: str | None


def check_files(pictures: FilePictures, progress: Callable[[int], None] | None = None) -> list[CheckedFile]:
    """Reads and fully decodes every picture; returns what it found, in order.

    Args:
        progress: called with the number of pictures done so far.
    """
    facts = in_threads(lambda i: probe_without_likeness(pictures.path(i), keep=False), len(pictures), progress=progress)
    return [_checked(one) for one in facts]


def check_file(path: Path) -> CheckedFile:
    """Reads and decodes one file. Problems are returned, not raised."""
    return _checked(probe(path, likeness=False))


def _checked(facts: Facts) -> CheckedFile:
    return CheckedFile(facts.num_bytes, facts.digest, facts.problem)


def short_findings(collection: Collection, checked: list[CheckedFile]) -> list[Finding]:
    """Returns what the files' digests and the class names alone tell: errors first, then warnings; no notes."""
    layout = layout_of(collection)
    found = exact_findings(layout, [one.digest if one.num_bytes > 0 and not one.problem else "" for one in checked])
    found += [one for one in class_findings(layout) if one.code == "class-names-alike"]
    return [one for severity in ("error", "warning") for one in found if one.severity == severity]
