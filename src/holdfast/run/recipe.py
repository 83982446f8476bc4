"""Defaults a newcomer can keep: what the user left open is chosen from the data, each choice with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from holdfast.config import Config
from holdfast.data.decoding.image_kinds import FORMATS
from holdfast.data.decoding.quiet import quiet
from holdfast.data.files import FilePictures
from holdfast.data.preprocessing.transforms import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from holdfast.data.sample import Indices, Pictures, SetName
from holdfast.data.targets import TargetSpec
from holdfast.errors import ConfigError
from holdfast.run.task import Choose, choose_for_task
from holdfast.words import count

_SMALL_SIDE = 64  # pixels: up to here pictures are digits, icons, CIFAR
_FEW_STEPS = 1500  # a training shorter than this has not seen enough
_LOOKED_AT = 64  # pictures whose size and colours are looked at
_CLASSES = TargetSpec("classification", ())
_GREY_MEAN, _GREY_STD = 0.449, 0.226  # ImageNet's, averaged over its channels


@dataclass(frozen=True)
class DataSummary:
    """What the choices depend on: counts, the median short side in pixels, and 1 channel (all grey) or 3.

    `decoded`: the pictures are pixels in memory already, and no files.
    """

    num_train: int
    num_classes: int
    short_side: int
    channels: int
    decoded: bool = False


@dataclass(frozen=True)
class Choice:
    """One setting that the user left open, what was chosen, and why."""

    setting: str
    value: Any
    reason: str


def summarize(pictures: Pictures, sets: dict[SetName, Indices]) -> DataSummary:
    """Looks at some training pictures, evenly picked: at headers of files, never at all their pixels."""
    train = sets["train"]
    picked = train[np.linspace(0, len(train) - 1, min(_LOOKED_AT, len(train))).astype(np.int64)]
    sides: list[int] = []
    grey, decoded = True, not isinstance(pictures, FilePictures)
    for index in picked:
        if isinstance(pictures, FilePictures):
            try:
                with quiet(), Image.open(pictures.path(int(index)), formats=FORMATS) as image:
                    sides.append(min(image.size))
                    grey = grey and image.mode in ("1", "L", "LA", "I", "I;16", "F")
            except (OSError, Image.DecompressionBombError):
                continue  # said, with its reason, when the pictures are checked
        else:
            channels, height, width = pictures.read(int(index)).shape
            sides.append(min(height, width))
            grey = grey and channels == 1
    if not sides:
        return DataSummary(len(train), len(pictures.classes), 224, 3, decoded)
    return DataSummary(len(train), len(pictures.classes), int(np.median(sides)), 1 if grey else 3, decoded)


def resolve(config: Config, data: DataSummary, targets: TargetSpec = _CLASSES) -> tuple[Config, list[Choice]]:
    """Fills in what the user left open. A pure function of its arguments: the same command chooses the same.

    Args:
        targets: what is learned of a picture.

    Raises:
        ConfigError: numbers outside their ranges, or a `decode_size` where nothing is decoded.
    """
    choices: list[Choice] = []

    def choose(setting: str, value: Any, reason: str) -> None:
        if getattr(resolved, setting) is None:
            choices.append(Choice(setting, value, reason))
            object.__setattr__(resolved, setting, value)

    resolved = config.replace()
    choose_for_task(choose, resolved, targets)
    small = data.short_side <= _SMALL_SIDE
    colour = "grey" if data.channels == 1 else "colour"
    size = f"{data.short_side} px, {colour}"
    if small:
        choose("model", "lenet" if data.channels == 1 else "cifar-net", f"pictures are small ({size})")
    else:
        choose("model", "resnet18", f"pictures are large ({size})")
    if small:
        side = max(data.short_side, 32) if data.short_side < 28 else data.short_side
        choose(
            "img_size",
            side,
            "the pictures' own size"
            if side == data.short_side
            else f"{data.short_side} px scaled up: convolutions need room",
        )
    else:
        choose("img_size", 224, "what such models are made for")
    few = data.num_train < 2000
    _choose_length(choose, resolved, data, targets)
    _choose_optimizer(choose, resolved, few, targets.task == "landmarks")
    choose("weight_decay", 5e-4 if resolved.optimizer == "sgd" else 0.02, f"usual for {resolved.optimizer}")
    choose("warmup_epochs", min(2.0, (resolved.epochs or 1) / 10), "a tenth of the training, two epochs at most")
    _choose_augmentation(choose, resolved, data, few)
    _check_ranges(resolved)
    return resolved, choices


def _choose_length(choose: Choose, resolved: Config, data: DataSummary, targets: TargetSpec) -> None:
    """Chooses batch size and epochs."""
    few, points = data.num_train < 2000, targets.task == "landmarks"
    # Points take many steps; a few faces in batches of 32 would be one step an epoch.
    batch = (8 if data.num_train < 256 else 32) if few and points else 32 if few else 64
    choose("batch_size", max(1, min(batch, data.num_train)), count(data.num_train, "training picture"))
    steps = max(data.num_train // (resolved.batch_size or 1), 1)
    if resolved.weights:
        choose("epochs", 10, "the weights are trained already")
    elif points:
        choose(
            "epochs", int(np.clip(round(_FEW_STEPS / steps), 30, 300)), f"{count(steps, 'step')} an epoch, from scratch"
        )
    elif data.short_side <= _SMALL_SIDE:
        choose(
            "epochs",
            30 if few else int(np.clip(round(_FEW_STEPS * 4 / steps), 5, 30)),
            f"{count(steps, 'step')} an epoch",
        )
    else:
        choose("epochs", 30 if few else 20, f"{count(steps, 'step')} an epoch, from scratch")


def _choose_optimizer(choose: Choose, resolved: Config, few: bool, points: bool) -> None:
    """Chooses the optimizer and its rate for the model in `resolved`; `few` training pictures, `points` to learn."""
    if resolved.model in ("lenet", "cifar-net", "mlp", "dynamic"):
        choose("optimizer", "adamw", "steady on small networks")
        if resolved.optimizer == "sgd":
            choose("lr", 0.05, "usual for sgd on small networks")
        choose("lr", 2e-3, f"usual for {resolved.optimizer} on small networks")
    else:
        attention = any(word in str(resolved.model) for word in ("vit", "swin", "deit", "mixer", "former", "convnext"))
        choose(
            "optimizer",
            "adamw" if attention or few else "sgd",
            "few pictures or attention" if attention or few else "usual for convolutions",
        )
        base = 0.1 if resolved.optimizer == "sgd" else 5e-4 if attention else 1e-3
        base = base / 5 if resolved.weights else base
        if points and resolved.optimizer != "sgd":
            # Batches of a few faces make few steps: scaled down, they end where they began (ADR 13, measured).
            choose("lr", float(f"{base:.3g}"), f"points take {resolved.optimizer}'s whole steps in small batches too")
        rate = base * min((resolved.batch_size or 1) / (256 if resolved.optimizer == "sgd" else 64), 1.0)
        choose("lr", float(f"{rate:.3g}"), f"usual for {resolved.optimizer} at batch {resolved.batch_size}")


def _choose_augmentation(choose: Choose, resolved: Config, data: DataSummary, few: bool) -> None:
    """Chooses the augmentation, and what it crops from. Raises ConfigError for a `decode_size` of decoded pictures."""
    if resolved.decode_size and data.decoded:
        raise ConfigError(
            f"decode_size is {resolved.decode_size}: it scales files down while they are decoded, and the pictures of "
            f"{resolved.data} are pixels already. Leave it out; --img-size is the side of the network's input."
        )
    small = data.short_side <= _SMALL_SIDE
    if small and data.channels == 1:
        choose("augment", "affine", "grey and small: often signs and digits, which a flip would change")
    elif small:
        choose("augment", "shift+flip", "small colour pictures")
    else:
        choose(
            "augment", "crop+flip+color" if few else "crop+flip", "few large pictures" if few else "many large pictures"
        )
    # Of twice the crop's side, a crop of a quarter of the picture (the smallest there is) is still not enlarged.
    large = data.short_side >= 4 * (resolved.img_size or 0) and not data.decoded
    if large and (resolved.augment or "").startswith(("crop", "trivial")):
        reason = f"{data.short_side} px are more than crops of {resolved.img_size} need; 0 for their full size"
        choose("decode_size", 2 * (resolved.img_size or 0), reason)


def preprocessing_for(config: Config, data: DataSummary) -> Preprocessing:
    """Returns the preprocessing outside training that the resolved `config` means."""
    assert config.img_size is not None
    # Small pictures are shown whole; large ones at 8/7 of the crop, the usual 256 to 224.
    resize = config.img_size if data.short_side <= _SMALL_SIDE else round(config.img_size * 8 / 7)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if data.channels == 3 else ((_GREY_MEAN,), (_GREY_STD,))
    return Preprocessing(
        config.img_size,
        resize,
        mean,
        std,
        custom=config.eval_transform,
        scaled_decode=config.scaled_decode,
        exact=config.resize == "exact",
    )


def _check_ranges(config: Config) -> None:
    """Raises ConfigError for numbers that cannot be meant."""
    rules: list[tuple[str, bool, str]] = [
        ("epochs", (config.epochs or 0) >= 1, "1 or more"),
        ("batch_size", (config.batch_size or 0) >= 1, "1 or more"),
        ("img_size", 1 <= (config.img_size or 0) <= 4096, "1 to 4096"),
        ("decode_size", (config.decode_size or 0) >= 0, "0 or more"),
        ("lr", 0 < (config.lr or 0) < float("inf"), "above 0"),
        ("weight_decay", (config.weight_decay or 0) >= 0, "0 or more"),
        ("momentum", 0 <= config.momentum < 1, "in [0, 1)"),
        ("label_smoothing", 0 <= config.label_smoothing < 1, "in [0, 1)"),
        ("warmup_epochs", (config.warmup_epochs or 0) >= 0, "0 or more"),
        ("workers", (config.workers or 0) >= 0, "0 or more"),
        ("log_every", config.log_every is None or config.log_every >= 1, "1 or more"),
    ]
    wrong = [f"{name} is {getattr(config, name)}; expected {expected}" for name, good, expected in rules if not good]
    if wrong:
        raise ConfigError("These settings cannot be used: " + "; ".join(wrong) + ".")
