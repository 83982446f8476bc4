"""The whole check: DATA is laid out, every picture is read and decoded once, and all findings are put in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import xxhash

from holdfast.data.check.classes import class_findings, counts_by_set, num_by_set
from holdfast.data.check.copies import exact_findings, group_findings, near_findings
from holdfast.data.check.files import file_findings
from holdfast.data.check.finding import SEVERITIES, Finding
from holdfast.data.check.header import Header
from holdfast.data.check.layout import Layout, read_layout
from holdfast.data.check.probe import Facts, in_threads, probe_without_likeness
from holdfast.data.check.survey import sizes, survey
from holdfast.data.check.targets import num_by_label, target_findings, target_rows
from holdfast.data.division.duplicates import NEAR_DISTANCE
from holdfast.data.division.likeness import MIN_SIDE, Bytes, sampled
from holdfast.data.sample import Pictures
from holdfast.data.targets import NAMES
from holdfast.errors import DataError


@dataclass
class Report:
    """What the check found.

    Attributes:
        source: DATA as it was given.
        layout: every picture with its class and set.
        facts: one a picture.
        findings: errors first, then warnings, then notes.
        seconds: how long it took.
    """

    source: str
    layout: Layout
    facts: list[Facts]
    findings: list[Finding]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.of("error")

    def of(self, severity: str) -> list[Finding]:
        """Returns the findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values; names that are no text have their stray bytes escaped."""
        names = self.layout.names
        value = {
            "data": self.source,
            "ok": self.ok,
            "task": self.layout.task,
            "num_pictures": len(self.facts),
            "num_good": sum(not one.fault for one in self.facts),
            "num_errors": sum(max(len(f.items), 1) for f in self.of("error")),
            "num_warnings": sum(max(len(f.items), 1) for f in self.of("warning")),
            **self._targets_json(),
            "sizes": sizes(self.facts),
            "tables": survey(self.facts),
            "findings": [finding.to_json(names) for finding in self.findings],
            "seconds": round(self.seconds, 3),
        }
        return cast("dict[str, Any]", _as_text(value))

    def _targets_json(self) -> dict[str, Any]:
        layout = self.layout
        value: dict[str, Any] = {"num_by_set": num_by_set(layout)}
        if layout.task == "classification":
            return {"classes": layout.classes, **value, "num_by_class": counts_by_set(layout)}
        if layout.targets is None:  # could not be read
            return {NAMES[layout.task]: [], **value, "targets": []}
        if layout.task == "multilabel":
            value["num_by_label"] = num_by_label(layout)
        return {NAMES[layout.task]: layout.targets.names, **value, "targets": target_rows(layout.targets)}


def _as_text(value: Any) -> Any:
    """Returns JSON values with the stray bytes of names that are no UTF-8 escaped, so that all of it can be written."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(one) for key, one in value.items()}
    return [_as_text(one) for one in value] if isinstance(value, list) else value


def check_data(
    source: str,
    *,
    classes: Sequence[str] | None = None,
    image_dir: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    task: str | None = None,
    target_columns: Sequence[str] | None = None,
    split: str | None = None,
    fold: int | None = None,
    group_by: str | None = None,
    duplicates: bool = True,
    near_distance: int | None = NEAR_DISTANCE,
    strict: bool = False,
    workers: int | None = None,
    begin: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Reads and decodes every picture of DATA once, and says all that is wrong with it. Nothing is written.

    Args:
        source, classes, image_dir, file_column, label_column, task, target_columns: see `open_data`.
        split, fold: a table that divides DATA, see `with_split`.
        group_by: a column of the CSV or a regular expression on the path, see `group_names`.
        duplicates: False looks for no copies at all.
        near_distance: bits in which near duplicates may differ; None looks for equal files only.
        strict: warnings become errors.
        workers: threads; by default one a core.
        begin: called with the number of pictures; returns what is called with the number done.

    Raises:
        DataError: there is nothing at `source`.
        ConfigError: `group_by` is no regular expression; a `fold` of no table.
    """
    start = time.perf_counter()
    layout = read_layout(
        source,
        classes=classes,
        image_dir=image_dir,
        file_column=file_column,
        label_column=label_column,
        task=task,
        target_columns=target_columns,
        split=split,
        fold=fold,
    )
    likeness = duplicates and near_distance is not None
    facts = _all_facts(layout, likeness, workers, begin)
    findings = _told_once(_all_findings(layout, facts, duplicates, near_distance, group_by))
    if strict:
        findings = [replace(one, severity="error") if one.severity == "warning" else one for one in findings]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(source, layout, facts, findings, time.perf_counter() - start)


def _all_findings(
    layout: Layout, facts: list[Facts], duplicates: bool, near_distance: int | None, group_by: str | None
) -> list[Finding]:
    findings = [*layout.findings, *file_findings(layout, facts)]
    if duplicates:
        findings += exact_findings(layout, [one.digest if one.num_bytes else "" for one in facts])
    if duplicates and near_distance is not None:
        findings += near_findings(layout, facts, near_distance)
    if group_by is not None:
        try:
            findings += group_findings(layout, group_by)
        except DataError as error:
            findings.append(Finding("error", "groups", str(error)))
    return [*findings, *class_findings(layout), *target_findings(layout)]


def _told_once(findings: list[Finding]) -> list[Finding]:
    """Leaves out what the folder's or the table's own notice says where a finding on classes says it, and more."""
    told = {one.code for one in findings if one.code.startswith("class-")}
    kept: dict[str, Finding] = {}
    for one in reversed(findings):  # the findings on classes come last
        kept.setdefault(one.code if one.code in told else f"{one.code} {one.title}", one)
    return list(kept.values())[::-1]


def _all_facts(
    layout: Layout,
    likeness: bool,
    workers: int | None,
    begin: Callable[[int], Callable[[int], None]] | None,
) -> list[Facts]:
    progress = begin(len(layout.names)) if begin else None
    root, pictures = layout.root, layout.pictures
    if root is not None:
        return in_threads(
            lambda i: probe_without_likeness(root / layout.names[i], layout.names[i], keep=likeness),
            len(layout.names),
            workers,
            progress,
        )
    if pictures is None:
        return []
    return in_threads(lambda i: _probe_array(pictures, i, likeness), len(pictures), workers, progress)


def _probe_array(pictures: Pictures, index: int, likeness: bool) -> tuple[Facts, Bytes | None]:
    try:
        pixels = pictures.read(index)
    except DataError as error:
        return Facts(-1, "", "unreadable", str(error)), None
    values = pixels.contiguous().numpy()
    digest = xxhash.xxh3_128_hexdigest(values.tobytes() + repr(values.shape).encode())
    channels, height, width = values.shape
    header = Header(width, height, "L" if channels == 1 else "RGB", 8 * values.itemsize)
    if values.dtype.kind == "f" and not bool(torch.isfinite(pixels).all()):
        problem = f"{pictures.name(index)}: values that are not finite"
        return Facts(values.nbytes, digest, "damaged", problem, "", header), None
    alike = likeness and values.dtype == np.uint8 and min(height, width) >= MIN_SIDE
    return Facts(values.nbytes, digest, "", None, "", header), sampled(values) if alike else None
