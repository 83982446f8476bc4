"""TensorBoard's event files, such that a resumed run's curve goes on where it was, with no step twice.

A killed run has written points beyond its newest checkpoint. At a resume the event files are rewritten without them,
rather than hidden by a purge mark that only TensorBoard itself understands.
"""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

_POINTS = 1000  # about as many as a screen shows


class Curves:
    """Scalar curves in `directory`.

    Args:
        directory: made when the first point is added.
        total_steps: of the training; decides how many steps lie between two points.
    """

    def __init__(self, directory: Path, total_steps: int) -> None:
        self._directory = directory
        self._every = max(1, total_steps // _POINTS)
        self._writer: SummaryWriter | None = None

    def wants(self, step: int) -> bool:
        """Returns whether the curve has a point at `step`: a function of the step, so every resume agrees."""
        return step % self._every == 0

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds one point to each curve."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._directory))
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hands everything to the operating system."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Closes the file; a later point opens another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def rewind(self, step: int) -> None:
        """Drops every point after `step` from the files, and every point that stands in them twice."""
        self.close()
        seen: set[tuple[str, int]] = set()
        for path in sorted(self._directory.glob("events.out.tfevents.*")):
            _drop_after(path, step, seen)


def _drop_after(path: Path, step: int, seen: set[tuple[str, int]]) -> None:
    """Rewrites one file without the points after `step` and those in `seen`; adds the others to `seen`."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.summary.writer.record_writer import RecordWriter

    kept: list[bytes] = []
    # The last record may be cut short by a kill; the loader stops before it, and so it is dropped too.
    for event in LegacyEventFileLoader(str(path)).Load():
        points = {(value.tag, event.step) for value in event.summary.value}
        # The end of an epoch is noted again when a kill came between its evaluation and the next save.
        if event.file_version or (event.step <= step and not (points and points <= seen)):
            kept.append(event.SerializeToString())
            seen |= points
    if not kept:
        path.unlink()
        return
    aside = path.with_name(".holdfast-rewound")  # TensorBoard reads whatever has `tfevents` in its name
    with aside.open("wb") as file:
        writer = RecordWriter(file)
        for record in kept:
            writer.write(record)
        writer.flush()
    aside.replace(path)
