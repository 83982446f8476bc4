"""The end of a run: the test set, touched once, with the best weights; every prediction; a summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from holdfast.checkpoints import CheckpointStore
from holdfast.data.sample import SetName
from holdfast.run.best import BEST_FILE, open_best
from holdfast.run.build import Workbench
from holdfast.run.directory import RunDirectory
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
    scores: dict[str, Any] = {
        name: {
            "accuracy": e.accuracy,
            "loss": e.loss,
            "num_samples": e.num_samples,
            "per_class": e.per_class(bench.data.classes),
        }
        for name, e in evaluations.items()
    }
    summary = {
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


def is_finished(directory: RunDirectory, store: CheckpointStore, total_steps: int) -> bool:
    """Returns whether the run has done all its steps and its end."""
    summary = directory.read_json(SUMMARY_FILE)
    return isinstance(summary, dict) and summary.get("steps") == total_steps and total_steps in store.steps()


def predictions_table(bench: Workbench, evaluations: Mapping[SetName, Evaluation]) -> str:
    """Returns CSV text: one row a picture: its set, label, prediction, and that class's probability in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "set", "label", "predicted", "probability", "correct"))
    pictures, classes = bench.data.collection.pictures, bench.data.classes
    for set_name, evaluation in evaluations.items():
        top = evaluation.probabilities.max(1)
        rows = zip(
            evaluation.indices.tolist(),
            evaluation.targets.tolist(),
            top.indices.tolist(),
            top.values.tolist(),
            strict=True,
        )
        for index, target, predicted, probability in rows:
            writer.writerow(
                (
                    pictures.name(index),
                    set_name,
                    classes[target],
                    classes[predicted],
                    probability,
                    int(target == predicted),
                )
            )
    return text.getvalue()


def _evaluate(bench: Workbench, set_name: SetName, stop: StopRequest) -> Evaluation | None:
    loader = bench.eval_loader(set_name)
    try:
        return evaluate(
            bench.state.model,
            loader,
            bench.state.loss_fn,
            precision=bench.state.precision,
            should_stop=lambda: bool(stop),
        )
    finally:
        loader.close()


def _say_what_is_lost(session: Session, best: int) -> None:
    """Warns when an epoch was better than the best that is there: its save failed."""
    rows = session.journal.history
    better = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"], -row["step"]), default=None)
    if better is not None and better["step"] != best and better["step"] in session.saves.lost:
        session.console.warn(
            f"epoch {better['epoch']:.0f} was better ({better['val_accuracy']:.2%}), and its save failed: the model is "
            f"that of step {best:,}"
        )
