"""The report as one self-contained page: thumbnails of what is wrong, and of what is unusual. No script, no network."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from holdfast.data.check.classes import counts_by_set
from holdfast.data.check.finding import SEVERITIES, Finding, Item, shown
from holdfast.data.check.report import Report
from holdfast.data.check.survey import sizes, survey
from holdfast.data.check.targets import num_by_label, target_lines, target_rows
from holdfast.data.decoding.decode import decode_image
from holdfast.data.sample import SET_NAMES
from holdfast.data.targets import NAMES, Targets
from holdfast.errors import ConfigError, DataError
from holdfast.words import count

_STYLE = Path(__file__).with_name("page.css")
_DOCTYPE = "<!doctype html>"
THUMBNAIL = 150  # pixels, the long side
_CASES = 24  # of a finding, with pictures
_SIDE_BY_SIDE = 6  # pictures of a case
_LISTED = 2000  # cases of a finding, as text
_OPEN = 10  # rows of a table that is not folded away
_CLASSES = 60  # in the chart: the largest and the smallest


def write_page(report: Report, file: Path) -> None:
    """Writes the page to `file`, over a page that was there. Raises ConfigError when it cannot be written."""
    refuse_to_overwrite(file)
    try:
        # A name that is no UTF-8 was escaped before it came here; whatever else cannot be written is replaced.
        file.write_text(render_page(report), encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"Writing {file}: {error.strerror or error}.") from error


def refuse_to_overwrite(file: Path) -> None:
    """Raises ConfigError where no page can go: into no folder, or over a picture or a table."""
    try:
        if not file.absolute().parent.is_dir():
            raise ConfigError(f"Writing {file}: there is no folder {file.parent}. Make it, or give another place.")
        if file.exists() and not file.is_file():
            raise ConfigError(f"Writing {file}: it is not a file. Give the page another name.")
        if file.exists():
            with file.open("rb") as there:
                start = there.read(len(_DOCTYPE))
            if start and start.lower() != _DOCTYPE.encode():
                raise ConfigError(f"Writing {file}: something else than a page is there. Give the page another name.")
    except OSError as error:
        raise ConfigError(f"Writing {file}: {error.strerror or error}.") from error


def render_page(report: Report) -> str:
    """Returns the page as HTML. Pictures are read again to be shown, as many as fit a page."""
    thumbnails = _Thumbnails(report)
    name = escape(shown(report.source))
    findings = [_finding(one, report, thumbnails) for severity in SEVERITIES for one in report.of(severity)]
    parts = [
        _DOCTYPE,
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name} – holdfast check</title><style>{_STYLE.read_text(encoding='utf-8')}</style></head><body><main>",
        _head(report, name),
        _overview(report, thumbnails),
        *(findings or ['<p class="fine">Nothing is wrong and nothing is unusual.</p>']),
        f"<footer>holdfast check {name} · {report.seconds:.1f} s · pictures are shown upright</footer>",
        "</main></body></html>",
    ]
    return "\n".join(parts)


class _Thumbnails:
    """Small pictures as data addresses, each made once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._made: dict[int, str] = {}

    def address(self, index: int) -> str:
        """Returns a `data:` address, "" for a picture that cannot be shown."""
        if index not in self._made:
            self._made[index] = "" if self._report.facts[index].fault else self._make(index)
        return self._made[index]

    def _make(self, index: int) -> str:
        layout = self._report.layout
        try:
            if layout.root is not None:
                pixels = decode_image(layout.root / layout.names[index])
            elif layout.pictures is not None:
                pixels = layout.pictures.read(index)
            else:
                return ""
        except DataError:
            return ""  # it was whole a moment ago
        if pixels.dtype != torch.uint8:
            pixels = (pixels.clamp(0, 1) * 255).to(torch.uint8)
        array = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        picture = Image.fromarray(array)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _head(report: Report, name: str) -> str:
    counts = {s: sum(max(len(f.items), 1) for f in report.of(s)) for s in SEVERITIES}
    worst = next((s for s in ("error", "warning") if counts[s]), "fine")
    verdict = {"error": "Not ready to train on", "warning": "Ready, with warnings", "fine": "Ready to train on"}[worst]
    links = "".join(
        f'<a class="chip {one.severity}" href="#{one.code}">{escape(one.code)} <b>{max(len(one.items), 1):,}</b></a>'
        for severity in SEVERITIES
        for one in _once(report.of(severity))
    )
    return (
        f'<header class="{worst}"><h1>{name.replace("/", "/<wbr>")}</h1><p class="verdict">{verdict}</p>'
        f"<p>{count(counts['error'], 'error')} · {count(counts['warning'], 'warning')} · "
        f"{count(counts['note'], 'note')}</p><nav>{links}</nav></header>"
    )


def _once(findings: list[Finding]) -> Iterable[Finding]:
    return {one.code: one for one in reversed(findings)}.values().__reversed__()


