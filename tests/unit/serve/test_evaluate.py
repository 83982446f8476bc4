from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from holdfast import ArrayPictures, Config, Predictor, train
from holdfast.data import read_folder
from holdfast.errors import ConfigError, DataError
from holdfast.run.console import Console
from holdfast.serve.evaluate import align_labels, score
from holdfast.serve.labelled import open_labelled


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs on three classes of small pictures."""
    root = tmp_path_factory.mktemp("trained")
    generator = np.random.default_rng(0)
    for label, name in enumerate(("blue", "green", "red")):
        (root / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 200, (20, 20, 3), dtype=np.uint8)
            pixels[..., 2 - label] //= 2
            Image.fromarray(pixels).save(root / "pictures" / name / f"{number}.png")
    settings = Config(data=str(root / "pictures"), out=str(root / "run"), epochs=2, workers=0, batch_size=7)
    train(settings, console=Console(quiet=True))
    return root / "run"


@pytest.mark.row("U2", "D4")
@pytest.mark.parametrize("set_name", ["val", "test"])
def test_the_runs_own_sets_score_as_the_run_reported(run: Path, set_name: str) -> None:
    """`val` on a run's set gives the accuracy, loss and per-class figures of its summary."""
    predictor = Predictor(str(run), "cpu")
    labelled = open_labelled(predictor, None, set_name)
    found = score(
        predictor,
        labelled.pictures,
        labelled.indices,
        align_labels(labelled.pictures, labelled.indices, predictor.classes),
    )
    reported = json.loads((run / "summary.json").read_text())[set_name]
    assert found.to_json() == {**reported, "loss": pytest.approx(reported["loss"], abs=1e-5)}
    assert found.num_samples == len(labelled.indices) == 6
    assert labelled.description.endswith(f"pictures ({set_name})")


@pytest.mark.row("U1", "U2")
def test_val_predict_and_the_runs_own_predictions_agree_to_the_bit(run: Path) -> None:
    """The probability of each picture is the same number in predictions.csv, from `val` and from `predict`."""
    predictor = Predictor(str(run / "best.safetensors"), "cpu")
    labelled = open_labelled(predictor, None, "val")
    targets = align_labels(labelled.pictures, labelled.indices, predictor.classes)
    by_val = score(predictor, labelled.pictures, labelled.indices, targets).answers.max(1)
    names = [labelled.pictures.name(int(i)) for i in labelled.indices]
    with (run / "predictions.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    by_predict = list(predictor.predict(run.parent / "pictures" / name for name in names))
    for name, value, index, prediction in zip(
        names, by_val.values.tolist(), by_val.indices.tolist(), by_predict, strict=True
    ):
        assert float(rows[name]["probability"]) == value == prediction.probability
        assert rows[name]["predicted"] == predictor.classes[index] == prediction.class_name


@pytest.mark.row("U2")
def test_the_figures_are_those_of_a_hand_computation(run: Path) -> None:
    """Accuracy, loss and the per-class table follow from the probabilities and targets."""
    predictor = Predictor(str(run), "cpu")
    pictures = read_folder(run.parent / "pictures").pictures
    indices = np.array([0, 5, 12, 13, 29])
    found = score(predictor, pictures, indices, torch.tensor([0, 0, 1, 1, 1]))
    p = found.answers
    assert p.shape == (5, 3)
    right = [int(row.argmax()) == k for row, k in zip(p, [0, 0, 1, 1, 1], strict=True)]
    assert found.metrics["accuracy"] == sum(right) / 5
    assert found.loss == pytest.approx(float(F.nll_loss(p.log(), found.targets)), abs=1e-6)
    assert found.by_name == {
        "blue": {"accuracy": sum(right[:2]) / 2, "num_samples": 2},
        "green": {"accuracy": pytest.approx(sum(right[2:]) / 3), "num_samples": 3},
        "red": {"accuracy": None, "num_samples": 0},
    }


@pytest.mark.row("U2")
def test_a_score_does_not_depend_on_which_pictures_are_asked_together(run: Path) -> None:
    """Each picture's probabilities are the same bits alone and among others."""
    predictor = Predictor(str(run), "cpu")
    pictures = read_folder(run.parent / "pictures").pictures
    targets = torch.from_numpy(pictures.labels)
    whole = score(predictor, pictures, np.arange(30), targets).answers
    part = score(predictor, pictures, np.array([25, 3]), targets[[25, 3]]).answers
    assert torch.equal(part, whole[[25, 3]])


def _pictures(classes: list[str], labels: list[int]) -> ArrayPictures:
    return ArrayPictures(np.zeros((len(labels), 4, 4), np.uint8), labels, classes)


@pytest.mark.row("U2", "D1")
def test_labels_are_matched_by_name_never_by_order() -> None:
    """A test set whose classes are in another order, or only some of the model's, is still scored rightly."""
    pictures = _pictures(["red", "blue"], [0, 1, 1, 0])
    aligned = align_labels(pictures, np.array([0, 1, 3]), ["blue", "green", "red"])
    assert aligned.tolist() == [2, 0, 2]


@pytest.mark.row("U2")
def test_a_class_the_model_does_not_know_fails_only_where_it_is_used() -> None:
    """Pictures of an unknown class are refused by name; a class without pictures is nobody's concern."""
    pictures = _pictures(["blue", "pink"], [0, 0, 1])
    assert align_labels(pictures, np.array([0, 1]), ["green", "blue"]).tolist() == [1, 1]
    with pytest.raises(DataError, match=r"does not know the class pink; it knows green, blue\."):
        align_labels(pictures, np.array([0, 2]), ["green", "blue"])


@pytest.mark.row("U2")
def test_other_data_is_scored_whole_or_by_its_own_set(run: Path, tmp_path: Path) -> None:
    """Undivided data is taken whole; of divided data the val set, before the test set."""
    predictor = Predictor(str(run), "cpu")
    source = run.parent / "pictures"
    undivided = open_labelled(predictor, str(source), None)
    assert len(undivided.indices) == 30 and undivided.description == str(source)
    (tmp_path / "divided").mkdir()
    (tmp_path / "divided" / "train").symlink_to(source)
    (tmp_path / "divided" / "test").symlink_to(source)
    divided = open_labelled(predictor, str(tmp_path / "divided"), None)
    assert len(divided.indices) == 30 and divided.description.endswith("(test)")
    assert len(open_labelled(predictor, str(tmp_path / "divided"), "all").indices) == 60


def test_a_set_that_is_not_there_fails(run: Path) -> None:
    """The refusal says which sets there are."""
    with pytest.raises(ConfigError, match=r"has no test set\. It has: no sets; take --set all"):
        open_labelled(Predictor(str(run), "cpu"), str(run.parent / "pictures"), "test")


def test_without_data_a_model_of_no_run_fails(run: Path, tmp_path: Path) -> None:
    """A file that was handed on knows no data of its own."""
    (tmp_path / "handed-on.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"handed-on\.safetensors belongs to no run here; give the labelled pictures"):
        open_labelled(Predictor(str(tmp_path / "handed-on.safetensors"), "cpu"), None, None)


def test_the_runs_data_that_changed_since_fails(run: Path) -> None:
    """With a picture more than the run knew, its sets cannot be trusted, and it says so."""
    extra = run.parent / "pictures" / "red" / "extra.png"
    Image.new("RGB", (20, 20)).save(extra)
    try:
        with pytest.raises(DataError, match=r"are not those of the run in .*run any more"):
            open_labelled(Predictor(str(run), "cpu"), None, None)
    finally:
        extra.unlink()
