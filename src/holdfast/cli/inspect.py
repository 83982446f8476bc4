"""`holdfast inspect`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, traceback_option
from holdfast.cli.quick_look import show_report


@click.command("inspect")
@click.argument("file")
@click.option("--part", "--role", "part", metavar="NAME", help="only this part: model, ema, optimizer …")
@click.option("--depth", type=int, metavar="N", help="sum up by the first N words of the names: a line a module")
@json_option
@traceback_option
def command(file: str, part: str | None, depth: int | None, as_json: bool) -> int:
    """What is in FILE: a checkpoint of any program, or a run of ours (`runs/x`, `runs/x@best`, `runs/x@1200`).

    Names, types, shapes, numbers and bytes of its tensors, tied ones marked; the groups and slots of its optimizers;
    counters, arguments and schedules beside the weights; what wrote it, and the device it was saved from. Headers,
    manifests and pickles are read, tensors are not, and nothing in the file is run. On a terminal long names are
    shortened to fit; into a pipe and as JSON they are whole.
    """
    return show_report(file, part, depth, as_json=as_json)
