"""`holdfast models`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, print_json, traceback_option


@click.command("models")
@click.argument("pattern", default="")
@click.option("--show", metavar="NAME", help="names, shapes and counts of one model's parameters and buffers")
@click.option("--num-classes", default=10, show_default=True, help="for --show")
@click.option("--channels", default=3, show_default=True, help="for --show: 1 or 3")
@click.option("--img-size", "--imgsz", default=224, show_default=True, help="for --show, pixels")
@json_option
@traceback_option
def command(pattern: str, show: str | None, num_classes: int, channels: int, img_size: int, as_json: bool) -> int:
    """List the models whose name has PATTERN in it, or matches it (`*vit*small*`).

    Ours first, then torchvision's, then timm's. `timm:resnet18` is timm's where torchvision has one of that name.
    """
    from holdfast.models import build_model, list_models, summarize_model

    if show is not None:
        summary = summarize_model(build_model(show, num_classes, channels, img_size))
        if as_json:
            tensors = [
                {"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "kind": t.kind} for t in summary.tensors
            ]
            print_json(
                {
                    "name": show,
                    "num_parameters": summary.num_parameters,
                    "num_trained": summary.num_trained,
                    "num_buffer_values": summary.num_buffer_values,
                    "tensors": tensors,
                }
            )
            return 0
        width = max(len(t.name) for t in summary.tensors)
        for t in summary.tensors:
            click.echo(f"{t.name:<{width}}  {t.kind:<9}  {t.dtype:<8} {list(t.shape)!s:<20} {t.num_values:>12,}")
        click.echo(f"{summary.num_parameters:,} parameters, {summary.num_buffer_values:,} buffer values")
        return 0
    names = list_models(pattern)
    if as_json:
        print_json(names)
    else:
        for name in names:
            click.echo(name)
    if not names:
        click.echo(f"no model has {pattern!r} in its name", err=True)
        return 1
    return 0
