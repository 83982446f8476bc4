"""`holdfast predict`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import click

from holdfast.cli.options import device_option, json_option, print_json, traceback_option
from holdfast.errors import ConfigError
from holdfast.words import count


@click.command("predict")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--top-k", "-k", default=5, show_default=True, type=click.IntRange(min=1), help="classes to name")
@click.option(
    "--threshold",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="the probability from which on a label is given, where a picture may have several",
)
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="write one row a picture to this file"
)
@device_option
@json_option
@traceback_option
def command(
    model: str,
    images: tuple[str, ...],
    top_k: int,
    threshold: float,
    csv_file: Path | None,
    device: str,
    as_json: bool,
) -> int:
    """Say what MODEL sees on IMAGES, which are files, folders (at any depth) and globs.

    Classes and labels come with probabilities, points in pixels of the upright picture.

    MODEL is a run (runs/x, runs/x@last, runs/x@1200), a checkpoint directory or a file. A picture that cannot be read
    is named with its error; the others are done, and the exit code is 1.
    """
    from holdfast.serve import Predictor, Unreadable
    from holdfast.serve.predictions import columns_of
    from holdfast.serve.predictor import find_images
    from holdfast.toolbox.text import printable

    paths = find_images(images)
    predictor = Predictor(model, device)
    results = []
    for result in predictor.predict(paths, top_k, threshold):
        results.append(result)
        if as_json:
            continue
        if isinstance(result, Unreadable):
            click.echo(printable(result.error), err=True)
        else:
            click.echo(f"{printable(result.path)}  {printable(result.line())}")
    if csv_file is not None:
        try:
            with csv_file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file, lineterminator="\n")
                columns = columns_of(predictor.spec)
                writer.writerow(["path", *columns, "error"])
                for r in results:
                    cells, error_text = ([""] * len(columns), r.error) if isinstance(r, Unreadable) else (r.cells(), "")
                    writer.writerow([r.path, *cells, error_text])
        except OSError as error:
            raise ConfigError(f"Writing {csv_file}: {error.strerror}.") from error
    if as_json:
        print_json([r.to_json() for r in results])
    unreadable = sum(isinstance(r, Unreadable) for r in results)
    if unreadable:
        print(f"{unreadable} of {count(len(results), 'picture')} could not be read", file=sys.stderr)
    return 1 if unreadable else 0
