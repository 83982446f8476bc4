"""`train`: from settings to a trained model. The same settings again take the run up where it stands."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.checkpoints import BEST_CLASSIFIER, CheckpointStore
from holdfast.config import Config, parse_save_every
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection
from holdfast.data.split import complete_sets
from holdfast.errors import ConfigError, RunError
from holdfast.models.registry import resolve_name
from holdfast.run import resume
from holdfast.run.best import BEST_FILE
from holdfast.run.build import Workbench, build, load_first_weights, set_up_torch
from holdfast.run.console import Console
from holdfast.run.curves import Curves
from holdfast.run.directory import RunDirectory, now
from holdfast.run.fingerprint import differences, fingerprint
from holdfast.run.finish import SUMMARY_FILE, finish, is_finished
from holdfast.run.fork import newest_of, take_over
from holdfast.run.journal import Journal
from holdfast.run.prepare import PreparedData, open_collection, prepare_again, prepare_new, split_digest
from holdfast.run.recipe import Choice, DataSummary, resolve, summarize
from holdfast.run.session import Session
from holdfast.run.signals import StopRequest


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        directory: the run directory.
        finished: whether all steps are done; if not, a signal stopped it after saving.
        exit_code: 0 when finished, 130 or 143 after a signal.
        step: steps made.
        summary: contents of summary.json, empty until finished.
    """

    directory: Path
    finished: bool
    exit_code: int
    step: int
    summary: dict[str, Any]


