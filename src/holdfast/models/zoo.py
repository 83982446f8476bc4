"""Torchvision's and timm's classifiers, with our class count and channels. Both libraries are imported on first use."""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import nn

from holdfast.errors import ConfigError


def torchvision_names() -> list[str]:
    """Returns torchvision's image classifiers."""
    from torchvision import models

    return [str(name) for name in models.list_models(module=models)]


def timm_names() -> list[str]:
    """Returns timm's models."""
    import timm

    return [str(name) for name in timm.list_models()]


def build_torchvision(
    name: str, num_classes: int, in_channels: int, image_size: int, args: dict[str, Any]
) -> nn.Module:
    """Builds a torchvision classifier with random weights; the first convolution takes `in_channels`.

    Its vision transformers are tied to one input size, and are told `image_size`.
    """
    from torchvision import models

    # GoogLeNet and Inception return a tuple in training unless their side classifiers are off.
    extra: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit_"):
        extra["image_size"] = image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # their own notice about a slow initialisation
        model = cast(nn.Module, models.get_model(name, weights=None, num_classes=num_classes, **(extra | args)))
    if in_channels != 3:
        _replace_stem(model, in_channels)
    return model


def build_timm(name: str, num_classes: int, in_channels: int, image_size: int, args: dict[str, Any]) -> nn.Module:
    """Builds a timm model with random weights. Models tied to one input size are told `image_size`."""
    import timm

    kwargs = {"num_classes": num_classes, "in_chans": in_channels} | args
    if "img_size" not in kwargs and timm.get_pretrained_cfg_value(name, "fixed_input_size"):
        kwargs["img_size"] = image_size
    return cast(nn.Module, timm.create_model(name, pretrained=False, **kwargs))


def pretrained_state(library: str, name: str) -> dict[str, torch.Tensor]:
    """Returns the published weights of a zoo model, from the library's own cache or, where there is one, the network.

    Raises:
        ConfigError: the weights can be had neither way.
    """
    try:
        if library == "torchvision":
            from torchvision import models

            return dict(models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True))
        import timm

        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # each hub client has errors of its own
        raise ConfigError(
            f"Getting the published weights of {library}:{name}: "
            f"{(str(error) or repr(error)).splitlines()[0]}. "
            "Where there is no network, fetch them elsewhere and give the file: --init FILE."
        ) from error


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == in_channels:
                return
            parent = model.get_submodule(path.rpartition(".")[0])
            stem = nn.Conv2d(
                in_channels,
                module.out_channels,
                cast(Any, module.kernel_size),
                cast(Any, module.stride),
                cast(Any, module.padding),
                cast(Any, module.dilation),
                module.groups,
                module.bias is not None,
                module.padding_mode,
            )
            setattr(parent, path.rpartition(".")[2], stem)
            return
