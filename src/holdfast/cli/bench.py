"""`holdfast bench`."""

from __future__ import annotations

import click

from holdfast.cli.options import device_option, json_option, print_json, traceback_option


@click.group("bench")
def command() -> None:
    """Measure what a training on this machine would wait for."""


@command.command("data")
@click.argument("data")
@click.option("--img-size", "--imgsz", type=click.IntRange(1, 4096), help="side of the network's input, pixels")
@click.option("--augment", "--aug", help="as in `train`: none, shift+flip, crop+flip, …")
@click.option("--decode-size", type=click.IntRange(0), help="as in `train`")
@click.option("--batch-size", "-b", type=click.IntRange(1), help="pictures a step")
@click.option("--workers", "-j", type=click.IntRange(0, 256), help="processes that prepare pictures  [one a core]")
@click.option("--num", "-n", type=click.IntRange(1), help="how many pictures  [enough for about 10 s]")
@click.option("--classes", help="class names in the order wanted, comma-separated")
@click.option("--image-dir", "--data-dir", help="what file names in a CSV are relative to")
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
    classes: str | None,
    image_dir: str | None,
    device: str,
    as_json: bool,
) -> int:
    """Say where the time of DATA's pictures goes, and what would help. Nothing is written.

    Some pictures, picked at random from the training set, go through what `train` would do to them, each step timed by
    itself in one process: reading (from the disk, where the system can be asked to forget the file first), decoding,
    resizing, each augmentation, the way to the main process, normalising. Figures are processor time; the disk, the
    hand-over and an accelerator go by the clock. Then the loader runs with --workers, with one more and one fewer. What
    is left open is chosen as `train` chooses it.
    """
    from holdfast.config import Config
    from holdfast.data.speed.advice import advise
    from holdfast.run.bench_data import bench_data

    timing = bench_data(
        Config(
            data=data,
            img_size=img_size,
            augment=augment,
            decode_size=decode_size,
            batch_size=batch_size,
            workers=workers,
            classes=[name.strip() for name in classes.split(",")] if classes else None,
            image_dir=image_dir,
            device=device,
        ),
        num,
        say=lambda text: click.echo(f"measuring {text} …", err=True),
    )
    advice = advise(timing)
    if as_json:
        print_json(timing.to_json(advice))
        return 0
    for line in timing.lines():
        click.echo(line)
    click.echo("")
    for line in advice:
        click.echo(f"• {line}")
    return 0
