"""What a prediction of each task looks like, for programs, tables and people."""

from __future__ import annotations

import json

import pytest
import torch

from holdfast.data.targets import TASKS, TargetSpec
from holdfast.serve.predictions import columns_of, make_prediction

ANSWERS = {
    "classification": torch.tensor([0.25, 0.75]),
    "multilabel": torch.tensor([0.9, 0.3]),
    "regression": torch.tensor([1.5, -2.0]),
    "landmarks": torch.tensor([[1.0, 2.0], [-3.5, 4.0]]),
}
JSON = {
    "classification": {
        "path": "p", "class": "b", "index": 1, "probability": 0.75, "top": [{"class": "b", "probability": 0.75}],
    },
    "multilabel": {
        "path": "p", "labels": [{"label": "a", "probability": pytest.approx(0.9)}],
        "probabilities": {"a": pytest.approx(0.9), "b": pytest.approx(0.3)},
    },
    "regression": {"path": "p", "values": {"a": 1.5, "b": -2.0}},
    "landmarks": {
        "path": "p", "height": 20, "width": 30,
        "points": [{"name": "a", "x": 1.0, "y": 2.0}, {"name": "b", "x": -3.5, "y": 4.0}],
    },
}  # fmt: skip


@pytest.mark.row("U1", "D3")
@pytest.mark.parametrize("task", TASKS)
def test_json_line_and_cells_say_the_same(task: str) -> None:
    """JSON is as documented, a row has a cell for every column, and a line says something."""
    spec = TargetSpec(task, ("a", "b"))  # type: ignore[arg-type]
    prediction = make_prediction(spec, "p", ANSWERS[task], (20, 30), top_k=1, threshold=0.5)
    assert prediction.to_json() == JSON[task]
    json.dumps(prediction.to_json())
    assert len(prediction.cells()) == len(columns_of(spec))
    assert prediction.line()


@pytest.mark.row("U1")
def test_the_threshold_decides_which_labels_are_given() -> None:
    """Those that reach it, most probable first; none is said too."""
    spec = TargetSpec("multilabel", ("a", "b"))

    def line(threshold: float) -> str:
        answer = ANSWERS["multilabel"]
        return make_prediction(spec, "p", answer, (1, 1), top_k=5, threshold=threshold).line()

    assert (line(0.2), line(0.5), line(0.95)) == ("a 90.0%  b 30.0%", "a 90.0%", "no label reaches 95%")
