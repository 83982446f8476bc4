"""What `train` says at its beginning, at a resume, and at its end."""

from __future__ import annotations

import shlex
from typing import Any

from holdfast.config import Config
from holdfast.data.answers import FIGURES, format_figure
from holdfast.data.files import FilePictures
from holdfast.data.notice import without
from holdfast.data.targets import describe, targets_of
from holdfast.run.build import Workbench
from holdfast.run.console import Console
from holdfast.run.directory import RunDirectory
from holdfast.run.fingerprint import differences
from holdfast.run.prepare import PreparedData
from holdfast.run.recipe import Choice, DataSummary
from holdfast.run.saves import Saves
from holdfast.words import count


def introduce(
    console: Console, config: Config, data: PreparedData, summary: DataSummary, choices: list[Choice]
) -> None:
    """Says what the data are, and what was chosen from them and why."""
    sizes = ", ".join(f"{len(indices):,} {name}" for name, indices in data.sets.items())
    kind = "grey" if summary.channels == 1 else "colour"
    targets = describe(targets_of(data.collection.pictures))
    console.say(
        f"data: {config.data}, {targets}, {kind} pictures of about {summary.short_side} px; {sizes}",
        "bold",
    )
    chosen = {choice.setting for choice in choices}
    notices = data.collection.notices
    for notice in notices if "flip_pairs" in chosen else without(notices, "flip-pairs"):  # what it asks for was given
        console.say(f"  note: {notice}")
    width = max((len(f"{c.setting} {c.value}") for c in choices), default=0)
    for choice in choices:
        console.say(f"  {f'{choice.setting} {choice.value}':<{width}}  {choice.reason}", margin=width + 4)


def say_resumed(
    console: Console, bench: Workbench, directory: RunDirectory, here: dict[str, Any], notes: list[str]
) -> None:
    """Says where the run is taken up, and what is not as it was."""
    step, per_epoch = bench.state.step, bench.steps_per_epoch
    console.say(
        f"resuming {directory.place} from step {step:,} of {bench.total_steps:,} "
        f"(epoch {step // per_epoch + 1}, batch {step % per_epoch + 1} of {per_epoch})",
        "bold",
    )
    for note in [*notes, *(f"{c.setting} {c.value}: {c.reason}" for c in bench.cache.choices())]:
        console.say(f"  {note}")
    if changed := differences(directory.environment(), here):
        console.warn(
            f"  not the machine it began on ({'; '.join(changed)}): it goes on, and its bits may differ from "
            "an uninterrupted run's"
        )
    if not bench.config.deterministic:
        console.warn("  deterministic algorithms are off: its bits may differ from an uninterrupted run's")


def say_stopped(console: Console, saves: Saves, bench: Workbench) -> None:
    """Says what is saved of a run that was stopped."""
    step, saved = bench.state.step, saves.durable_step
    where = f"at step {step:,} of {bench.total_steps:,}"
    if saved < 0:
        console.warn(f"stopped {where}, with nothing to save yet. Run the same command to begin again.")
    elif saved < step:
        console.warn(f"stopped {where}; step {saved:,} is saved. Run the same command to go on from there.")
    else:
        console.warn(f"stopped {where}, saved. Run the same command to go on.")


def say_finished(directory: RunDirectory, bench: Workbench, console: Console, summary: dict[str, Any]) -> None:
    """Says that there is nothing left to do."""
    epochs = count(bench.config.epochs or 0, "epoch")
    console.say(f"{directory.place} is finished: {epochs}, {_scores(summary)}.")
    console.say("Go on with --epochs +10, or start another with --out.")


def say_done(console: Console, directory: RunDirectory, bench: Workbench, summary: dict[str, Any]) -> None:
    """Says what came of the run, and where it lies."""
    path = shlex.quote(str(directory.place))
    pictures = bench.data.collection.pictures
    shown = int(bench.data.sets["val"][0])
    example = shlex.quote(str(pictures.path(shown))) if isinstance(pictures, FilePictures) else "PICTURE.png"
    looks = f"  holdfast val {path}\n  holdfast inspect {path}\n"
    if "://" in path:  # the copy that is fetched of one knows no DATA, and a look needs a file
        looks = f"  holdfast val {path} DATA\n"
    console.say(f"\ndone: best epoch {summary['best_epoch']}, {_scores(summary)}", "bold green")
    console.say(
        f"  {path}/best.safetensors    the model: weights, classes, preprocessing\n"
        f"  {path}/predictions.csv     what it said of every val and test picture\n"
        f"  {path}/results.csv         one row an epoch\n"
        "next:\n"
        f"  holdfast predict {path} {example}\n"
        f"{looks}"
        "  the same command with --epochs +10, to go on",
        wrap=False,
    )


def _scores(summary: dict[str, Any]) -> str:
    name = FIGURES[summary.get("task", "classification")][0]
    return ", ".join(f"{s} {name} {format_figure(name, summary[s][name])}" for s in ("val", "test") if s in summary)