def train(
    config: Config,
    *,
    more_epochs: int | None = None,
    fork: str | None = None,
    force: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Trains, or goes on training, or says that the run is finished.

    Args:
        config: settings; those left None are chosen from the data.
        more_epochs: lengthen the run by this many.
        fork: go on from the newest checkpoint of the run in `config.out`, in this new folder.
        force: change the recipe of the run in place where that makes sense.
        console: whom to talk to.

    Raises:
        HoldfastError: of the kind that says what is wrong. The run's checkpoints are never harmed.
    """
    console = console or Console()
    parse_save_every(config.save_every)
    collection = open_collection(config)
    resolved, choices, summary = _resolve(config, collection)
    resolve_name(resolved.model or "")  # a misspelt model is said before anything is made
    out = Path(config.out or f"runs/{_stem(config.data)}-{_slug(resolved.model or '')}")
    source: Path | None = None
    if fork is not None:
        if more_epochs is not None:
            raise ConfigError(
                f"--epochs +{more_epochs} lengthens a run in place. With --fork, give the whole length: --epochs N."
            )
        if Path(fork).resolve() == out.resolve():
            raise ConfigError(f"--fork {fork} is the run itself. Name a new folder.")
        out, source = Path(fork), out
    _refuse_out_in_data(out, collection, config.data)
    with RunDirectory(out) as directory:
        # A run without a checkpoint has nothing to lose: it begins anew, under whatever recipe is asked for now.
        if directory.exists and CheckpointStore(directory.checkpoints).steps():
            resolved, data, notes = _take_up(config, resolved, more_epochs, collection, directory, force)
            device = set_up_torch(resolved)
            bench = build(resolved, data, summary, device)
            return _work(bench, directory, None, fingerprint(device, resolved.precision), notes, console)
        if more_epochs is not None:
            raise ConfigError(
                f"--epochs +{more_epochs} lengthens a run, and there is none in {out}. Give --epochs {more_epochs}."
            )
        _refuse_to_overwrite_model(directory)
        if source is not None:
            newest_of(source, console.warn)
        began = now()
        data = prepare_new(config, collection, directory, console)
        device = set_up_torch(resolved)
        _introduce(console, resolved, data, summary, choices)
        bench = build(resolved, data, summary, device)
        here = fingerprint(device, resolved.precision)
        first = {"asked": resume.asked_settings(config), "began": began, "split_digest": split_digest(directory)}
        data_print = data.collection.pictures.fingerprint()
        directory.begin(resolved, {**first, "data_fingerprint": data_print, "extensions": [], **here})
        return _work(bench, directory, source, here, [], console)


def _refuse_to_overwrite_model(directory: RunDirectory) -> None:
    """Raises RunError when a model is left of a run whose checkpoints are gone."""
    if (directory.path / BEST_FILE).exists():
        raise RunError(
            f"{directory.path} has a model ({BEST_FILE}) and no checkpoint any more. Training anew would overwrite it: "
            "put the checkpoints back, move the model away, or give another --out."
        )


def _refuse_out_in_data(out: Path, collection: Collection, data: str) -> None:
    """Raises ConfigError when the run would be written into the folder that the pictures are read from."""
    if not Path(data).is_dir() or not isinstance(collection.pictures, FilePictures):
        return
    if out.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(
            f"The run directory {out} lies in DATA ({data}), and nothing is ever written there. "
            "Start the command from another folder, or give another place with --out."
        )


def _work(
    bench: Workbench,
    directory: RunDirectory,
    source: Path | None,
    here: dict[str, Any],
    notes: list[str],
    console: Console,
) -> Outcome:
    config = bench.config
    store = CheckpointStore(directory.checkpoints, replace(BEST_CLASSIFIER, last=config.keep), console.warn)
    if is_finished(directory, store, bench.total_steps):
        return _say_finished(directory, bench, console)
    curves = Curves(directory.path / "tensorboard", bench.total_steps) if config.tensorboard else None
    journal = Journal(directory, curves, Path(config.trace_samples) if config.trace_samples else None)
    session = Session(bench, directory, store, journal, console)
    try:
        with StopRequest(console.warn) as stop:
            checkpoint = session.restore()
            if checkpoint is not None:
                _say_resumed(console, bench, directory, here, notes)
            elif source is not None:
                console.say(take_over(session, source))
            elif (report := load_first_weights(bench)) is not None:
                console.say(f"weights: {report}")
            trained = session.run(stop)
            summary = finish(session, stop) if trained else None
    finally:
        session.close()
    if summary is None:
        console.warn(
            f"stopped at step {bench.state.step:,} of {bench.total_steps:,}, saved. Run the same command to go on."
        )
        return Outcome(directory.path, False, stop.exit_code, bench.state.step, {})
    _say_done(console, directory, bench, summary)
    return Outcome(directory.path, True, 0, bench.state.step, summary)


def _resolve(config: Config, collection: Collection) -> tuple[Config, list[Choice], DataSummary]:
    sets = complete_sets(
        collection, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=config.seed
    )
    summary = summarize(collection.pictures, sets)
    return *resolve(config, summary), summary


def _take_up(
    config: Config,
    resolved: Config,
    more_epochs: int | None,
    collection: Collection,
    directory: RunDirectory,
    force: bool,
) -> tuple[Config, PreparedData, list[str]]:
    """Returns the settings an existing run goes on with, its data, and what to say. Raises when it may not go on."""
    stored, environment = directory.config(), directory.environment()
    changed = resume.recipe_differences(environment.get("asked"), stored, config, resolved)
    resume.refuse(changed, directory.path, forced=force)
    data = prepare_again(config, collection, directory)
    extensions: list[dict[str, Any]] = environment.get("extensions", [])
    finished = (directory.path / SUMMARY_FILE).exists()
    epochs = resume.target_epochs(stored.epochs or 0, finished, config.epochs, more_epochs, extensions)
    machine = {
        f: getattr(config, f)
        for f in ("device", "workers", "save_every", "keep", "log_every", "trace_samples", "tensorboard")
    }
    settings = stored.replace(**machine, **{d.setting: d.now for d in changed}, data=config.data, epochs=epochs)
    notes = [f"recipe changed by --force: {difference}" for difference in changed]
    if epochs != stored.epochs:
        extensions.append({"from": stored.epochs, "to": epochs, "more": more_epochs, "at": now()})
        notes.append(
            f"from {stored.epochs} to {epochs} epochs: the learning rate goes on where the curve of {epochs} "
            "epochs stands now"
        )
    if changed or epochs != stored.epochs:
        environment["extensions"] = extensions
        if changed:
            environment["asked"] = resume.asked_settings(config)
        (directory.path / SUMMARY_FILE).unlink(missing_ok=True)
        directory.begin(settings, environment)
    return settings, data, notes


def _introduce(
    console: Console, config: Config, data: PreparedData, summary: DataSummary, choices: list[Choice]
) -> None:
    sizes = ", ".join(f"{len(indices):,} {name}" for name, indices in data.sets.items())
    kind = "grey" if summary.channels == 1 else "colour"
    console.say(
        f"data: {config.data}, {len(data.classes)} classes, {kind} pictures of about {summary.short_side} px; {sizes}",
        "bold",
    )
    for notice in data.collection.notices:
        console.say(f"  note: {notice}")
    width = max((len(f"{c.setting} {c.value}") for c in choices), default=0)
    for choice in choices:
        console.say(f"  {f'{choice.setting} {choice.value}':<{width}}  {choice.reason}")


def _say_resumed(
    console: Console, bench: Workbench, directory: RunDirectory, here: dict[str, Any], notes: list[str]
) -> None:
    step, per_epoch = bench.state.step, bench.steps_per_epoch
    console.say(
        f"resuming {directory.path} from step {step:,} of {bench.total_steps:,} "
        f"(epoch {step // per_epoch + 1}, batch {step % per_epoch + 1} of {per_epoch})",
        "bold",
    )
    for note in notes:
        console.say(f"  {note}")
    if changed := differences(directory.environment(), here):
        console.warn(
            f"  not the machine it began on ({'; '.join(changed)}): it goes on, and its bits may differ from "
            "an uninterrupted run's"
        )
    if not bench.config.deterministic:
        console.warn("  deterministic algorithms are off: its bits may differ from an uninterrupted run's")


def _say_finished(directory: RunDirectory, bench: Workbench, console: Console) -> Outcome:
    summary = directory.read_json(SUMMARY_FILE)
    console.say(f"{directory.path} is finished: {bench.config.epochs} epochs, {_scores(summary)}.")
    console.say("Go on with --epochs +10, or start another with --out.")
    return Outcome(directory.path, True, 0, bench.total_steps, summary)


def _say_done(console: Console, directory: RunDirectory, bench: Workbench, summary: dict[str, Any]) -> None:
    path = shlex.quote(str(directory.path))
    pictures = bench.data.collection.pictures
    shown = int(bench.data.sets["val"][0])
    example = shlex.quote(str(pictures.path(shown))) if isinstance(pictures, FilePictures) else "PICTURE.png"
    console.say(f"\ndone: best epoch {summary['best_epoch']}, {_scores(summary)}", "bold green")
    console.say(
        f"  {path}/best.safetensors    the model: weights, classes, preprocessing\n"
        f"  {path}/predictions.csv     what it said of every val and test picture\n"
        f"  {path}/results.csv         one row an epoch\n"
        "next:\n"
        f"  holdfast predict {path} {example}\n"
        f"  holdfast val {path}\n"
        f"  holdfast inspect {path}\n"
        "  the same command with --epochs +10, to go on",
    )


def _scores(summary: dict[str, Any]) -> str:
    return ", ".join(f"{name} accuracy {summary[name]['accuracy']:.2%}" for name in ("val", "test") if name in summary)


def _stem(data: str) -> str:
    return _slug(Path(data).stem or Path(data).resolve().name or "data")


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip("-.") or "run"
