"""`holdfast split`."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import collection_options, json_option, opening, print_result, quiet_option, traceback_option
from holdfast.errors import ConfigError


@click.command("split")
@click.argument("data")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default="split.csv",
    show_default=True,
    help="the table to write; never in DATA",
)
@click.option("--val-fraction", type=float, help="share of each class for validation  [0.15]")
@click.option("--test-fraction", type=float, help="share of each class for the test  [0.15; 0 with --folds]")
@click.option("--folds", type=click.IntRange(2), help="divide the training pictures into N folds")
@click.option("--seed", default=0, show_default=True, help="another seed, another division")
@click.option("--group-by", metavar="COLUMN|REGEX", help="pictures of one group stay in one set; see below")
@click.option("--near-duplicates", is_flag=True, help="keep together also what looks the same (decodes every picture)")
@click.option("--pool", is_flag=True, help="divide all pictures anew, whatever sets DATA has")
@click.option("--force", is_flag=True, help="overwrite another split")
@collection_options
@json_option
@quiet_option
@traceback_option
def command(
    data: str,
    out: Path,
    val_fraction: float | None,
    test_fraction: float | None,
    folds: int | None,
    seed: int,
    group_by: str | None,
    near_duplicates: bool,
    pool: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    **reading: str | None,
) -> int:
    """Divide DATA into train, val and test, or into folds, and write the division as a table.

    Every class keeps its share in every set, and has one picture at least in each where it can. The same picture twice
    (byte for byte) is kept in one set; so are groups. Sets that DATA has are kept: only a missing val set is taken out
    of its train set. The same DATA and seed give the same table.

    --group-by takes a column of the CSV, or a regular expression that is searched for in each path: its first
    (parenthesis) names the group. 'patient' or 'p(\\d+)_'.

    `train`, `val` and `show` divide DATA so with --split FILE, and --fold K lets fold K validate. A split is never
    taken unasked. The columns are path, label, set, fold (with --folds), group, bytes, digest.
    """
    from holdfast.data import open_data
    from holdfast.run.console import Console
    from holdfast.run.split import split

    if folds is not None and val_fraction is not None:
        raise ConfigError("--folds and --val-fraction: with folds, one fold validates. Leave --val-fraction out.")
    collection = open_data(data, **opening(**reading))
    made = split(
        collection,
        data,
        out,
        val_fraction=0.15 if val_fraction is None else val_fraction,
        test_fraction=(0.0 if folds else 0.15) if test_fraction is None else test_fraction,
        folds=folds,
        seed=seed,
        group_by=group_by,
        near_duplicates=near_duplicates,
        pool=pool,
        force=force,
        console=Console(quiet=quiet, to_stderr=True),
    )
    return print_result(made, as_json=as_json) if as_json or not quiet else 0
