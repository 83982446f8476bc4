"""What a person sees: a progress bar on a terminal, plain lines elsewhere. Data for programs goes elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from holdfast.words import wrapped


class Console:
    """Talk to the user.

    Args:
        quiet: only what went wrong.
        to_stderr: leave stdout to data (`--json`).
        plain: no bar, no colours, even on a terminal.
    """

    def __init__(self, *, quiet: bool = False, to_stderr: bool = False, plain: bool = False) -> None:
        self.stream: TextIO = sys.stderr if to_stderr else sys.stdout
        self.quiet = quiet
        self.is_terminal = self.stream.isatty() and not plain
        self._rich = RichConsole(file=self.stream, highlight=False, soft_wrap=True, no_color=not self.is_terminal)
        self._is_cut_off = False  # by a disk or a terminal; said once
        self.log: Path | None = None  # a file that keeps every message, with its time, for later

    def say(self, text: str = "", style: str | None = None, *, wrap: bool = True, margin: int | None = None) -> None:
        """Prints one message, unbuffered; nothing when quiet.

        Args:
            wrap: False for what is there to be copied.
            margin: columns that stay empty below the first line, where it is too long for the terminal.
        """
        self._keep(text)
        if not self.quiet:
            self._print(self._fitted(text, margin) if wrap else text, style)

    def warn(self, text: str) -> None:
        """Prints one message that is shown even when quiet."""
        self._keep(text)
        self._print(self._fitted(text), "yellow")

    def line(self, text: str) -> None:
        """Prints a line for scripts, plain and unbuffered, quiet or not."""
        with self._going_on():
            print(text, file=self.stream, flush=True)

    def progress(self, label: str, total: int, done: int = 0, unit: str = "step") -> ProgressLine:
        """Returns a bar to use in a `with` block; where there is no terminal it shows nothing."""
        return ProgressLine(self._rich if self.is_terminal and not self.quiet else None, label, total, done, unit)

    def _fitted(self, text: str, margin: int | None = None) -> str:
        """Returns text broken between words where a terminal would break it anywhere."""
        return wrapped(text, self._rich.width, margin) if self.is_terminal else text

    def _print(self, text: str, style: str | None) -> None:
        with self._going_on():
            self._rich.print(text, style=style if self.is_terminal else None, markup=False)
            self.stream.flush()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Within it, a full disk behind stdout, or a terminal that is gone, is told once and ends no training."""
        try:
            yield
        except BrokenPipeError:  # whoever read it wants no more
            raise
        except OSError as error:
            if not self._is_cut_off:
                self._is_cut_off = True
                text = f"Printing: {error.strerror}. Going on without; a run's log.txt keeps what is said."
                self._keep(text)
                with contextlib.suppress(OSError):
                    print(text, file=sys.stderr, flush=True)

    def _keep(self, text: str) -> None:
        if self.log is not None and text:
            # A full disk is said on the terminal; the log is for whoever was not looking.
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as log:
                log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}  {text.strip()}\n")


class ProgressLine:
    """One bar: label, rate, time left and a text of the moment. Redraws ten times a second at most."""

    def __init__(self, console: RichConsole | None, label: str, total: int, done: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._start, self._first = time.monotonic(), done
        self._progress: Progress | None = None
        self._task = TaskID(0)
        if console is not None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(24),
                TextColumn(f"{{task.completed:,.0f}}/{{task.total:,.0f}} {unit}s"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[text]}"),
            )
            self._progress = Progress(*columns, console=console, transient=True)
            self._task = self._progress.add_task(label, total=total, completed=done, rate="", text="")

    def __enter__(self) -> ProgressLine:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def is_shown(self) -> bool:
        """Whether anybody sees it; if not, do not compute its text."""
        return self._progress is not None

    def begin(self, total: int) -> Callable[[int], None]:
        """Sets the length of a bar whose length was not known; returns `update`."""
        self._total = total
        if self._progress is not None:
            self._progress.update(self._task, total=total)
        return self.update

    def update(self, done: int, text: str = "") -> None:
        """Moves the bar to `done`."""
        if self._progress is not None:
            seconds = time.monotonic() - self._start
            rate = f"{(done - self._first) / seconds:.1f}/s" if seconds > 0.5 else ""
            self._progress.update(self._task, completed=done, rate=rate, text=text)
