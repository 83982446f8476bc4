"""Ants and bees, CIFAR and digits: train, resume, val and predict, with models of the zoo."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

QUICK = ("--epochs", "1", "--batch-size", "32", "--workers", "2", "--out", "run")


@pytest.fixture(scope="module")
def cifar(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty training and twenty test pictures of each CIFAR class, unpacked."""
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(real_data / "cifar10_subset/cifar10_subset.tar.gz") as archive:
        kept: dict[str, int] = {}
        for member in archive:
            folder = str(Path(member.name).parent)
            if member.isfile() and kept.get(folder, 0) < (40 if "/train/" in member.name else 20):
                kept[folder] = kept.get(folder, 0) + 1
                archive.extract(member, root, filter="data")
    return root / "cifar10_subset"


def _agree_to_the_bit(holdfast, data: Path, folder: Path) -> int:
    """Holds predictions.csv, `val --csv` and `predict --json` against each other; returns the number of pictures."""
    with (folder / "run/predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "val"]
    said = holdfast("val", "run", "--csv", "val.csv", "--json")
    assert said.code == 0, said.err
    with (folder / "val.csv").open() as file:
        by_val = {row["path"]: (row["predicted"], row["probability"]) for row in csv.DictReader(file)}
    assert by_val == {row["path"]: (row["predicted"], row["probability"]) for row in rows}
    # Asked for backwards and by themselves, so that batches differ from validation's.
    asked = [row["path"] for row in rows][::-1]
    by_predict = {}
    for chunk in (asked[:1], asked[1:]):
        predictions = json.loads(holdfast("predict", "run", *(data / path for path in chunk), "--json").out)
        by_predict |= {str(Path(p["path"]).relative_to(data)): (p["class"], str(p["probability"])) for p in predictions}
    assert by_predict == by_val
    figures = json.loads(said.out)
    assert figures["num_samples"] == len(rows)
    assert figures["accuracy"] == pytest.approx(sum(row["correct"] == "1" for row in rows) / len(rows))
    return len(rows)


@pytest.mark.row("M4", "U1", "U2", "D1")
@pytest.mark.parametrize("model", ["resnet18", "timm:resnet10t"])
def test_a_zoo_model_trains_and_val_equals_predict_to_the_bit(
    holdfast, real_data: Path, tmp_path: Path, model: str
) -> None:
    """Ants and bees with a torchvision and a timm model: train, finished, val = predict for every picture."""
    data = real_data / "hymenoptera_data"
    command = ("train", data, "--model", model, "--img-size", "64", *QUICK)
    said = holdfast(*command)
    assert said.code == 0, said.err
    assert "is finished" in holdfast(*command).out
    assert _agree_to_the_bit(holdfast, data, tmp_path) == 153


@pytest.mark.row("M1", "M4", "S10")
@pytest.mark.parametrize("model", ["cifar-net", "timm:resnet10t"])
def test_cifar_trains_resumes_and_val_equals_predict(holdfast, cifar: Path, tmp_path: Path, model: str) -> None:
    """CIFAR: two epochs in one go, and one by one, give the same weights; val = predict."""
    command = ("train", cifar, "--model", model, "--schedule", "constant", "--warmup-epochs", "0", "--batch-size", "32")
    assert holdfast(*command, "--epochs", "2", "--out", "run").code == 0
    assert holdfast(*command, "--epochs", "1", "--out", "parts", "--workers", "1").code == 0
    said = holdfast(*command, "--epochs", "2", "--out", "parts", "--workers", "0")
    assert said.code == 0 and "resuming parts from step" in said.out
    newest = max((tmp_path / "run/checkpoints").glob("step-*")).name
    weights = [(tmp_path / run / "checkpoints" / newest / "model.safetensors").read_bytes() for run in ("run", "parts")]
    assert weights[0] == weights[1]
    assert _agree_to_the_bit(holdfast, cifar, tmp_path) == 60


@pytest.mark.row("D4")
def test_the_test_set_is_touched_once_at_the_end(holdfast, cifar: Path, tmp_path: Path, monkeypatch) -> None:
    """While epochs go by, no picture of the test set is read; after the last, each is read once."""
    from holdfast.data.files import FilePictures

    read: list[str] = []
    original = FilePictures.open

    def note(self: FilePictures, index: int):
        read.append(self.name(index))
        return original(self, index)

    monkeypatch.setattr(FilePictures, "open", note)
    assert holdfast("train", cifar, "--epochs", "2", "--workers", "0", "--batch-size", "32", "--out", "run").code == 0
    touched = [place for place, name in enumerate(read) if name.startswith("test/")]
    assert len(touched) == len({read[place] for place in touched}) == 200
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["test"]["num_samples"] == 200 and summary["val"]["num_samples"] == 60


@pytest.mark.row("D7")
def test_show_writes_nothing_into_data(holdfast, picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by its default where one works in the folder of pictures, nor when asked."""
    before = sorted(picture_folder.rglob("*"))
    said = holdfast("show", picture_folder, "--out", picture_folder / "red" / "grid.png")
    assert said.code == 2 and "nothing is ever written there" in said.err
    monkeypatch.chdir(picture_folder)
    said = holdfast("show", ".")
    assert said.code == 2 and "grid.png lies in DATA (.)" in said.err
    assert sorted(picture_folder.rglob("*")) == before


@pytest.mark.row("D7")
def test_show_draws_a_labelled_grid(holdfast, real_data: Path, tmp_path: Path) -> None:
    """`show` writes a PNG of the pictures, plain and as training sees them, and says shapes."""
    said = holdfast("show", real_data / "hymenoptera_data", "--num", "12", "--out", "grid.png")
    assert said.code == 0 and "398 pictures, 2 classes: ants, bees" in said.out and "wrote grid.png" in said.out
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width == 8 * 132 + 4 and grid.height == 2 * 148 + 4
        assert len(grid.convert("RGB").getcolors(1 << 24) or []) > 1000
    said = holdfast("show", "digits", "--num", "4", "--out", "digits.png")
    assert "first batch: inputs [4, 1, 32, 32], targets [4]" in said.out  # as `train` brings them up
    said = holdfast("show", real_data / "hymenoptera_data", "--num", "8", "--augment", "crop+flip", "--out", "seen.png")
    assert said.code == 0 and "first batch: inputs [8, 3, 224, 224], targets [8]" in said.out
