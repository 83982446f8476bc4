from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.models import build_model
from holdfast.models.zoo import pretrained_state, timm_names, torchvision_names


@pytest.mark.row("M4")
@pytest.mark.parametrize(
    ("name", "side"), [("resnet18", 64), ("vgg11", 32), ("squeezenet1_1", 64), ("mobilenet_v3_small", 64)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_models_take_our_classes_and_channels(name: str, side: int, channels: int) -> None:
    """A torchvision classifier is built with random weights for our class count, grey or colour."""
    model = build_model(name, 3, channels, side).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, side, side)).shape == (2, 3)


@pytest.mark.row("M4")
@pytest.mark.parametrize(("name", "side"), [("timm:resnet18", 64), ("vit_tiny_patch16_224", 64), ("convnext_atto", 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_models_take_our_classes_channels_and_size(name: str, side: int, channels: int) -> None:
    """A timm model is built with random weights; one tied to its input size is told ours."""
    model = build_model(name, 3, channels, side).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, side, side)).shape == (2, 3)


def test_a_timm_name_with_the_tag_of_its_weights_is_understood() -> None:
    """`name.tag` is timm's way to say which weights; the model is the same."""
    tagged = build_model("vit_tiny_patch16_224.augreg_in21k", 3, 3, 64, depth=1)
    plain = build_model("vit_tiny_patch16_224", 3, 3, 64, depth=1)
    assert [(n, p.shape) for n, p in tagged.named_parameters()] == [(n, p.shape) for n, p in plain.named_parameters()]


def test_only_the_first_convolution_is_made_anew_for_grey_pictures() -> None:
    """For one channel the stem alone changes, with everything else about it as it was."""
    grey, colour = build_model("resnet18", 3, 1, 64), build_model("resnet18", 3, 3, 64)
    shapes = {n: p.shape for n, p in colour.named_parameters()}
    changed = [n for n, p in grey.named_parameters() if p.shape != shapes[n]]
    assert changed == ["conv1.weight"]
    assert (grey.conv1.kernel_size, grey.conv1.stride, grey.conv1.padding) == ((7, 7), (2, 2), (3, 3))
    assert grey.conv1.bias is None


def test_googlenet_answers_with_a_tensor_in_training() -> None:
    """The side classifiers that would make it return a tuple are off."""
    model = build_model("googlenet", 3, 3, 64, init_weights=False)
    assert isinstance(model(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_the_lists_hold_classifiers_only() -> None:
    """Torchvision's detectors and video models are not offered."""
    names = torchvision_names()
    assert "resnet18" in names
    assert not [n for n in names if "rcnn" in n or "r3d" in n or "deeplab" in n]
    assert "vit_tiny_patch16_224" in timm_names()


def test_a_model_that_was_tried_on_can_still_be_trained() -> None:
    """Nothing that a model caches in its trial run keeps it from computing gradients (position tables do cache)."""
    model = build_model("vit_base_patch16_rope_224", 3, 3, 64, depth=1, embed_dim=64, num_heads=2)
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.row("M4")
def test_pretrained_weights_come_from_the_librarys_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published weights that lie in torch's cache are read from there, without a network."""
    from torchvision import models

    torch.manual_seed(0)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    state = models.squeezenet1_1(weights=None).state_dict()
    plain = type(weights).get_state_dict
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.save(state, cache / weights.url.rpartition("/")[2])
    # The hash in the file's name is that of the published file, which ours is not.
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, **k: plain(self, **{**k, "check_hash": False}))
    found = pretrained_state("torchvision", "squeezenet1_1")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_pretrained_weights_fail_when_they_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cache and network the refusal names the model and the way with a file."""
    from torchvision import models

    def refuse(self: object, **_: object) -> dict[str, object]:
        raise OSError("Network is unreachable\nand more")

    monkeypatch.setattr(type(models.get_model_weights("alexnet").DEFAULT), "get_state_dict", refuse)
    with pytest.raises(
        ConfigError, match=r"published weights of torchvision:alexnet: Network is unreachable\. .*--init FILE"
    ):
        pretrained_state("torchvision", "alexnet")


def test_pretrained_weights_fail_when_none_were_published() -> None:
    """A model of whose name torchvision knows nothing is refused by name."""
    with pytest.raises(ConfigError, match="published weights of torchvision:lenet"):
        pretrained_state("torchvision", "lenet")


def test_zoo_models_are_modules_in_training_mode() -> None:
    """A zoo model comes ready to be trained."""
    model = build_model("mobilenet_v3_small", 2, 3, 64)
    assert isinstance(model, nn.Module) and model.training
