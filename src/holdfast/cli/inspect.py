"""`holdfast inspect`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, print_json, traceback_option


@click.command("inspect")
@click.argument("file")
@click.option("--part", help="only this part: model, optimizer …")
@json_option
@traceback_option
def command(file: str, part: str | None, as_json: bool) -> int:
    """Names, types, shapes and counts in FILE: a run, a checkpoint directory, or a .safetensors file.

    Nothing is loaded into a model; headers and manifests are read, tensors are not.
    """
    from holdfast.checkpoints.inspect import inspect_path

    report = inspect_path(file)
    if as_json:
        print_json(report.to_json(part))
        return 0
    for line in report.lines(part):
        click.echo(line)
    return 0
