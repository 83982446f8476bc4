from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from holdfast.checkpoints import write_single_file
from holdfast.data.decoding.decode import decode_image
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform
from holdfast.errors import CheckpointError, CheckpointMismatch
from holdfast.models import Architecture
from holdfast.serve import Prediction, Predictor, Unreadable
from holdfast.serve.predictor import find_images

CLASSES = ["blue", "green", "red"]
PREPROCESSING = Preprocessing(24, 28, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def _write(path: Path, **changes: Any) -> str:
    """Writes a model file of a net with random weights; `changes` replace entries of its metadata."""
    torch.manual_seed(0)
    architecture = Architecture("cifar-net", 3, 3, 24, {"width": 6})
    metadata = {
        "architecture": architecture.to_json(), "classes": CLASSES, "preprocessing": PREPROCESSING.to_json(),
        "precision": "fp32", **changes,
    }  # fmt: skip
    tensors = {name: tensor.detach() for name, tensor in architecture.build().state_dict().items()}
    write_single_file(path, tensors, {k: v for k, v in metadata.items() if v is not None})
    return str(path)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    """A predictor from a file."""
    return Predictor(_write(tmp_path / "best.safetensors"), "cpu")


@pytest.mark.row("U1")
def test_the_probabilities_are_those_of_a_bare_forward_pass(predictor: Predictor, picture_folder: Path) -> None:
    """Decode, the preprocessing in the file, the model, softmax: a few lines by hand give the same numbers."""
    path = picture_folder / "red" / "3.jpg"
    (found,) = predictor.predict([path])
    assert isinstance(found, Prediction)
    with torch.no_grad():
        logits = predictor.model.eval()(eval_transform(PREPROCESSING)(decode_image(path))[None])
    by_hand = F.softmax(logits, 1)[0]
    assert found.index == int(by_hand.argmax())
    assert found.class_name == CLASSES[found.index]
    torch.testing.assert_close(dict(found.top), {name: float(p) for name, p in zip(CLASSES, by_hand, strict=True)})
    assert [p for _, p in found.top] == sorted((p for _, p in found.top), reverse=True)
    assert sum(p for _, p in found.top) == pytest.approx(1, abs=1e-6)


@pytest.mark.row("U1")
def test_one_many_or_a_folder_say_the_same_to_the_bit(predictor: Predictor, picture_folder: Path) -> None:
    """What is said of a picture does not depend on the others, their number or their order."""
    paths = find_images([str(picture_folder)])
    assert len(paths) == 24
    together = list(predictor.predict(paths))
    assert [r.path for r in together] == paths
    assert [next(predictor.predict([path])) for path in paths] == together
    assert list(predictor.predict(reversed(paths))) == together[::-1]


@pytest.mark.row("U1")
def test_pictures_are_taken_one_chunk_at_a_time(predictor: Predictor, picture_folder: Path) -> None:
    """An endless source of paths is predicted as it comes."""
    path = picture_folder / "blue" / "0.jpg"
    results = predictor.predict(iter(lambda: path, None))
    assert len({next(results).probability for _ in range(40)}) == 1


@pytest.mark.row("U1")
def test_a_picture_that_cannot_be_read_is_a_result_in_its_place(predictor: Predictor, picture_folder: Path) -> None:
    """The others are done, in order, with the bits they have without it; the broken one has its reason."""
    good = [picture_folder / "red" / "0.jpg", picture_folder / "blue" / "0.jpg"]
    broken = picture_folder / "red" / "broken.jpg"
    broken.write_bytes(b"no picture")
    found = list(predictor.predict([good[0], broken, picture_folder / "missing.jpg", good[1]]))
    assert [type(r) for r in found] == [Prediction, Unreadable, Unreadable, Prediction]
    assert [found[0], found[3]] == list(predictor.predict(good))
    assert isinstance(found[1], Unreadable) and "broken.jpg" in found[1].error
    assert found[1].to_json() == {"path": str(broken), "error": found[1].error}
    assert all(isinstance(r, Unreadable) for r in predictor.predict([broken]))


@pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k_is_how_many_classes_are_named(
    predictor: Predictor, picture_folder: Path, top_k: int, expected: int
) -> None:
    """As many as asked for, and never more than there are."""
    (found,) = predictor.predict([picture_folder / "red" / "0.jpg"], top_k)
    assert isinstance(found, Prediction) and len(found.top) == expected


@pytest.mark.row("U1")
def test_json_has_the_documented_form(predictor: Predictor, picture_folder: Path) -> None:
    """path, class, index, probability, and the top list of class and probability."""
    (found,) = predictor.predict([picture_folder / "red" / "0.jpg"], 2)
    table = found.to_json()
    assert list(table) == ["path", "class", "index", "probability", "top"]
    assert table["top"][0] == {"class": table["class"], "probability": table["probability"]}
    assert CLASSES[table["index"]] == table["class"]


@pytest.mark.row("M6")
def test_the_model_is_in_eval_mode_and_needs_no_gradient(predictor: Predictor) -> None:
    """A predictor is for inference."""
    assert not predictor.model.training
    assert not predictor.probabilities(torch.zeros(2, 3, 24, 24)).requires_grad


def test_predicting_leaves_torchs_threads_alone(predictor: Predictor, picture_folder: Path) -> None:
    """Transforms run on one thread; afterwards there are as many as before."""
    torch.set_num_threads(2)
    list(predictor.predict([picture_folder / "red" / "0.jpg"]))
    assert torch.get_num_threads() == 2


@pytest.mark.row("U1")
def test_real_photographs(predictor: Predictor, real_data: Path) -> None:
    """Real photographs of many sizes, a palette GIF and a name with a space among them, are all predicted."""
    paths = find_images([str(real_data / "hymenoptera_data" / "train" / "ants")])[-12:]
    odd = [p for p in find_images([str(real_data / "hymenoptera_data")]) if " " in Path(p).name or p.endswith(".gif")]
    found = list(predictor.predict([*paths, *odd]))
    assert len(odd) >= 2
    assert all(isinstance(r, Prediction) for r in found)


@pytest.mark.parametrize("missing", ["architecture", "classes", "preprocessing"])
def test_fails_when_the_file_does_not_say_what_it_is(tmp_path: Path, missing: str) -> None:
    """Weights without their description are refused with what is missing."""
    with pytest.raises(CheckpointError, match=rf"m\.safetensors does not carry {missing}: it was saved by a loop"):
        Predictor(_write(tmp_path / "m.safetensors", **{missing: None}), "cpu")


def test_fails_when_the_model_as_built_here_is_another(tmp_path: Path) -> None:
    """Weights that do not fit the model of that name are refused with the names that differ."""
    other = Architecture("cifar-net", 3, 3, 24, {"width": 8}).to_json()
    with pytest.raises(
        CheckpointMismatch, match=r"cifar-net as built here does not fit .*\(conv1\.bias, conv1\.weight"
    ):
        Predictor(_write(tmp_path / "m.safetensors", architecture=other), "cpu")


def test_find_images_takes_files_folders_and_globs(tmp_path: Path) -> None:
    """Folders are searched at any depth for pictures only, in natural order; what is named is taken as it is."""
    for name in ("b/10.png", "b/9.png", "b/deep/1.JPG", "b/notes.txt", "a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name, "PNG")
    folder = str(tmp_path / "b")
    assert find_images([folder]) == [f"{folder}/9.png", f"{folder}/10.png", f"{folder}/deep/1.JPG"]
    assert find_images([f"{folder}/*.png"]) == [f"{folder}/9.png", f"{folder}/10.png"]
    assert find_images([f"{folder}/notes.txt", "missing.png"]) == [f"{folder}/notes.txt", "missing.png"]


def test_an_argument_that_names_no_picture_stands_for_itself(tmp_path: Path) -> None:
    """An empty folder and a glob that matches nothing do not stop the others; reading them says what is wrong."""
    for argument in (str(tmp_path), str(tmp_path / "*.png")):
        assert find_images([argument]) == [argument]


def test_what_only_looks_like_a_picture_in_a_folder_is_told(predictor: Predictor, tmp_path: Path) -> None:
    """A dead link and a pipe, named like pictures, are named with an error and not passed over."""
    folder = tmp_path / "pictures"
    (folder / "folder.jpg").mkdir(parents=True)
    Image.new("L", (2, 2)).save(folder / "1.png")
    (folder / "2.jpg").symlink_to("gone.jpg")
    os.mkfifo(folder / "3.jpg")
    found = list(predictor.predict(find_images([str(folder)])))
    assert [Path(result.path).name for result in found] == ["1.png", "2.jpg", "3.jpg"]
    assert [isinstance(result, Unreadable) for result in found] == [False, True, True]


def test_a_folder_without_a_picture_is_called_so(predictor: Predictor, tmp_path: Path) -> None:
    """The words "Is a directory" would be no answer to somebody who gave one."""
    (tmp_path / "empty").mkdir()
    (said,) = predictor.predict(find_images([str(tmp_path / "empty")]))
    assert isinstance(said, Unreadable) and said.error == f"{tmp_path}/empty: there is no picture in this folder."
