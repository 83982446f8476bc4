"""`holdfast average`."""

from __future__ import annotations

import click

from holdfast.cli.convert import TO
from holdfast.cli.options import json_option, print_result, traceback_option


@click.command("average")
@click.argument("files", nargs=-1, required=True, metavar="A B... OUT")
@click.option("--weights", metavar="W,W…", help="one number a file, such as 0.7,0.3; all the same by default")
@click.option("--role", metavar="R", help="which model of each file: model, ema, generator …")
@click.option("--to", type=TO, help="the kind to write, whatever the suffix of OUT")
@click.option("--shard-size", metavar="SIZE", help="2GB, 500MB: the most that one file of a sharded OUT holds")
@click.option("--keep-names", is_flag=True, help="keep the words of wrappers (module.) in the names")
@click.option("--force", is_flag=True, help="replace what is at OUT")
@json_option
@traceback_option
def command(
    files: tuple[str, ...],
    weights: str | None,
    role: str | None,
    to: str | None,
    shard_size: str | None,
    keep_names: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write the average of the weights of A, B … as OUT.

    A, B … are checkpoints of one model, of any program, or of runs (`runs/x@1200`); OUT is named as for convert. The
    mean is computed in float64 and has the types of the first file. Integer tensors (num_batches_tracked) are the first
    file's. Running statistics of batch norm are averaged like other tensors, which is approximate, and said. Files
    whose names, shapes or classes differ are refused. Optimizer states are left out.
    """
    from holdfast.toolbox import average

    *sources, out = files
    if not sources:
        raise click.UsageError("Missing OUT: expected two checkpoints or more, and the place for their average last.")
    if len(sources) == 1:
        raise click.UsageError("found one checkpoint and an OUT; expected two or more and OUT. Is OUT missing?")
    done = average(
        sources,
        out,
        weights=_numbers(weights),
        role=role,
        to=to,
        shard_size=shard_size,
        keep_names=keep_names,
        replace=force,
    )
    return print_result(done, as_json=as_json)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise click.UsageError(
            f"--weights {text}: expected numbers with commas between them, such as 0.7,0.3."
        ) from error
