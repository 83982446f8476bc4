"""The command line: one file a command, each a thin skin over a library call. Importing this loads no torch."""

from holdfast.cli.app import main

__all__ = ["main"]
