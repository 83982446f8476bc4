"""`holdfast cache`."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import json_option, print_json, quiet_option, traceback_option
from holdfast.errors import RunError


@click.command("cache")
@click.option("--clear", is_flag=True, help="delete what no running training uses")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="the folder; by default $HOLDFAST_CACHE/pictures")
@json_option
@quiet_option
@traceback_option
def command(clear: bool, cache_dir: Path | None, as_json: bool, quiet: bool) -> int:
    """List the decoded pictures that `train --cache disk` has kept, the longest unused first, or delete them.

    They lie in $HOLDFAST_CACHE/pictures, else in holdfast/pictures in $XDG_CACHE_HOME or ~/.cache, and are found by
    what their files held, how they were decoded and to what size. A run without them decodes anew, to the same
    bits. A full folder drops the longest unused by itself. Copies of remote runs, beside it, are left alone.
    """
    from holdfast.data.cache.choice import gigabytes
    from holdfast.data.cache.folder import age, clear_cache, default_cache_folder, list_cache
    from holdfast.words import count

    folder = cache_dir or default_cache_folder()
    try:
        deleted, files = clear_cache(folder) if clear else ([], list_cache(folder))
    except OSError as error:
        raise RunError(
            f"Clearing the cache in {folder}: {error.filename}: {error.strerror}. Make it writable, or delete it."
        ) from error
    if as_json:
        rows = [
            {
                "file": f.path.name,
                "num_pictures": f.num_pictures,
                "num_bytes": f.num_bytes,
                "in_use": f.in_use,
                "age_seconds": age(f),
            }
            for f in files
        ]
        print_json({"folder": str(folder), "deleted_bytes": sum(f.num_bytes for f in deleted), "files": rows})
        return 0
    for f in [] if quiet else files:
        used = "in use" if f.in_use else f"used {age(f) / 86400:,.1f} days ago"
        pictures = count(f.num_pictures, "picture")
        click.echo(f"{f.path.name}  {pictures:>18}  {gigabytes(f.num_bytes):>10}  {used}")
    if not quiet:
        if clear:
            click.echo(f"freed {gigabytes(sum(f.num_bytes for f in deleted))} in {folder}", err=True)
        held = gigabytes(sum(f.num_bytes for f in files)) if files else "nothing"
        click.echo(f"{folder} holds {held}", err=True)
    return 0
