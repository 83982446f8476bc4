"""`holdfast val`."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from holdfast.cli.options import device_option, fold_option, json_option, print_json, split_option, traceback_option
from holdfast.errors import ConfigError
from holdfast.words import count


@click.command("val")
@click.argument("model")
@click.argument("data", required=False)
@click.option(
    "--set",
    "set_name",
    type=click.Choice(["train", "val", "test", "all"]),
    help="which set of DATA; by default val (of the run's own data), all (of other data)",
)
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False), help="write one row a picture to this file"
)
@split_option
@fold_option
@click.option("--image-dir", help="what file names in a CSV are relative to")
@device_option
@json_option
@traceback_option
def command(
    model: str,
    data: str | None,
    set_name: str | None,
    csv_file: Path | None,
    split: str | None,
    fold: int | None,
    image_dir: str | None,
    device: str,
    as_json: bool,
) -> int:
    """How good MODEL is on pictures whose targets are known: accuracy and loss, or what its task is measured by.

    MODEL is a run (runs/x, runs/x@last, runs/x@1200), a checkpoint directory or a file. Without DATA, the validation
    set of the run it came from is taken. Classes are matched by name.
    """
    from holdfast.data.answer_table import answer_header, answer_rows
    from holdfast.data.answers import format_figure
    from holdfast.serve import Predictor
    from holdfast.serve.evaluate import align_targets, score
    from holdfast.serve.labelled import open_labelled

    predictor = Predictor(model, device)
    labelled = open_labelled(predictor, data, set_name, image_dir=image_dir, split=split, fold=fold)
    pictures, indices = labelled.pictures, labelled.indices
    result = score(predictor, pictures, indices, align_targets(pictures, indices, predictor.spec))
    if csv_file is not None:
        try:
            with csv_file.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["path", *answer_header(result.spec)])
                rows = answer_rows(result.answers, result.targets.numpy(), result.spec)
                writer.writerows([pictures.name(i), *cells] for i, cells in zip(indices.tolist(), rows, strict=True))
        except OSError as error:
            raise ConfigError(f"Writing {csv_file}: {error.strerror}.") from error
    if as_json:
        print_json({**result.to_json(), "model": str(predictor.file.path), "data": labelled.description})
        return 0
    click.echo(f"{predictor.file.path} on {labelled.description}")
    said = "   ".join(f"{name} {format_figure(name, value)}" for name, value in result.metrics.items())
    loss = "" if result.loss is None else f"   loss {result.loss:.4f}"
    click.echo(f"{said}{loss}   {count(result.num_samples, 'picture')}")
    for name, row in result.by_name.items():
        first = next(iter(row))
        click.echo(f"  {format_figure(first, row[first]):>7}  {name}  ({row['num_samples']})")
    return 0
