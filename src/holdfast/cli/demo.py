"""`holdfast demo`."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import traceback_option


@click.command("demo")
@click.option("--out", default="runs/demo", show_default=True, type=click.Path(path_type=Path), help="where to put it")
@traceback_option
def command(out: Path) -> int:
    """One minute on real handwritten digits: train, be killed half-way, resume, and compare the bytes."""
    from holdfast.cli.demonstration import demonstrate

    return demonstrate(out)
