"""`holdfast check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import (
    collection_options,
    json_option,
    opening,
    print_json,
    quiet_option,
    traceback_option,
)

if TYPE_CHECKING:
    from holdfast.data.check import Report


@click.command("check")
@click.argument("data")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="write a page with thumbnails to this file"
)
@click.option("--strict", is_flag=True, help="warnings are errors")
@click.option("--split", metavar="FILE", help="the table that divides DATA, of `holdfast split` or of a run")
@click.option("--fold", type=click.IntRange(min=1), help="the fold of that table that validates")
@click.option(
    "--group-by", metavar="COLUMN|REGEX", help="no group may stand in two sets: a column, or a regex on paths"
)
@click.option(
    "--near-distance",
    type=click.IntRange(0, 16),
    default=8,
    show_default=True,
    help="bits in which pictures that look the same may differ",
)
@click.option("--quick", is_flag=True, help="compare files for equal contents only, not for what they look like")
@click.option("--no-duplicates", is_flag=True, help="compare no files at all")
@collection_options
@click.option("--workers", "-j", type=click.IntRange(1, 256), help="pictures read at once  [one a core]")
@json_option
@quiet_option
@traceback_option
def command(
    data: str,
    html: Path | None,
    strict: bool,
    split: str | None,
    fold: int | None,
    group_by: str | None,
    near_distance: int,
    quick: bool,
    no_duplicates: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    **reading: str | None,
) -> int:
    """Say all that is wrong with DATA, and what is in it. DATA is only read; every picture is decoded once.

    Errors: files that cannot be read or are no whole pictures, class lists that do not fit, equal pictures with
    different labels. Warnings: copies and groups in more than one set, pictures that look the same with different
    labels, names that lie, class names that differ only in case, classes that are tiny, missing from a set or far
    larger than others, labels that are rare or missing from a set, columns of one number. Notes: sideways, CMYK,
    16-bit, transparent and animated pictures, profiles, rare modes, copies within a set, points that are missing or off
    their picture.

    A CSV may also say points, several labels or numbers of each picture: they are read, and counted, as `train --task`
    reads them.

    Exit code 0: no errors. 3: errors.
    """
    from holdfast.data.check import check_data
    from holdfast.data.check.page import refuse_to_overwrite, write_page
    from holdfast.run.console import Console

    if html is not None:
        refuse_to_overwrite(html)  # before the work, not after it
    talk = Console(quiet=quiet or as_json, to_stderr=True)
    with talk.progress("checking pictures", 1, unit="picture") as bar:
        report = check_data(
            data,
            **opening(**reading),
            split=split,
            fold=fold,
            group_by=group_by,
            duplicates=not no_duplicates,
            near_distance=None if quick else near_distance,
            strict=strict,
            workers=workers,
            begin=bar.begin,
        )
    if as_json:
        print_json(report.to_json())
    elif not quiet or not report.ok:
        _print(report)
    if html is not None:
        write_page(report, html)
        if not quiet:
            click.echo(f"wrote {html}", err=True)
    return 0 if report.ok else 3


def _print(report: Report) -> None:
    from rich.console import Console

    from holdfast.data.check.table import print_report

    terminal = sys.stdout.isatty()
    print_report(report, Console(highlight=False, no_color=not terminal, width=None if terminal else 160))
