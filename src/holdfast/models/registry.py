"""From a name to a model, and from a model's description back to the model.

`lenet`, `cifar-net`, `mlp` and `dynamic` are ours. Any other plain name is looked up in torchvision, then in timm;
`torchvision:NAME` and `timm:NAME` say which. `package.module:Class` is your own.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.models import zoo
from holdfast.models.cifar_net import CifarNet
from holdfast.models.dynamic import DynamicNet
from holdfast.models.lenet import LeNet
from holdfast.models.mlp import Mlp

OWN_MODELS: dict[str, type[nn.Module]] = {"lenet": LeNet, "cifar-net": CifarNet, "mlp": Mlp, "dynamic": DynamicNet}


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build the model again, as plain data: it travels inside checkpoints.

    Attributes:
        name: as given to `build_model`, made explicit (`torchvision:resnet18`).
        num_classes: K.
        in_channels: 1 or 3.
        image_size: side of the square input in pixels.
        args: further keyword arguments of the model's constructor.
    """

    name: str
    num_classes: int
    in_channels: int
    image_size: int
    args: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, name: str, num_classes: int, in_channels: int, image_size: int, args: dict[str, Any]) -> Architecture:
        """Describes the model that `name` means here and now: a plain zoo name gets its library put before it."""
        library, plain = resolve_name(name)
        return cls(f"{library}:{plain}" if library else plain, num_classes, in_channels, image_size, args)

    def build(self) -> nn.Module:
        """Builds the model with fresh weights and tries it on one empty picture. Raises as `build_model` does."""
        library, plain = resolve_name(self.name)
        try:
            model = _construct(library, plain, self)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"Building {self.name} for {self.num_classes} classes with {self.args or 'no arguments'}: {error}."
            ) from error
        _try_on(model, self)
        return model


def build_model(name: str, num_classes: int, in_channels: int = 3, image_size: int = 224, **args: Any) -> nn.Module:
    """Builds a model with fresh weights from the global torch generator, on the CPU, in training mode.

    Args:
        name: see the module's text.
        num_classes, in_channels, image_size: what the model adapts to; image_size in pixels.
        args: passed to the model's constructor.

    Raises:
        ConfigError: no such model (the nearest names are offered), arguments it does not take, or pictures that are
            too small for it.
    """
    return Architecture.of(name, num_classes, in_channels, image_size, args).build()


def resolve_name(name: str) -> tuple[str, str]:
    """Returns (library, plain name): library is "", "torchvision", "timm" or "package.module" for a user's class.

    Raises:
        ConfigError: no such model; the nearest names are offered.
    """
    library, colon, plain = name.rpartition(":")
    if not colon:
        if name in OWN_MODELS:
            return "", name
        if name in zoo.torchvision_names():
            return "torchvision", name
        if _is_timm(name):
            return "timm", name
    elif (
        (library == "torchvision" and plain in zoo.torchvision_names())
        or (library == "timm" and _is_timm(plain))
        or library not in ("torchvision", "timm")
    ):
        return library, plain
    every = list_models()
    near = difflib.get_close_matches(plain, every, 3, 0.6) or [n for n in every if plain in n][:3]
    hint = f"Did you mean {', '.join(near)}?" if near else "`holdfast models` lists them all."
    raise ConfigError(f"There is no model {name!r}. {hint}")


def list_models(pattern: str = "") -> list[str]:
    """Returns the names of all models; `pattern` is a part of the name, or a wildcard such as `*vit*small*`."""
    names = [*OWN_MODELS]
    names += sorted(zoo.torchvision_names())
    names += [f"timm:{n}" if n in set(names) else n for n in zoo.timm_names()]
    wanted = pattern.lower() if "*" in pattern else f"*{pattern.lower()}*"
    return [name for name in names if fnmatch.fnmatchcase(name.lower(), wanted)]


def _is_timm(name: str) -> bool:
    import timm

    return bool(timm.is_model(name.split(".")[0]))


def _construct(library: str, plain: str, architecture: Architecture) -> nn.Module:
    num_classes, in_channels, args = architecture.num_classes, architecture.in_channels, architecture.args
    if library == "torchvision":
        return zoo.build_torchvision(plain, num_classes, in_channels, architecture.image_size, args)
    if library == "timm":
        return zoo.build_timm(plain, num_classes, in_channels, architecture.image_size, args)
    if not library:
        kind = OWN_MODELS[plain]
        least = cast(Any, kind).min_image_size
        if architecture.image_size < least:
            raise ConfigError(
                f"{plain} needs pictures of {least} × {least} pixels at least; --img-size is "
                f"{architecture.image_size}. "
                "Take a larger --img-size (pictures are scaled up), or --model mlp."
            )
        return kind(num_classes=num_classes, in_channels=in_channels, image_size=architecture.image_size, **args)
    return _construct_users(f"{library}:{plain}", architecture)


def _construct_users(path: str, architecture: Architecture) -> nn.Module:
    """Builds `package.module:Class`, telling it of classes, channels and size as far as its signature asks for them."""
    module_name, _, class_name = path.partition(":")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"Importing the model {path!r}: {error}. Start the command where `import {module_name}` works, or put that "
            "folder on PYTHONPATH."
        ) from error
    offered = {
        "num_classes": architecture.num_classes,
        "in_channels": architecture.in_channels,
        "image_size": architecture.image_size,
    }
    parameters = inspect.signature(kind).parameters
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    model = kind(**{k: v for k, v in offered.items() if takes_all or k in parameters} | architecture.args)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{path!r} made a {type(model).__name__}; expected a torch.nn.Module.")
    return model


def _try_on(model: nn.Module, architecture: Architecture) -> None:
    """Sends one empty picture through the model, so that a size it cannot take is found now and by name."""
    side = architecture.image_size
    modes, generator_state = [(module, module.training) for module in model.modules()], torch.get_rng_state()
    model.eval()
    try:
        with torch.inference_mode():
            output = model(torch.zeros(1, architecture.in_channels, side, side))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{architecture.name} cannot take pictures of {side} × {side} pixels with {architecture.in_channels} "
            f"channel(s) ({(str(error) or repr(error)).splitlines()[0]}). Try another --img-size."
        ) from error
    finally:
        for module, training in modes:  # a constructor may have put some of its layers into eval mode
            module.training = training
        torch.set_rng_state(generator_state)
    if not isinstance(output, torch.Tensor) or output.shape != (1, architecture.num_classes):
        found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(
            f"{architecture.name} answers one picture with {found}; expected logits [1, {architecture.num_classes}]. "
            "Its constructor should take num_classes."
        )
