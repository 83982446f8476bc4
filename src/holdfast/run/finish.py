"""The end of a run: the test set, touched once, with the best weights; every prediction; a summary."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from holdfast.checkpoints import BEST_OF_RUN, CheckpointStore, Saved
from holdfast.data.answer_table import answer_header, answer_rows
from holdfast.data.answers import FIGURES, PER_NAME, figures_by_name, format_figure, in_own_terms
from holdfast.data.sample import SetName
from holdfast.data.targets import targets_of
from holdfast.run.best import BEST_FILE, open_best
from holdfast.run.build import Workbench
from holdfast.run.directory import RunDirectory
from holdfast.run.journal import metrics_of
from holdfast.run.session import Session
from holdfast.run.signals import StopRequest
from holdfast.training import Evaluation, evaluate

SUMMARY_FILE = "summary.json"


def finish(session: Session, stop: StopRequest) -> dict[str, Any] | None:
    """Evaluates the best checkpoint on val and test, writes predictions.csv and summary.json, returns the summary.

    The model of the session holds the best weights afterwards. None when `stop` was asked for before it was done; the
    next start does it again.
    """
    bench, directory, store = session.bench, session.directory, session.saves.store
    file = open_best(store, directory.path / BEST_FILE, session.console.warn)
    best = int(file.metadata["step"])
    bench.state.model.load_state_dict(file.tensors)
    _say_what_is_lost(session, best)
    names: tuple[SetName, ...] = ("val", "test")
    evaluations: dict[SetName, Evaluation] = {}
    for name in names:
        if name in bench.data.sets:
            evaluation = _evaluate(bench, name, stop)
            if evaluation is None:
                return None
            evaluations[name] = evaluation
    directory.write("predictions.csv", predictions_table(bench, evaluations))
    scores: dict[str, Any] = {name: scores_of(bench, evaluation) for name, evaluation in evaluations.items()}
    summary = {
        "task": bench.spec.task,
        "best_step": best,
        "best_epoch": best // bench.steps_per_epoch,
        "steps": bench.state.step,
        "epochs": bench.config.epochs,
        "num_train": len(bench.data.sets["train"]),
        **scores,
        "model_file": BEST_FILE,
    }
    directory.write_json(SUMMARY_FILE, summary)
    return summary


def predictions_table(bench: Workbench, evaluations: Mapping[SetName, Evaluation]) -> str:
    """Returns CSV text: one row a picture: its path, its set, and what the model said; see `answer_rows`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "set", *answer_header(bench.spec)))
    pictures = bench.data.collection.pictures
    for set_name, evaluation in evaluations.items():
        rows = answer_rows(*_answers(bench, evaluation), bench.spec)
        for index, cells in zip(evaluation.indices.tolist(), rows, strict=True):
            writer.writerow((pictures.name(index), set_name, *cells))
    return text.getvalue()


def _answers(bench: Workbench, evaluation: Evaluation) -> tuple[Tensor, Any]:
    """Returns what the model said of the pictures, and their targets."""
    targets = targets_of(bench.data.collection.pictures)
    indices = evaluation.indices.numpy()
    sizes = None if targets.sizes is None else targets.sizes[indices]
    answers = in_own_terms(evaluation.outputs, bench.spec, bench.preprocessing, sizes)
    return answers, targets.align(bench.spec.names, indices)


def scores_of(bench: Workbench, evaluation: Evaluation) -> dict[str, Any]:
    """Returns a set's metrics, by class, label, column or point too, as JSON values; null where one has no value."""
    spec = bench.spec
    by_name = figures_by_name(*_answers(bench, evaluation), spec)
    metrics = {name: value if math.isfinite(value) else None for name, value in evaluation.metrics.items()}
    return {
        **metrics,
        "loss": evaluation.loss,
        "num_samples": evaluation.num_samples,
        PER_NAME[spec.task]: by_name,
    }


def is_finished(directory: RunDirectory, store: CheckpointStore, total_steps: int) -> bool:
    """Returns whether the run has done all its steps and its end."""
    summary = directory.read_json(SUMMARY_FILE)
    return isinstance(summary, dict) and summary.get("steps") == total_steps and total_steps in store.steps()


def _evaluate(bench: Workbench, set_name: SetName, stop: StopRequest) -> Evaluation | None:
    loader = bench.eval_loader(set_name)
    try:
        return evaluate(
            bench.state.model,
            loader,
            bench.state.loss_fn,
            precision=bench.state.precision,
            should_stop=lambda: bool(stop),
            measure=bench.measure,
        )
    finally:
        loader.close()


def _say_what_is_lost(session: Session, best: int) -> None:
    """Warns when an epoch was better than the best that is there: its save failed."""
    rows = session.journal.history
    better = BEST_OF_RUN.best([Saved(int(row["step"]), metrics_of(row)) for row in rows])
    row = next((row for row in rows if row["step"] == better), None)
    if row is not None and better != best and better in session.saves.lost:
        name = FIGURES[session.bench.spec.task][0]
        session.console.warn(
            f"epoch {row['epoch']:.0f} was better ({format_figure(name, row.get(f'val_{name}'))}), and its save "
            f"failed: the model is that of step {best:,}"
        )