def _overview(report: Report, thumbnails: _Thumbnails) -> str:
    layout = report.layout
    size = sizes(report.facts)
    figures = [
        (f"{len(report.facts):,}", "pictures"),
        (f"{sum(not one.fault for one in report.facts):,}", "readable"),
        (f"{len(layout.targets.names if layout.targets else layout.classes):,}", NAMES[layout.task]),
    ]
    if size:
        figures += [
            (f"{size['num_bytes'] / 1e6:,.1f} MB", "in files"),
            (f"{size['width'][1]:,} × {size['height'][1]:,}", "median size"),
            (f"{size['width'][0]:,}–{size['width'][2]:,} × {size['height'][0]:,}–{size['height'][2]:,}", "all sizes"),
        ]
    boxes = "".join(f"<div><b>{number}</b><span>{what}</span></div>" for number, what in figures)
    tables = "".join(_table(name, values) for name, values in survey(report.facts).items() if values)
    if layout.targets is not None:
        tables += _target_tables(layout.targets)
    return (
        f'<section class="figures">{boxes}</section>{_chart(report, thumbnails)}'
        f'<section class="tables">{tables}</section>'
    )


def _table(name: str, values: dict[str, int]) -> str:
    rows = "".join(f"<tr><td>{escape(value)}</td><td>{number:,}</td></tr>" for value, number in values.items())
    return f"<table><caption>{escape(name)}</caption>{rows}</table>"


def _target_tables(targets: Targets) -> str:
    """Returns what holds of all labels, columns or points together, and a row for each column or point."""
    lines = "".join(f"<tr><td>{escape(word)}</td><td>{escape(text)}</td></tr>" for word, text in target_lines(targets))
    together = f"<table><caption>all {NAMES[targets.task]}</caption>{lines}</table>" if lines else ""
    if targets.task == "multilabel":
        return together
    rows = target_rows(targets)
    heads = ("missing", "min", "mean", "max") if targets.task == "regression" else ("missing", "off", "x", "y")
    body = "".join(
        f"<tr><td>{escape(shown(row['name']))}</td>{''.join(f'<td>{cell}</td>' for cell in _cells(row))}</tr>"
        for row in rows[:_CLASSES]
    )
    more = f"<tr><td>… and {len(rows) - _CLASSES:,} more</td></tr>" if len(rows) > _CLASSES else ""
    head = "".join(f"<td>{word}</td>" for word in ("", *heads))
    each = f"each of the {NAMES[targets.task]}"
    if len(rows) <= _OPEN:
        return f"{together}<table><caption>{each}</caption><tr>{head}</tr>{body}{more}</table>"
    return f"{together}<details><summary>{each}</summary><table><tr>{head}</tr>{body}{more}</table></details>"


