"""`holdfast show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import (
    collection_options,
    flip_pairs_option,
    fold_option,
    json_option,
    opening,
    print_json,
    split_option,
    traceback_option,
)
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from holdfast.data.sample import Collection


@click.command("show")
@click.argument("data")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="grid.png",
    show_default=True,
    help="the PNG to write; never in DATA",
)
@click.option("--num", "-n", default=32, show_default=True, type=click.IntRange(1, 400), help="how many pictures")
@click.option("--set", "set_name", type=click.Choice(["train", "val", "test"]), help="from this set only")
@click.option("--augment", "--aug", help="show them as training would see them: shift, shift+flip, crop+flip, …")
@click.option(
    "--img-size",
    "--imgsz",
    type=click.IntRange(8, 1024),
    help="side of the network's input, pixels  [as `train` chooses it]",
)
@click.option("--seed", default=0, show_default=True, help="which pictures")
@click.option("--open", "open_it", is_flag=True, help="open it in a window")
@collection_options
@split_option
@fold_option
@flip_pairs_option
@json_option
@traceback_option
def command(
    data: str,
    out: Path,
    num: int,
    set_name: str | None,
    augment: str | None,
    img_size: int | None,
    seed: int,
    open_it: bool,
    split: str | None,
    fold: int | None,
    flip_pairs: str | None,
    as_json: bool,
    **reading: str | None,
) -> int:
    """Write a labelled grid of pictures of DATA as a PNG, points drawn, and say the shapes of a first batch."""
    from holdfast.data import open_data
    from holdfast.data.division.split_file import refuse_place_in_data, with_split
    from holdfast.data.looking.look import look_at
    from holdfast.data.notice import without
    from holdfast.data.targets import NAMES, describe, targets_of
    from holdfast.words import count

    collection = open_data(data, **opening(**reading))
    refuse_place_in_data(out, collection, data)
    collection = with_split(collection, split, fold)
    look = look_at(
        collection,
        num=num,
        set_name=set_name,
        augment=augment,
        img_size=img_size or _chosen_size(collection),
        seed=seed,
        flip_pairs=flip_pairs,
    )
    targets = targets_of(collection.pictures)
    _save(look.grid, out)
    if as_json:
        print_json(
            {
                "data": data,
                "file": str(out),
                "task": targets.task,
                "num_pictures": look.num_pictures,
                NAMES[targets.task]: targets.names,
                "first_shape": look.first_shape,
                "batch_shape": look.batch_shape,
            }
        )
    else:
        click.echo(f"{count(look.num_pictures, 'picture')}, {describe(targets)}: {', '.join(targets.names[:20])}")
        for notice in without(collection.notices, "flip-pairs") if flip_pairs else collection.notices:
            click.echo(f"note: {notice}")
        click.echo(str(look))
        click.echo(f"wrote {out}")
    if open_it:
        click.launch(str(out))
    return 0


def _chosen_size(collection: Collection) -> int:
    """Returns the side that `train` would choose for such pictures, pixels."""
    import numpy as np

    from holdfast.config import Config
    from holdfast.data.targets import targets_of
    from holdfast.run.recipe import resolve, summarize

    pictures = collection.pictures
    seen = summarize(pictures, {"train": collection.sets.get("train", np.arange(len(pictures)))})
    resolved, _ = resolve(Config(data=""), seen, targets_of(pictures).spec())
    return resolved.img_size or 224


def _save(grid: Image.Image, out: Path) -> None:
    try:
        grid.save(out)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"Writing {out}: {reason}.") from error
