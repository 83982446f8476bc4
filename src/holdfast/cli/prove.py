"""`holdfast prove`."""

from __future__ import annotations

import click

from holdfast.cli.early_signals import ending_at_once_on_signals
from holdfast.cli.options import json_option, print_json, traceback_option


@click.command("prove")
@click.argument("run")
@click.option(
    "--from",
    "start",
    type=click.IntRange(min=0),
    metavar="STEP",
    help="begin from this step's checkpoint, or from 0; by default from the newest that a later one follows",
)
@click.option(
    "--steps", type=click.IntRange(min=2), metavar="N", help="how many; by default to the next checkpoint, 50 at most"
)
@click.option(
    "--workers",
    "-j",
    type=click.IntRange(min=0),
    metavar="N",
    help="processes that prepare pictures; by default the run's own number",
)
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps; by default the run's own")
@json_option
@traceback_option
def command(
    run: str, start: int | None, steps: int | None, workers: int | None, device: str | None, as_json: bool
) -> int:
    """Replay a stretch of RUN, interrupted and not, and compare the bits.

    Two processes go over the same steps again from a checkpoint of the run. One is saved and killed (SIGKILL) half-way,
    and a fresh one goes on, with another number of workers. After every step all tensors of model and optimizer are
    compared, and with the run's own checkpoints where there are some. The first difference is named, with its likely
    cause.

    RUN is only read, and may be in training meanwhile. Exit code 0: bit-exact. 4: not.
    """
    with ending_at_once_on_signals():
        from holdfast.run.console import Console
        from holdfast.run.prove import prove

    console = Console(to_stderr=as_json)
    proof = prove(run, start=start, steps=steps, workers=workers, device=device, console=console)
    if as_json:
        print_json(proof.to_json())
    else:
        *lines, verdict = proof.lines()
        for line in lines:
            console.say(line)
        console.say(verdict, "bold green" if proof.bit_exact else "bold red")
    return 0 if proof.bit_exact else 4
