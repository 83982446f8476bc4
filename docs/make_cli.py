"""Writes docs/cli.md: docs/cli-head.md, then the help texts. A test fails when the file has drifted.

python docs/make_cli.py
"""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.app import COMMANDS, cli

HEAD = Path(__file__).with_name("cli-head.md")


def render() -> str:
    """Returns the page."""
    context = click.Context(cli, info_name="holdfast", terminal_width=120, **cli.context_settings)
    sections = [f"## holdfast\n\n```\n{cli.get_help(context)}\n```\n"]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, max_content_width=120, terminal_width=120)
        sections.append(f"## holdfast {name}\n\n```\n{command.get_help(inner)}\n```\n")
        for below in command.commands.values() if isinstance(command, click.Group) else ():
            innermost = click.Context(
                below, parent=inner, info_name=below.name, max_content_width=120, terminal_width=120
            )
            sections.append(f"## holdfast {name} {below.name}\n\n```\n{below.get_help(innermost)}\n```\n")
    return HEAD.read_text(encoding="utf-8") + "\n" + "\n".join(sections)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(render(), encoding="utf-8")
