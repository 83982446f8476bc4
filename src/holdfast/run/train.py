"""`train`: from settings to a trained model. The same settings again take the run up where it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.checkpoints import CheckpointStore
from holdfast.checkpoints.remote import is_url
from holdfast.config import Config, parse_duration, parse_save_every
from holdfast.data.answers import FIGURES
from holdfast.data.cache.choice import parse_size
from holdfast.data.files import FilePictures
from holdfast.data.sample import Collection
from holdfast.data.targets import targets_of
from holdfast.errors import ConfigError, RunError
from holdfast.models.registry import resolve_name
from holdfast.run import resume
from holdfast.run.best import BEST_FILE
from holdfast.run.build import Workbench, build, set_up_torch
from holdfast.run.caching import PictureCache, plan_cache
from holdfast.run.console import Console
from holdfast.run.curves import Curves
from holdfast.run.directory import RunDirectory, now
from holdfast.run.division import divide
from holdfast.run.fingerprint import fingerprint
from holdfast.run.finish import SUMMARY_FILE, finish, is_finished
from holdfast.run.first_weights import INIT_FILE, check_first_weights, load_first_weights, open_first_weights
from holdfast.run.fork import newest_of, take_over
from holdfast.run.journal import Journal
from holdfast.run.messages import introduce, say_done, say_finished, say_resumed, say_stopped
from holdfast.run.prepare import INDEX_FILE, PreparedData, open_collection, prepare_again, prepare_new, split_digest
from holdfast.run.recipe import Choice, DataSummary, preprocessing_for, resolve, summarize
from holdfast.run.remote_run import open_run
from holdfast.run.saves import Saves, keep_of
from holdfast.run.session import Session
from holdfast.run.signals import StopRequest
from holdfast.run.task import with_statistics


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        directory: the run directory, or its URL.
        finished: whether all steps are done; if not, a signal stopped it after saving.
        exit_code: 0 when finished, 130 or 143 after a signal.
        step: steps made.
        summary: contents of summary.json, empty until finished.
    """

    directory: Path | str
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
    _refuse_unreadable(config)
    collection = open_collection(config)
    resolved, choices, summary = _resolve(config, collection)
    resolve_name(resolved.model or "")  # a misspelt model is said before anything is made
    out, source = _places(config, resolved, fork, more_epochs)
    _refuse_what_cannot_begin(out, collection, config)
    with open_run(out, console.warn) as directory:
        console.log = directory.path / "log.txt"
        # A run without a checkpoint has nothing to lose: it begins anew, under whatever recipe is asked for now.
        if directory.exists and CheckpointStore(directory.checkpoints).steps():
            resolved, data, notes = _take_up(config, resolved, more_epochs, collection, directory, force)
            bench = _build_again(resolved, data, summary, directory)
            return _work(bench, directory, None, notes, console)
        if more_epochs is not None:
            raise ConfigError(
                f"--epochs +{more_epochs} lengthens a run, and there is none in {out}. Give --epochs {more_epochs}."
            )
        _refuse_to_overwrite_model(directory)
        if source is not None:
            newest_of(source, console.warn)
        began = now()
        data = prepare_new(config, collection, directory, console)
        # What cannot be read and copies are known only now, and choices go by the pictures that there are.
        resolved, choices, summary = _choose(config, collection, replace(summary, num_train=len(data.sets["train"])))
        resolved, device = with_statistics(resolved, data, preprocessing_for(resolved, summary)), set_up_torch(resolved)
        cache = _plan_cache(resolved, data, summary, directory)
        introduce(console, resolved, data, summary, [*choices, *cache.choices()])
        bench = build(resolved, data, summary, device, cache)
        first = {"asked": resume.asked_settings(config), "began": began, "split_digest": split_digest(directory)}
        forked = {"forked_from": str(source)} if source is not None else {}
        data_print = data.collection.pictures.fingerprint()
        directory.begin(resolved, {**first, "data_fingerprint": data_print, "extensions": [], **forked, **_here(bench)})
        return _work(bench, directory, source, [], console)


def _places(
    config: Config, resolved: Config, fork: str | None, more_epochs: int | None
) -> tuple[Path | str, Path | str | None]:
    """Returns where the run is written, and the run that it is forked from."""
    out = _place(config.out or f"runs/{_stem(config.data)}-{_slug(resolved.model or '')}")
    if fork is None:
        return out, None
    if more_epochs is not None:
        raise ConfigError(
            f"--epochs +{more_epochs} lengthens a run in place. With --fork, give the whole length: --epochs N."
        )
    if _whole(fork) == _whole(str(out)):
        raise ConfigError(f"--fork {fork} is the run itself. Name a new folder.")
    return _place(fork), out


def _here(bench: Workbench) -> dict[str, Any]:
    """Returns what this machine is, as far as bits depend on it."""
    return fingerprint(bench.state.device, bench.config.precision)


