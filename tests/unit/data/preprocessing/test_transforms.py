import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from holdfast.data import Loader
from holdfast.data.arrays import ArrayPictures
from holdfast.data.preprocessing.transforms import (
    AUGMENTATIONS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    eval_transform,
    import_callable,
    train_transform,
)
from holdfast.errors import ConfigError
from holdfast.randomness import seed_generators

COLOUR = Preprocessing(16, 18, IMAGENET_MEAN, IMAGENET_STD)
GREY = Preprocessing(16, 16, (0.5,), (0.25,))


def picture(channels: int = 3, height: int = 30, width: int = 44) -> Tensor:
    """Random pixels."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (channels, height, width), dtype=np.uint8))


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own, importable by name."""
    (tmp_path / "own_transforms.py").write_text(
        "import torch\n"
        "def to_bytes(image):\n    return image[:, :16, :16]\n"
        "def to_float(image):\n    return torch.full((1, 2, 2), -7.0)\n"
        "class Scale:\n    def __init__(self):\n        pass\n"
        "scale = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "own_transforms", raising=False)
    return "own_transforms"


@pytest.mark.row("D5")
class TestEvaluation:
    """The transform of everything but training."""

    @pytest.mark.parametrize("shape", [(30, 44), (44, 30), (18, 18), (5, 200), (1, 1)])
    @pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
    def test_pictures_of_any_size_become_the_input(self, shape: tuple[int, int], preprocessing: Preprocessing) -> None:
        """Any height and width give `[C, S, S]` float32."""
        out = eval_transform(preprocessing)(picture(preprocessing.channels, *shape))
        assert out.shape == (preprocessing.channels, 16, 16)
        assert out.dtype == torch.float32

    def test_values_are_scaled_and_normalised_per_channel(self) -> None:
        """A plain colour becomes (value / 255 - mean) / std in each channel."""
        plain = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 40, 40)
        out = eval_transform(COLOUR)(plain)
        expected = (torch.tensor([0, 0.2, 1]) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        assert torch.allclose(out, expected[:, None, None].expand(3, 16, 16), atol=1e-6)

    def test_the_centre_is_cropped_after_the_short_side_is_brought_to_size(self) -> None:
        """Where nothing is resized the middle pixels come out, untouched but for the scale."""
        source = picture(1, 18, 20)
        out = eval_transform(Preprocessing(16, 18, (0.0,), (1.0,)))(source)
        assert torch.allclose(out, source[:, 1:17, 2:18].to(torch.float32) / 255, rtol=0, atol=1e-6)

    def test_it_agrees_with_pillow_to_one_level(self) -> None:
        """Resizing a tensor is what Pillow's antialiased resize does, to within one level of 255."""
        source = picture(3, 40, 60)
        out = eval_transform(Preprocessing(20, 20, (0.0,) * 3, (1.0,) * 3))(source) * 255
        image = Image.fromarray(source.permute(1, 2, 0).numpy()).resize((30, 20), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(image).transpose(2, 0, 1))[:, :, 5:25]
        assert (out - expected).abs().max() <= 1.01

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    def test_the_interpolation_named_is_used(self, interpolation: str) -> None:
        """Both names work, and they differ."""
        one = eval_transform(Preprocessing(16, 16, (0.0,), (1.0,), interpolation))(picture(1))
        other = eval_transform(Preprocessing(16, 16, (0.0,), (1.0,), "bilinear"))(picture(1))
        assert torch.equal(one, other) == (interpolation == "bilinear")

    def test_it_draws_no_random_number(self) -> None:
        """Evaluation leaves the three generators where they were."""
        seed_generators(1)
        expected = (random.random(), np.random.rand(), torch.rand(1).item())
        seed_generators(1)
        eval_transform(COLOUR)(picture())
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected

    def test_a_custom_transform_takes_the_place_of_everything(self, own_module: str) -> None:
        """With an import path, the user's own callable is all there is."""
        own = Preprocessing(16, 16, (0.0,), (1.0,), custom=f"{own_module}:to_float")
        assert eval_transform(own)(picture()).tolist() == [[[-7.0, -7.0], [-7.0, -7.0]]]


def test_a_description_survives_json() -> None:
    """to_json holds plain JSON values and from_json rebuilds the same description."""
    values = Preprocessing(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bicubic", "a.b:c").to_json()
    assert values == {
        "img_size": 224, "resize": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "interpolation": "bicubic", "custom": "a.b:c", "scaled_decode": False, "exact": False,
    }  # fmt: skip
    assert Preprocessing.from_json(values) == Preprocessing(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bicubic", "a.b:c")


@pytest.mark.row("D5")
class TestTraining:
    """Augmentations."""

    @pytest.mark.parametrize("augmentation", AUGMENTATIONS)
    @pytest.mark.parametrize("preprocessing", [COLOUR, GREY])
    def test_every_augmentation_gives_the_input_and_repeats_under_a_seed(
        self, augmentation: str, preprocessing: Preprocessing
    ) -> None:
        """Each gives `[C, S, S]` float32, grey or colour; equal seeds give equal bits, other seeds other pictures."""
        transform = train_transform(preprocessing, augmentation)
        outputs = []
        for seed in (1, 1, *range(2, 12)):
            seed_generators(seed)
            outputs.append(transform(picture(preprocessing.channels)))
        assert outputs[0].shape == (preprocessing.channels, 16, 16)
        assert outputs[0].dtype == torch.float32
        assert torch.equal(outputs[0], outputs[1])
        assert any(not torch.equal(outputs[0], other) for other in outputs[2:]) == (augmentation != "none")

    def test_none_is_the_transform_of_evaluation(self) -> None:
        """Without augmentation training sees what validation sees."""
        assert torch.equal(train_transform(COLOUR, "none")(picture()), eval_transform(COLOUR)(picture()))

    def test_shift_moves_by_an_eighth_at_most(self) -> None:
        """A dot in the middle of 16 pixels stays within 2 of it, in both directions, and is seen everywhere there."""
        transform = train_transform(Preprocessing(16, 16, (0.0,), (1.0,)), "shift")
        dot = torch.zeros(1, 16, 16, dtype=torch.uint8)
        dot[0, 8, 8] = 255
        places = set()
        for seed in range(300):
            seed_generators(seed)
            places.add(tuple(transform(dot)[0].nonzero()[0].tolist()))
        assert places == {(y, x) for y in range(6, 11) for x in range(6, 11)}

    def test_flip_mirrors_half_of_the_pictures(self) -> None:
        """Of 200 seeds about half turn left into right, never up into down."""
        transform = train_transform(Preprocessing(16, 16, (0.0,), (1.0,)), "crop+flip")
        ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(1, 64, 64)
        rising = 0
        for seed in range(200):
            seed_generators(seed)
            out = transform(ramp)[0]
            rising += bool(out[8, 0] < out[8, -1])
            assert (out.std(dim=0) < 0.01).all()
        assert 70 < rising < 130

    def test_a_custom_transform_that_leaves_bytes_is_finished(self, own_module: str) -> None:
        """uint8 results are scaled and normalised; the default augmentation is not applied."""
        out = train_transform(GREY, "crop+flip", f"{own_module}:to_bytes")(picture(1))
        expected = (picture(1)[:, :16, :16].to(torch.float32) / 255 - 0.5) / 0.25
        assert torch.allclose(out, expected, rtol=0, atol=1e-5)

    def test_a_custom_transform_that_gives_floats_is_passed_on(self, own_module: str) -> None:
        """float results are the input as they are."""
        assert train_transform(GREY, "none", f"{own_module}:to_float")(picture(1)).tolist() == [[[-7.0] * 2] * 2]

    def test_any_callable_works_in_a_loader(self) -> None:
        """A function of the user's own stands where one of ours does."""
        pictures = ArrayPictures(np.full((2, 4, 4), 3, np.uint8), [0, 1])
        batch = next(iter(Loader(pictures, batch_size=2, transform=lambda image: image.float() * 2)))
        assert batch.inputs.unique().tolist() == [6.0]

    def test_an_unknown_augmentation_fails_and_lists_the_known(self) -> None:
        """All names are shown."""
        with pytest.raises(ConfigError) as caught:
            train_transform(COLOUR, "flop")
        assert str(caught.value) == f"There is no augmentation 'flop'. Choose one of: {', '.join(AUGMENTATIONS)}."


class TestImporting:
    """A user's own callable, by its import path."""

    def test_a_callable_is_imported(self, own_module: str) -> None:
        """Functions and classes are found by `module:name`."""
        assert import_callable(f"{own_module}:to_float", "transform")(picture()).shape == (1, 2, 2)
        assert import_callable("torch.nn:Linear", "model") is torch.nn.Linear

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nothing", "'nothing' does not name a transform; expected package.module:name."),
            (":name", "':name' does not name a transform; expected package.module:name."),
            ("module:", "'module:' does not name a transform; expected package.module:name."),
            ("not_there_at_all:f", "Importing the transform 'not_there_at_all:f': No module named 'not_there_at_all'."),
            ("own_transforms:gone", "has no attribute 'gone'. Start the command where `import own_transforms` works"),
            ("own_transforms:scale", "'own_transforms:scale' is a int; expected something callable."),
        ],
    )
    @pytest.mark.usefixtures("own_module")
    def test_importing_fails_with_the_path_and_the_reason(self, path: str, message: str) -> None:
        """A malformed path, a missing module, a missing name and a plain value are told apart."""
        with pytest.raises(ConfigError) as caught:
            import_callable(path, "transform")
        assert message in str(caught.value)
