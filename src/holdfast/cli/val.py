"""`holdfast val`."""

from __future__ import annotations

import csv
from pathlib import Path

import click

from holdfast.cli.options import device_option, fold_option, json_option, print_json, split_option, traceback_option
from holdfast.errors import ConfigError


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
    """Loss and accuracy of MODEL on labelled pictures.

    MODEL is a run (runs/x, runs/x@last, runs/x@1200), a checkpoint directory or a file. Without DATA, the validation
    set of the run it came from is taken. Classes are matched by name.
    """
    from holdfast.serve import Predictor
    from holdfast.serve.evaluate import align_labels, score
    from holdfast.serve.labelled import open_labelled

    predictor = Predictor(model, device)
    labelled = open_labelled(predictor, data, set_name, image_dir=image_dir, split=split, fold=fold)
    pictures, indices = labelled.pictures, labelled.indices
    targets = align_labels(pictures, indices, predictor.classes)
    result = score(predictor, pictures, indices, targets)
    if csv_file is not None:
        try:
            with csv_file.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["path", "label", "predicted", "probability", "correct"])
                for i, target, row in zip(indices.tolist(), targets.tolist(), result.probabilities, strict=True):
                    best = int(row.argmax())
                    writer.writerow(
                        [
                            pictures.name(i),
                            predictor.classes[target],
                            predictor.classes[best],
                            float(row[best]),
                            int(best == target),
                        ]
                    )
        except OSError as error:
            raise ConfigError(f"Writing {csv_file}: {error.strerror}.") from error
    if as_json:
        print_json({**result.to_json(), "model": str(predictor.file.path), "data": labelled.description})
        return 0
    click.echo(f"{predictor.file.path} on {labelled.description}")
    click.echo(f"accuracy {result.accuracy:.2%}   loss {result.loss:.4f}   {result.num_samples:,} pictures")
    for name, row in result.per_class.items():
        share = "      –" if row["accuracy"] is None else f"{row['accuracy']:7.2%}"
        click.echo(f"  {share}  {name}  ({row['num_samples']})")
    return 0