def _build_again(config: Config, data: PreparedData, summary: DataSummary, directory: RunDirectory) -> Workbench:
    return build(config, data, summary, set_up_torch(config), _plan_cache(config, data, summary, directory))


def _plan_cache(config: Config, data: PreparedData, summary: DataSummary, directory: RunDirectory) -> PictureCache:
    preprocessing = preprocessing_for(config, summary)
    return plan_cache(config, data.collection.pictures, data.sets, preprocessing, directory.path / INDEX_FILE)


def _refuse_to_overwrite_model(directory: RunDirectory) -> None:
    """Raises RunError when a model is left of a run whose checkpoints are gone."""
    if (directory.path / BEST_FILE).exists():
        raise RunError(
            f"{directory.path} has a model ({BEST_FILE}) and no checkpoint any more. Training anew would overwrite it: "
            "put the checkpoints back, move the model away, or give another --out."
        )


def _refuse_unreadable(config: Config) -> None:
    """Raises ConfigError for a setting of the saves or of --init that cannot be meant, before anything is made."""
    parse_save_every(config.save_every)
    keep_of(config)
    check_first_weights(config)
    parse_duration(config.grace, "grace")
    if config.time_budget:
        parse_duration(config.time_budget, "time_budget")
    if config.cache_size:
        parse_size(config.cache_size)


def _refuse_what_cannot_begin(out: Path | str, collection: Collection, config: Config) -> None:
    """Raises HoldfastError for an --out within the data, and for an --init that is none, before a folder is made."""
    _refuse_out_in_data(out, collection, config.data)
    if isinstance(out, Path) and not out.exists():
        open_first_weights(config)


def _refuse_out_in_data(out: Path | str, collection: Collection, data: str) -> None:
    """Raises ConfigError when the run would be written into the folder that the pictures are read from."""
    if isinstance(out, str) or not Path(data).is_dir() or not isinstance(collection.pictures, FilePictures):
        return
    if out.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError(
            f"The run directory {out} lies in DATA ({data}), and nothing is ever written there. "
            "Start the command from another folder, or give another place with --out."
        )


def _work(
    bench: Workbench,
    directory: RunDirectory,
    source: Path | str | None,
    notes: list[str],
    console: Console,
) -> Outcome:
    config = bench.config
    saves = Saves(bench, directory, console)
    if is_finished(directory, saves.store, bench.total_steps):
        summary = directory.read_json(SUMMARY_FILE)
        say_finished(directory, bench, console, summary)
        return Outcome(directory.place, True, 0, bench.total_steps, summary)
    if bench.cache.note:
        console.warn(bench.cache.note)
    curves = Curves(directory.path / "tensorboard", bench.total_steps) if config.tensorboard else None
    trace = Path(config.trace_samples) if config.trace_samples else None
    journal = Journal(directory, curves, trace, console.warn, FIGURES[bench.spec.task])
    session = Session(bench, directory, saves, journal, console)
    try:
        budget = parse_duration(config.time_budget, "time_budget") if config.time_budget else None
        with StopRequest(console.warn, budget, parse_duration(config.grace, "grace")) as stop:
            checkpoint = session.restore()
            if checkpoint is not None:
                say_resumed(console, bench, directory, _here(bench), notes)
            elif source is not None:
                console.say(take_over(session, source))
            elif (report := load_first_weights(bench)) is not None:
                console.say(f"weights: {report}")
                directory.write_json(INIT_FILE, report.to_json())
            trained = session.run(stop)
            summary = finish(session, stop) if trained else None
    finally:
        session.close()
    if summary is None:
        say_stopped(console, saves, bench)
        return Outcome(directory.place, False, stop.exit_code, bench.state.step, {})
    say_done(console, directory, bench, summary)
    return Outcome(directory.place, True, 0, bench.state.step, summary)


def _resolve(config: Config, collection: Collection) -> tuple[Config, list[Choice], DataSummary]:
    division, _ = divide(config, collection)
    return _choose(config, collection, summarize(collection.pictures, division.sets))


def _choose(config: Config, collection: Collection, summary: DataSummary) -> tuple[Config, list[Choice], DataSummary]:
    resolved, choices = resolve(config, summary, targets_of(collection.pictures).spec())
    keep_of(resolved)  # again: now it is known what is measured
    return resolved, choices, summary


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
        for f in (
            *("device", "workers", "cache", "cache_dir", "cache_size", "log_every", "trace_samples", "tensorboard"),
            *("save_every", "background_saves", "keep", "time_budget", "grace"),
        )
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


def _place(out: str) -> Path | str:
    """Returns the folder or URL that `--out` or `--fork` names."""
    return out.rstrip("/") if is_url(out) else Path(out.removeprefix("file://"))


def _whole(out: str) -> str:
    return str(place) if isinstance(place := _place(out), str) else str(place.resolve())


def _stem(data: str) -> str:
    return _slug(Path(data).stem or Path(data).resolve().name or "data")


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text).strip("-.") or "run"
