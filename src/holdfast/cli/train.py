"""`holdfast train`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from holdfast.cli.early_signals import ending_at_once_on_signals
from holdfast.cli.options import json_option, print_json, quiet_option, setting_options, traceback_option
from holdfast.config import load_config
from holdfast.errors import ConfigError


@click.command("train")
@click.argument("data", required=False)
@setting_options
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), help="settings from a YAML file")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="any setting, also --set model_args.dropout=0.5"
)
@click.option(
    "--fork", metavar="NEW", help="go on from the newest checkpoint of the run in --out, in the new folder NEW"
)
@click.option("--force", is_flag=True, help="change the recipe of the run in place, where that makes sense")
@json_option
@quiet_option
@traceback_option
def command(
    data: str | None,
    data_flag: str | None,
    config_file: Path | None,
    assignments: tuple[str, ...],
    fork: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> int:
    """Train a model on DATA: to tell classes, or what --task says.

    DATA is a folder of class folders (or train/ and val/ folders of them), a CSV, a folder of IDX files, `digits`, or
    torchvision:NAME. It is only ever read. A CSV may also say points, several labels or numbers of each picture.

    The same command again takes the run up at the exact step where it stopped. What you leave open is chosen from
    the data, and said.
    """
    epochs = flags.pop("epochs", None)
    more = None
    if isinstance(epochs, str) and epochs.startswith("+"):
        if not epochs[1:].isdecimal() or int(epochs[1:]) < 1:
            raise ConfigError(f"--epochs {epochs}: expected a number of epochs, or +N for N more.")
        more, epochs = int(epochs[1:]), None
    config = load_config(
        config_file, flags={**flags, "data": data or data_flag, "epochs": epochs}, assignments=assignments
    )
    if not config.data:
        raise click.UsageError(
            "DATA is missing: a folder of class folders, a CSV, an IDX folder, `digits`, or torchvision:NAME."
        )

    # Until training begins there is nothing to save, and torch takes seconds to import.
    with ending_at_once_on_signals():
        from holdfast.run import train
        from holdfast.run.console import Console

        console = Console(quiet=quiet, to_stderr=as_json, plain=config.log_every is not None)
        # Libraries print too (torch.hub its downloads): with --json, stdout is for data alone.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            outcome = train(config, more_epochs=more, fork=fork, force=force, console=console)
    if as_json:
        print_json(
            {"run": str(outcome.directory), "finished": outcome.finished, "step": outcome.step, **outcome.summary}
        )
    return outcome.exit_code
