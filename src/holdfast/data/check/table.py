"""The report on a terminal: the summary first, then errors, warnings and notes, ten cases of each. Plain when piped."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from holdfast.data.check.classes import counts_by_set, num_by_set
from holdfast.data.check.finding import SEVERITIES, Finding, shown
from holdfast.data.check.report import Report
from holdfast.data.check.survey import sizes, survey
from holdfast.data.check.targets import num_by_label, target_lines, target_rows
from holdfast.data.sample import SET_NAMES
from holdfast.data.targets import Targets, describe
from holdfast.words import count, wrapped

_SHOWN = 10
_CLASSES_SHOWN = 20
_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"error": "✗", "warning": "!", "note": "·"}


def print_report(report: Report, console: Console) -> None:
    """Prints the report."""
    print_summary(report, console)
    for severity in SEVERITIES:
        for finding in report.of(severity):
            _print_finding(finding, console)
    errors, warnings = (sum(max(len(f.items), 1) for f in report.of(s)) for s in ("error", "warning"))
    verdict = "ready to train on" if report.ok else "not ready to train on"
    line = f"\n{shown(report.source)}: {count(errors, 'error')}, {count(warnings, 'warning')}; {verdict}"
    _line(console, line, "bold red" if errors else "yellow" if warnings else "bold green")


def print_summary(report: Report, console: Console) -> None:
    """Prints what the collection is made of."""
    size = sizes(report.facts)
    layout = report.layout
    parts = [count(len(report.facts), "picture")]
    if layout.task == "classification":
        parts.append(count(len(layout.classes), "class", "classes"))
    elif layout.targets is not None:
        parts.append(describe(layout.targets))
    if size:
        parts.append(f"{size['num_bytes'] / 1e6:,.1f} MB")
    _line(console, f"{shown(report.source)}: {', '.join(parts)}, read in {report.seconds:.1f} s", "bold")
    lines = box.SIMPLE_HEAD if console.is_terminal else None
    if layout.classes or (layout.targets is not None and layout.task == "multilabel"):
        console.print()
        console.print(_class_table(report, lines))
    elif layout.targets is not None and layout.task == "regression":
        console.print()
        console.print(_column_table(layout.targets, lines))
    if layout.targets is not None:
        console.print()
        for word, text in target_lines(layout.targets):
            _line(console, f"{word:12} {text}")
        if layout.task != "multilabel" and any(layout.sets):
            told = ", ".join(f"{name or 'no set'} ({number:,})" for name, number in num_by_set(layout).items())
            _line(console, f"{'sets':12} {told}")
    if size:
        wide, high = size["width"], size["height"]
        words = f"{wide[0]:,} – {wide[2]:,} wide, {high[0]:,} – {high[2]:,} high, median {wide[1]:,} × {high[1]:,}"
        _line(console, f"{'' if layout.targets else chr(10)}{'size':12} {words}")
    for name, table in survey(report.facts).items():
        if table and any(value != "?" for value in table):
            _line(console, f"{name:12} " + ", ".join(f"{value} ({number:,})" for value, number in table.items()))


def _class_table(report: Report, lines: box.Box | None) -> Table:
    """Returns a row a class, or a label, and a column a set."""
    layout = report.layout
    counts, members, word = counts_by_set(layout), layout.classes, "class"
    if layout.targets is not None:
        counts, members, word = num_by_label(layout), layout.targets.names, "label"
    sets: list[str] = [name for name in SET_NAMES if name in counts]
    if "" in counts:
        sets.append("")
    totals = {name: sum(by.get(name, 0) for by in counts.values()) for name in members}
    names = list(totals)
    left_out = len(names) - _CLASSES_SHOWN
    if left_out > 0:  # the small ones are where trouble is
        names = sorted(totals, key=lambda name: totals[name])[:_CLASSES_SHOWN]
    table = Table(box=lines, pad_edge=False, show_edge=False)
    table.add_column(f"{word}{f' (the {_CLASSES_SHOWN} smallest)' if left_out > 0 else ''}", overflow="fold")
    for set_name in sets:
        table.add_column(set_name or ("pictures" if len(sets) == 1 else "no set"), justify="right")
    for name in names:
        numbers = [counts[s][name] for s in sets]
        table.add_row(Text(shown(name)), *(Text(f"{n:,}", "" if n else "bold red") for n in numbers))
    if left_out > 0:
        table.add_row(Text(f"… and {left_out:,} more", "dim"), *("" for _ in sets))
    by_set = num_by_set(layout)
    every = [by_set[s] for s in sets] if layout.targets else [sum(counts[s].values()) for s in sets]
    table.add_section()
    table.add_row(Text("pictures" if layout.targets else "all", "bold"), *(Text(f"{n:,}", "bold") for n in every))
    return table


def _column_table(targets: Targets, lines: box.Box | None) -> Table:
    """Returns a row a column of numbers: how many are missing, and their range."""
    table = Table(box=lines, pad_edge=False, show_edge=False)
    table.add_column("column", overflow="fold")
    for head in ("missing", "min", "mean", "max"):
        table.add_column(head, justify="right")
    for row in target_rows(targets):
        cells = ("–" if row[key] is None else f"{row[key]:,.6g}" for key in ("min", "mean", "max"))
        table.add_row(Text(shown(row["name"])), f"{row['num_missing']:,}", *cells)
    return table


def _print_finding(finding: Finding, console: Console) -> None:
    style = _STYLES[finding.severity]
    head = Text(f"\n{_MARKS[finding.severity]} {finding.severity}: ", style)
    head.append(finding.title, "bold" if finding.severity != "note" else "")
    if finding.advice:
        head.append(f". {finding.advice}", "dim")
    console.print(head, soft_wrap=not console.is_terminal)  # a terminal would break lines within words
    for item in finding.items[:_SHOWN]:
        _line(console, f"    {item.text}")
    if len(finding.items) > _SHOWN:
        _line(console, f"    … and {len(finding.items) - _SHOWN:,} more (all of them: --json, --html FILE)", "dim")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(wrapped(text, console.width) if console.is_terminal else text, style), soft_wrap=True)
