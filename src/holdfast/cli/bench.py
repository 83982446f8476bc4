"""`holdfast bench`."""

from __future__ import annotations

import click

from holdfast.cli.options import (
    collection_options,
    device_option,
    flip_pairs_option,
    json_option,
    opening,
    print_json,
    traceback_option,
)


@click.group("bench")
def command() -> None:
    """Measure what a training on this machine would wait for."""


@command.command("data")
@click.argument("data")
@click.option("--img-size", "--imgsz", type=click.IntRange(1, 4096), help="side of the network's input, pixels")
@click.option("--augment", "--aug", help="as in `train`: none, shift+flip, crop+flip, affine+color, …")
@click.option("--decode-size", type=click.IntRange(0), help="as in `train`")
@click.option("--batch-size", "-b", type=click.IntRange(1), help="pictures a step")
@click.option("--workers", "-j", type=click.IntRange(0, 256), help="processes that prepare pictures  [one a core]")
@click.option("--num", "-n", type=click.IntRange(1), help="how many pictures  [enough for about 10 s]")
@collection_options
@flip_pairs_option
@device_option
@json_option
@traceback_option
def bench_data_command(
    data: str,
    img_size: int | None,
    augment: str | None,
    decode_size: int | None,
    batch_size: int | None,
    workers: int | None,
    num: int | None,
    flip_pairs: str | None,
    device: str,
    as_json: bool,
    **reading: str | None,
) -> int:
    """Say where the time of DATA's pictures goes, and what would help. Nothing is written.

    Some pictures, picked at random from the training set, go through what `train` would do to them, each step timed by
    itself in one process: reading (from the disk, where the system can be asked to forget the file first), decoding,
    resizing, each augmentation, normalising, the way to the main process; on an accelerator the last steps are done
    there. Figures are processor time; the disk, the hand-over and an accelerator go by the clock. Then the loader runs
    with --workers, with one more and one fewer. What is left open is chosen as `train` chooses it.

    A CSV may also say points, several labels or numbers of each picture: they are read as `train --task` reads them.
    Points go through every step with their picture.
    """
    from holdfast.cli.quick_look import terminal_width
    from holdfast.config import Config
    from holdfast.data.speed.advice import advise
    from holdfast.run.bench_data import bench_data
    from holdfast.words import wrapped

    timing = bench_data(
        Config(
            data=data,
            img_size=img_size,
            augment=augment,
            decode_size=decode_size,
            batch_size=batch_size,
            workers=workers,
            flip_pairs=flip_pairs,
            device=device,
            **opening(**reading),
        ),
        num,
        say=lambda text: click.echo(f"measuring {text} …", err=True),
    )
    advice = advise(timing)
    if as_json:
        print_json(timing.to_json(advice))
        return 0
    width = terminal_width()
    for line in [*timing.lines(), "", *(f"• {line}" for line in advice)]:
        click.echo(wrapped(line, width, margin=2) if width else line)
    return 0
