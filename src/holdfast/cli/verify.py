"""`holdfast verify`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, print_json, quiet_option, traceback_option
from holdfast.cli.quick_look import terminal_width
from holdfast.words import wrapped


@click.command("verify")
@click.argument("path")
@json_option
@quiet_option
@traceback_option
def command(path: str, as_json: bool, quiet: bool) -> int:
    """Prove every byte of PATH: a run (all its checkpoints and best.safetensors; `runs/x@last`, `@best` or `@1200` for
    one), a folder of checkpoints, a checkpoint directory, or any checkpoint of others.

    Every file is read and compared with the digests that were taken when it was saved; nothing is written, moved or
    run. What torch.save wrote carries a checksum for each tensor; safetensors files of others and old layouts carry
    none. Exit code 0: all of it is proven. 4: something is damaged, is of a newer format, or cannot be proven; a run
    without a checkpoint has nothing to prove. A run's tables and settings carry no digests and are not looked at.
    """
    from holdfast.toolbox import verify

    result = verify(path, lambda finding: None if as_json or (quiet and finding.ok) else _show(finding.line()))
    if as_json:
        print_json(result.to_json())
        return 0 if result.ok else 4
    for aside in [] if quiet else result.set_aside:
        click.echo(f"{aside.path.name}  not checked  {aside.what}", err=True)
    findings = [*result.checkpoints, *result.files]
    proven = sum(finding.ok for finding in findings)
    if result.problem:
        click.echo(f"{path}: {result.problem}", err=True)
    elif not quiet:
        click.echo(f"{path}: {proven} of {len(findings)} proven", err=True)
    return 0 if result.ok else 4


def _show(line: str) -> None:
    """Prints a line of data: whole, but broken between words where a terminal would break it anywhere."""
    width = terminal_width()
    click.echo(wrapped(line, width) if width else line)
