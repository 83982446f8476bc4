"""`holdfast diff`."""

from __future__ import annotations

import click

from holdfast.cli.options import json_option, print_json, traceback_option
from holdfast.cli.quick_look import terminal_width


@click.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--role", metavar="R", help="only this model of both; R=S compares R of A with S of B")
@click.option(
    "--rtol", type=float, default=0.0, show_default=True, help="floating values may differ by atol + rtol*|b|"
)
@click.option("--atol", type=float, default=0.0, show_default=True, help="see --rtol")
@click.option("--weights-only", is_flag=True, help="leave optimizers, schedules and facts aside")
@click.option("--match", is_flag=True, help="find partners by name and shape where names differ")
@click.option("--keep-names", is_flag=True, help="compare the file's own names, with the words of wrappers")
@json_option
@traceback_option
def command(
    a: str,
    b: str,
    role: str | None,
    rtol: float,
    atol: float,
    weights_only: bool,
    match: bool,
    keep_names: bool,
    as_json: bool,
) -> int:
    """How checkpoint B differs from checkpoint A; each may be of any program, or a run (`runs/x@best`).

    Every tensor by name: missing, extra, of another shape or type, and by how much its values differ at most, absolute
    and relative, with the cosine of the two. By default a single bit is a difference; integers are compared exactly in
    any case, and NaN equals NaN. The states of optimizers and the facts beside the weights are compared too. Exit code
    0: nothing differs. 4: something does. Two tensors are in memory at a time.
    """
    from holdfast.toolbox import diff

    found = diff(
        a,
        b,
        role=role,
        rtol=rtol,
        atol=atol,
        weights_only=weights_only,
        match=match,
        names="file" if keep_names else "plain",
    )
    if as_json:
        print_json(found.to_json())
    else:
        for line in found.lines(terminal_width()):
            click.echo(line)
    return 0 if found.equal else 4
