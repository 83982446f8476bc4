"""Is every picture there, whole and readable? Asked once, before the first step: hour nine brings no surprise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.check.classes import class_findings
from holdfast.data.check.copies import exact_findings, look_alikes
from holdfast.data.check.finding import Finding, shown
from holdfast.data.check.layout import layout_of
from holdfast.data.check.probe import Facts, in_threads, probe, probe_without_likeness
from holdfast.data.division.likeness import Bytes, Likeness
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection


@dataclass(frozen=True)
class CheckedFile:
    """What reading one file told: size in bytes, digest of its contents, and what is wrong with it, if anything.

    `likeness` is what it looks like, where that was asked for.
    """

    num_bytes: int
    digest: str
    problem: str | None
    likeness: Likeness | None = None


def check_files(
    pictures: FilePictures, progress: Callable[[int], None] | None = None, *, likeness: bool = False
) -> list[CheckedFile]:
    """Reads and fully decodes every picture; returns what it found, in order.

    Args:
        progress: called with the number of pictures done so far.
        likeness: whether to say what each looks like, from the pixels that are decoded anyway.
    """

    def work(index: int) -> tuple[Facts, Bytes | None]:
        path = pictures.path(index)
        return probe_without_likeness(path, shown(str(path)), keep=likeness)  # told of in a line each

    return [_checked(one) for one in in_threads(work, len(pictures), progress=progress)]


def check_file(path: Path) -> CheckedFile:
    """Reads and decodes one file. Problems are returned, not raised."""
    return _checked(probe(path, shown(str(path)), likeness=False))


def _checked(facts: Facts) -> CheckedFile:
    return CheckedFile(facts.num_bytes, facts.digest, facts.problem, facts.likeness)


def short_findings(collection: Collection, checked: list[CheckedFile]) -> list[Finding]:
    """Returns what the class names and the files that were read tell: errors first, then warnings; no notes.

    Pictures that look the same are told where they are in two sets of `collection`, if `checked` has likenesses.
    """
    layout = layout_of(collection)
    digests = [one.digest if one.num_bytes > 0 and not one.problem else "" for one in checked]
    found = exact_findings(layout, digests)
    if any(layout.sets):
        alike = look_alikes(layout, digests, [one.likeness for one in checked])
        found += [one for one in alike if one.code == "near-duplicate-across-sets"]
    found += [one for one in class_findings(layout) if one.code == "class-names-alike"]
    return [one for severity in ("error", "warning") for one in found if one.severity == severity]
