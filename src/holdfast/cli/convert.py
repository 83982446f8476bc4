"""`holdfast convert`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, print_result, traceback_option

TO = click.Choice(["safetensors", "sharded", "checkpoint", "pth", "npz"])


@click.command("convert")
@click.argument("file")
@click.argument("out")
@click.option("--to", type=TO, help="the kind to write, whatever the suffix of OUT")
@click.option("--role", metavar="R", help="which of several models: model, ema, generator …")
@click.option("--ema", is_flag=True, help="the same as --role ema")
@click.option("--like", metavar="OTHER", help="give it the names of OTHER, paired by name and shape")
@click.option("--partial", is_flag=True, help="with --like: write what fits, and say what does not")
@click.option("--rename", multiple=True, metavar="RULE", help="'regex=>replacement'; may be repeated")
@click.option("--keep-names", is_flag=True, help="keep the words of wrappers (module.) in the names")
@click.option(
    "--dtype", type=click.Choice(["float16", "bfloat16", "float32", "float64"]), help="cast all floating tensors to it"
)
@click.option("--allow-overflow", is_flag=True, help="with --dtype: write values too large for it as infinite")
@click.option("--strip-optimizer", is_flag=True, help="leave optimizer states out of a checkpoint")
@click.option("--shard-size", metavar="SIZE", help="2GB, 500MB: the most that one file of a sharded OUT holds")
@click.option("--force", is_flag=True, help="replace what is at OUT")
@json_option
@traceback_option
def command(
    file: str,
    out: str,
    to: str | None,
    role: str | None,
    ema: bool,
    like: str | None,
    partial: bool,
    rename: tuple[str, ...],
    keep_names: bool,
    dtype: str | None,
    allow_overflow: bool,
    strip_optimizer: bool,
    shard_size: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write FILE, a checkpoint of any program or a run (`runs/x@best`), as OUT.

    OUT's suffix says the kind: .safetensors, .npz, .pth (also .pt, .bin, .ckpt: a plain state dict for other tools); a
    name without a suffix is a checkpoint of ours, or with --shard-size a folder of safetensors shards with their index.
    Any other suffix that begins with a letter is refused, unless --to says the kind: `run.v1 --to checkpoint`.
    Without --dtype no bit of any value changes. Tied tensors stay tied in a checkpoint and a .pth, are written once and
    noted in the header in safetensors, and are repeated in .npz and in a model file of ours. Classes, preprocessing and
    metrics of a run go along into a checkpoint and a .safetensors, optimizer states into a checkpoint. OUT appears
    whole or not at all.
    """
    if ema and role not in (None, "ema"):
        raise click.UsageError(f"--ema and --role {role} contradict each other.")
    if partial and like is None:
        raise click.UsageError("--partial goes with --like.")
    if allow_overflow and dtype is None:
        raise click.UsageError("--allow-overflow goes with --dtype.")
    from holdfast.toolbox import convert

    done = convert(
        file,
        out,
        to=to,
        role="ema" if ema else role,
        like=like,
        partial=partial,
        rename=rename,
        keep_names=keep_names,
        dtype=dtype,
        allow_overflow=allow_overflow,
        strip_optimizer=strip_optimizer,
        shard_size=shard_size,
        replace=force,
    )
    return print_result(done, as_json=as_json)
