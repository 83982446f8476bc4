from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.models import Architecture, build_model, list_models
from holdfast.models.registry import OWN_MODELS, resolve_name


@pytest.mark.row("M1", "M2", "M3")
@pytest.mark.parametrize("name", ["lenet", "cifar-net", "mlp", "dynamic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_our_own_models_are_built_by_name(name: str, channels: int) -> None:
    """Each of our models has a name, and takes class count, channels and size from it."""
    model = build_model(name, 5, channels, 28)
    assert type(model) is OWN_MODELS[name]
    assert model(torch.zeros(2, channels, 28, 28)).shape == (2, 5)
    assert model.training


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet", ("", "lenet")),
        ("resnet18", ("torchvision", "resnet18")),
        ("torchvision:resnet18", ("torchvision", "resnet18")),
        ("timm:resnet18", ("timm", "resnet18")),
        ("convnext_atto", ("timm", "convnext_atto")),
        ("mine.nets:Net", ("mine.nets", "Net")),
    ],
)
def test_a_name_says_which_library(name: str, expected: tuple[str, str]) -> None:
    """Plain names go to ours, then torchvision, then timm; a prefix decides by itself."""
    assert resolve_name(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lenett", "lenet"), ("resnet81", "resnet18"), ("torchvision:convnext_atto", "convnext_atto")],
)
def test_an_unknown_name_fails_and_offers_near_ones(name: str, hint: str) -> None:
    """The refusal repeats the name and offers one that exists."""
    with pytest.raises(ConfigError, match=rf"There is no model '{name}'. Did you mean .*{hint}"):
        build_model(name, 10)


def test_a_name_near_to_nothing_fails_and_says_where_the_list_is() -> None:
    """Without a near name the refusal points to `holdfast models`."""
    with pytest.raises(ConfigError, match=r"'qqqqqq'.*`holdfast models` lists them all"):
        build_model("qqqqqq", 10)


@pytest.mark.row("M4")
def test_the_list_has_our_models_first_and_every_listed_name_resolves() -> None:
    """The list starts with ours, holds both zoos without doubles, and a name from it is understood."""
    names = list_models()
    assert names[:4] == ["lenet", "cifar-net", "mlp", "dynamic"]
    assert len(names) == len(set(names)) > 500
    assert {"resnet18", "vgg11", "timm:resnet18", "convnext_atto"} <= set(names)
    for name in names[::50]:
        resolve_name(name)


def test_the_list_can_be_narrowed() -> None:
    """A pattern is a part of a name, or a wildcard when it has a star."""
    assert list_models("cifar-") == ["cifar-net"]
    assert list_models("CIFAR-") == ["cifar-net"]
    wild = list_models("vit_tiny*")
    assert wild and all(name.startswith("vit_tiny") for name in wild)
    assert list_models("no such model") == []


def test_same_generator_same_weights() -> None:
    """Fresh weights come from torch's global generator: the same seed builds the same bits."""
    torch.manual_seed(3)
    first = build_model("lenet", 10, 1, 28).state_dict()
    torch.manual_seed(3)
    second = build_model("lenet", 10, 1, 28).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_architecture_survives_json_and_builds_the_same_model() -> None:
    """The description that travels in checkpoints is JSON, makes the library explicit, and builds an equal model."""
    described = Architecture.of("resnet18", 4, 1, 64, {})
    assert described.name == "torchvision:resnet18"
    again = Architecture(**json.loads(json.dumps(described.to_json())))
    assert again == described
    shapes = [
        [(n, t.shape) for n, t in a.build().state_dict().items()]
        for a in (Architecture.of("mlp", 4, 1, 8, {"hidden": [5]}), Architecture("mlp", 4, 1, 8, {"hidden": [5]}))
    ]
    assert shapes[0] == shapes[1]


def test_arguments_reach_the_constructor() -> None:
    """Further keyword arguments are the model's own."""
    assert build_model("cifar-net", 10, 3, 32, dropout=0.3).dropout.p == 0.3


def test_fails_on_an_argument_the_model_does_not_take() -> None:
    """The refusal names the model, the argument, and is a configuration error."""
    with pytest.raises(ConfigError, match=r"Building lenet for 10 classes with \{'depth': 3\}.*depth"):
        build_model("lenet", 10, 1, 28, depth=3)


_NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.body = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width).eval()
        self.head = nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.norm(self.body(x)).mean((2, 3)))

class Everything(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.kwargs = kwargs
        self.layer = nn.Linear(1, kwargs["num_classes"])
    def forward(self, x):
        return self.layer(x.mean((1, 2, 3))[:, None])

class FixedClasses(Net):
    def __init__(self):
        super().__init__(1000)

class Picky(Net):
    def forward(self, x):
        assert x.shape[-1] == 999
        return super().forward(x)

def not_a_model(num_classes):
    return {"classes": num_classes}
"""


@pytest.fixture
def own_nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with models of a user's own."""
    (tmp_path / "nets_of_a_user.py").write_text(_NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "nets_of_a_user"


@pytest.mark.row("M4")
def test_your_own_class_is_told_what_its_signature_asks_for(own_nets: str) -> None:
    """A class gets the class count and its own arguments, and no channels or size it did not ask for."""
    model = build_model(f"{own_nets}:Net", 6, 3, 32, width=9)
    assert model.body.out_channels == 9
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 6)


def test_your_own_class_that_takes_everything_is_told_everything(own_nets: str) -> None:
    """A class with **kwargs gets class count, channels and size."""
    model = build_model(f"{own_nets}:Everything", 6, 1, 20)
    assert model.kwargs == {"num_classes": 6, "in_channels": 1, "image_size": 20}


@pytest.mark.row("M6")
def test_a_layer_that_your_class_put_into_eval_mode_stays_there(own_nets: str) -> None:
    """Trying a model on an empty picture leaves every module in the mode that its constructor chose."""
    model = build_model(f"{own_nets}:Net", 6)
    assert model.training
    assert not model.norm.training


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_package:Net", r"Importing the model 'no_such_package:Net'.*PYTHONPATH"),
        ("nets_of_a_user:Missing", r"Importing the model 'nets_of_a_user:Missing'.*Missing"),
        ("nets_of_a_user:not_a_model", r"made a dict; expected a torch.nn.Module"),
        ("nets_of_a_user:FixedClasses", r"answers one picture with \[1, 1000\]; expected logits \[1, 10\]"),
        ("nets_of_a_user:Picky", r"cannot take pictures of 32 × 32 pixels with 3 channel\(s\) \(AssertionError\(\)\)"),
    ],
)
def test_your_own_class_fails_with_a_reason(own_nets: str, path: str, message: str) -> None:
    """What cannot be imported, is no module, answers in the wrong shape or refuses the picture is named."""
    with pytest.raises(ConfigError, match=message):
        build_model(path, 10, 3, 32)


def test_fails_when_a_zoo_model_cannot_take_the_size() -> None:
    """A size that a zoo model cannot work with is found when it is built, and named."""
    with pytest.raises(ConfigError, match=r"torchvision:alexnet cannot take pictures of 8 × 8.*--img-size"):
        build_model("alexnet", 10, 3, 8)


def test_trying_a_model_on_moves_no_torch_generator() -> None:
    """The trial picture draws nothing from torch's generator: what comes after is as if it had not been."""

    class _Noisy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.rand(len(images), 3)

    from holdfast.models.registry import _try_on

    torch.manual_seed(0)
    before = torch.get_rng_state()
    _try_on(_Noisy(), Architecture("noisy", 3, 1, 4))
    assert torch.equal(torch.get_rng_state(), before)