def _cells(row: dict[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:,.6g}"

    missing = f"{row['num_missing']:,}"
    if "x" not in row:
        return [missing, number(row["min"]), number(row["mean"]), number(row["max"])]
    spans = [f"{number(row[axis]['min'])} – {number(row[axis]['max'])}" for axis in "xy"]
    return [missing, f"{row['num_off']:,}", *spans]


def _chart(report: Report, thumbnails: _Thumbnails) -> str:
    """Returns a bar a class, or a label, in parts by set, with a picture of it."""
    layout, targets = report.layout, report.layout.targets
    members = targets.names if targets is not None and targets.task == "multilabel" else layout.classes
    if not members:
        return ""
    counts = counts_by_set(layout) if targets is None else num_by_label(layout)
    sets: list[str] = [name for name in (*SET_NAMES, "") if name in counts]
    totals = Counter({name: sum(by[name] for by in counts.values()) for name in members})
    names = members
    left_out = len(names) - _CLASSES
    if left_out > 0:
        ordered = [name for name, _ in totals.most_common()]
        names = ordered[: _CLASSES // 2] + ordered[-_CLASSES // 2 :]
    good = [index for index, one in enumerate(report.facts) if not one.fault]
    if targets is None:
        first = {int(layout.labels[index]): index for index in reversed(good)}
    else:
        first = {int(k): index for index in reversed(good) for k in targets.values[index].nonzero()[0]}
    most = max(totals.values()) or 1
    place = {name: k for k, name in enumerate(members)}
    rows = []
    for name in names:
        bars = "".join(
            f'<i class="{s or "all"}" style="width:{100 * counts[s][name] / most:.2f}%" title="{s or "pictures"}: '
            f'{counts[s][name]:,}"></i>'
            for s in sets
        )
        address = thumbnails.address(first[place[name]]) if place[name] in first else ""
        picture = f'<img src="{address}" alt="">' if address else '<span class="none"></span>'
        numbers = " / ".join(f"{counts[s][name]:,}" for s in sets)
        rows.append(f"<tr><th>{picture}<span>{escape(shown(name))}</span></th><td><div>{bars}</div></td>"
                    f"<td>{numbers}</td></tr>")  # fmt: skip
    legend = "".join(f'<span><i class="{s}"></i>{s}</span>' for s in sets if s)
    one, many = ("class", "classes") if targets is None else ("label", "labels")
    more = f"<p>{count(left_out, one, many)} between these left out.</p>" if left_out > 0 else ""
    return (
        f'<section class="chart"><h2>{many.capitalize()}</h2><p class="legend">{legend}</p>'
        f"<table>{''.join(rows)}</table>{more}</section>"
    )


def _finding(finding: Finding, report: Report, thumbnails: _Thumbnails) -> str:
    title = escape(finding.title[:1].upper() + finding.title[1:])
    advice = f"<p>{escape(finding.advice)}</p>" if finding.advice else ""
    if finding.items and all(i.pictures and all(report.facts[k].fault for k in i.pictures) for i in finding.items):
        return _broken(finding, report, title, advice)
    with_pictures = [item for item in finding.items if item.pictures][:_CASES]
    cases = "".join(_case(item, report, thumbnails) for item in with_pictures)
    wide = any(len(item.pictures) > 1 for item in with_pictures)
    grid = f'<div class="{"groups" if wide else "grid"}">{cases}</div>' if cases else ""
    return (
        f'<section class="finding {finding.severity}" id="{finding.code}"><h2><em>{finding.severity}</em>{title}</h2>'
        f"{advice}{grid}{_list(finding, len(with_pictures))}</section>"
    )


def _broken(finding: Finding, report: Report, title: str, advice: str) -> str:
    """Returns files that cannot be shown as a table of their names."""
    layout, rows = report.layout, []
    for item in finding.items[:_LISTED]:
        index = item.pictures[0]
        name = shown(layout.names[index])
        where = layout.sets[index]
        tags = f'<span class="set {where}">{where}</span>' if where else ""
        rows.append(
            f'<tr><td class="path">{escape(name)}</td><td>{escape(shown(layout.told(index)))}</td><td>{tags}</td>'
            f"<td>{escape(item.text.removeprefix(f'{name}: '))}</td></tr>"
        )
    more = len(finding.items) - _LISTED
    rest = f"<p>… and {more:,} more: holdfast check --json lists them</p>" if more > 0 else ""
    return (
        f'<section class="finding {finding.severity}" id="{finding.code}"><h2><em>{finding.severity}</em>{title}</h2>'
        f'{advice}<table class="broken-files">{"".join(rows)}</table>{rest}</section>'
    )


def _list(finding: Finding, num_drawn: int) -> str:
    """Returns all cases as text; folded away where pictures show most of them."""
    if not finding.items or len(finding.items) == num_drawn:
        return ""
    lines = "".join(f"<li>{escape(item.text)}</li>" for item in finding.items[:_LISTED])
    more = len(finding.items) - _LISTED
    if more > 0:
        lines += f"<li>… and {more:,} more: holdfast check --json lists them</li>"
    if len(finding.items) <= 10:
        return f"<ul>{lines}</ul>"
    return f"<details><summary>all {len(finding.items):,}</summary><ul>{lines}</ul></details>"


def _case(item: Item, report: Report, thumbnails: _Thumbnails) -> str:
    cards = "".join(_card(index, report, thumbnails) for index in _different_first(item.pictures, report))
    more = len(item.pictures) - _SIDE_BY_SIDE
    if more > 0:
        cards += f'<span class="more">and {more:,} more</span>'
    name = shown(report.layout.names[item.pictures[0]])
    # A line that is a list of names says nothing that the cards do not; a group's name and numbers do.
    named = len(item.pictures) > 1 and name in item.text
    text = "" if named else item.text.removeprefix(f"{name}: ")
    note = f"<p>{escape(text)}</p>" if text else ""
    return f'<div class="case">{cards}{note}</div>'


def _different_first(pictures: tuple[int, ...], report: Report) -> list[int]:
    """Returns as many as are shown side by side, one of each label and set before more of the same."""
    layout = report.layout
    kinds = {(int(layout.labels[i]), layout.sets[i]): i for i in reversed(pictures)}
    return list(dict.fromkeys([*reversed(kinds.values()), *pictures]))[:_SIDE_BY_SIDE]


def _card(index: int, report: Report, thumbnails: _Thumbnails) -> str:
    layout, one = report.layout, report.facts[index]
    name = escape(shown(layout.names[index]))
    address = thumbnails.address(index)
    picture = f'<img src="{address}" alt="" loading="lazy">' if address else '<span class="broken">no picture</span>'
    header = one.header
    size = f"{header.width} × {header.height} {header.mode}" if header.width else ""
    told = [f"{one.num_bytes:,} bytes"] * (one.num_bytes >= 0) + [size] * bool(size)
    label, where = layout.told(index), layout.sets[index]
    tags = (f'<span class="label">{escape(shown(label))}</span>' if label else "") + (
        f'<span class="set {where}">{where}</span>' if where else ""
    )
    return (
        f'<figure title="{name}">{picture}<figcaption><span class="name">{name}</span>{tags}'
        f"<small>{escape(' · '.join(told))}</small></figcaption></figure>"
    )
