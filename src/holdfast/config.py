"""The settings of a run: defaults < file < environment < flags. Imports no torch, so that `--help` is quick.

Every setting is declared here once: its type, default, help text and command-line names. None means "choose from the
data" (`run/recipe.py`). Config stops at the hallway: rooms take plain arguments.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from holdfast.errors import ConfigError

ENVIRONMENT_PREFIX = "HOLDFAST_"
OTHER_VARIABLES = frozenset({"HOLDFAST_TEST_DATA", "HOLDFAST_CACHE"})  # ours, and no settings
_EXPONENT = re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+")


def _setting(
    default: Any,
    help_text: str,
    *flags: str,
    recipe: bool = True,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declares a setting. `recipe`: it decides the weights, so it may not change under a run."""
    metadata = {"help": help_text, "flags": flags, "recipe": recipe, "choices": choices}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """All settings of `holdfast train`."""

    data: str = _setting(
        "", "folder of class folders, CSV, IDX folder, `digits`, or torchvision:NAME", "--data-dir", recipe=False
    )
    out: str | None = _setting(None, "run directory; by default runs/<data>-<model>", "--out", "--output", recipe=False)
    # the data
    task: str | None = _setting(
        None,
        "what to learn of a picture: its class, several labels, numbers, or points",
        "--task",
        choices=("classification", "multilabel", "regression", "landmarks"),
    )
    classes: list[str] | None = _setting(None, "class names in the order wanted, comma-separated", "--classes")
    image_dir: str | None = _setting(None, "what file names in a CSV are relative to", "--image-dir", recipe=False)
    file_column: str | None = _setting(None, "the CSV's column of file names", "--file-column", recipe=False)
    label_column: str | None = _setting(None, "the CSV's column of labels", "--label-column", recipe=False)
    target_columns: list[str] | None = _setting(
        None,
        "the CSV's columns of numbers (regression), or of 0 and 1 (multilabel), comma-separated",
        "--target-columns",
    )
    flip_pairs: str | None = _setting(
        None,
        "points that change places in a mirrored picture: 68 (a face's), names (left and right), none, or 0-16,1-15",
        "--flip-pairs",
    )
    eyes: list[str] | None = _setting(
        None, "two points, such as 36,45: errors of points are told in units of their distance", "--eyes"
    )
    target_mean: list[float] | None = _setting(None, "of each number (or point) in the training set; measured")
    target_std: list[float] | None = _setting(None, "its standard deviation; measured")
    val_fraction: float = _setting(
        0.15, "share of each class for validation, where DATA has no val set", "--val-fraction"
    )
    test_fraction: float = _setting(
        0.15, "share of each class for the test, where DATA has no sets at all", "--test-fraction"
    )
    on_bad_image: str = _setting(
        "error",
        "a picture that cannot be read: stop before training, or leave it out",
        "--on-bad-image",
        choices=("error", "skip"),
    )
    img_size: int | None = _setting(
        None, "side of the network's square input, pixels", "--img-size", "--imgsz", "--input-size"
    )
    resize: str | None = _setting(
        None,
        "short: the short side, then the centre; exact: the whole picture, its shape changed",
        "--resize",
        choices=("short", "exact"),
    )
    augment: str | None = _setting(
        None,
        "none, shift, affine, shift+flip, crop+flip, crop+flip+color, trivial; landmarks: words joined by +",
        "--augment",
        "--aug",
    )
    train_transform: str | None = _setting(None, "your own augmentation, package.module:callable", "--train-transform")
    eval_transform: str | None = _setting(
        None, "your own preprocessing outside training, package.module:callable", "--eval-transform"
    )
    # the model
    model: str | None = _setting(
        None, "`holdfast models` lists them; your own as package.module:Class", "--model", "-m", "--arch"
    )
    model_args: dict[str, Any] = _setting({}, "arguments of the model, as --set model_args.NAME=VALUE")
    weights: str | None = _setting(
        None, "start from these: `pretrained`, or any checkpoint: file, folder, run", "--init", "--weights"
    )
    role: str | None = _setting(None, "which model of several in --init: model, ema …", "--role")
    prefix: str | None = _setting(None, "only the names in --init that begin so, and without it", "--prefix")
    rename: list[str] = _setting([], "rules 'regex=>replacement' for the names in --init, comma-separated", "--rename")
    min_matched: float = _setting(
        0.5, "share of the model's parameters that --init must fill, 0 to 1", "--min-matched", recipe=False
    )
    freeze: list[str] = _setting(
        [], "parameters to leave as they are: names or their beginnings, comma-separated", "--freeze"
    )
    # the training
    epochs: int | None = _setting(None, "passes over the training set; +N goes on for N more", "--epochs")
    batch_size: int | None = _setting(None, "pictures a step", "--batch-size", "-b", "--batch")
    optimizer: str | None = _setting(None, "sgd, adamw, adam", "--optimizer", "--opt")
    lr: float | None = _setting(None, "learning rate after warm-up", "--lr", "--lr0", "--learning-rate")
    weight_decay: float | None = _setting(
        None, "decay of weights (biases and norms are spared)", "--weight-decay", "--wd"
    )
    momentum: float = _setting(0.9, "momentum of sgd", "--momentum")
    optimizer_args: dict[str, Any] = _setting(
        {}, "further arguments of the optimizer, as --set optimizer_args.NAME=VALUE"
    )
    lr_scales: dict[str, float] = _setting({}, "learning rates of their own, as --set lr_scales.PARAMETERS=FACTOR")
    schedule: str = _setting(
        "cosine", "the learning rate's curve", "--schedule", "--sched", choices=("cosine", "step", "constant")
    )
    warmup_epochs: float | None = _setting(None, "epochs of linear warm-up", "--warmup-epochs")
    min_lr: float = _setting(0.0, "where the cosine ends", "--min-lr")
    loss: str | None = _setting(
        None, "cross-entropy, nll, bce, mse, l1, smooth-l1, wing, or your own as package.module:name", "--loss"
    )
    label_smoothing: float = _setting(0.0, "of cross-entropy, in [0, 1)", "--label-smoothing", "--smoothing")
    seed: int = _setting(0, "decides the split, the first weights, the order and every random number", "--seed")
    precision: str = _setting("fp32", "fp32, or bf16 for autocast", "--precision", choices=("fp32", "bf16"))
    deterministic: bool = _setting(
        True, "deterministic algorithms only; without them no resume is exact", "--deterministic/--no-deterministic"
    )
    # the machine
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, mps", "--device", recipe=False)
    workers: int | None = _setting(
        None, "processes that prepare pictures; changes nothing but speed", "--workers", "-j", recipe=False
    )
    # the run
    save_every: str = _setting("1epoch", "N steps, Nmin minutes, or Nepoch epochs", "--save-every", recipe=False)
    keep: str = _setting(
        "3",
        "checkpoints to keep besides the best: the newest N, `all`, or more rules such as 3,every:5epochs,best:2",
        "--keep",
        recipe=False,
    )
    time_budget: str | None = _setting(
        None,
        "stop in time, saved, to go on later: 8h, 90min, 1:30:00 (hours:minutes:seconds)",
        "--time-budget",
        recipe=False,
    )
    grace: str = _setting("30s", "what the system leaves between SIGTERM and SIGKILL", "--grace", recipe=False)
    log_every: int | None = _setting(
        None, "print one line every N steps, plain and unbuffered", "--log-every", recipe=False
    )
    trace_samples: str | None = _setting(
        None, "append one line a step to this file: step epoch index index …", "--trace-samples", recipe=False
    )
    tensorboard: bool = _setting(
        False, "write TensorBoard curves into the run directory", "--tensorboard/--no-tensorboard", recipe=False
    )

    def recipe(self) -> dict[str, Any]:
        """Returns the settings that decide the weights."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["recipe"]}

    def replace(self, **values: Any) -> Config:
        """Returns a copy with some settings changed."""
        return dataclasses.replace(self, **values)

    def to_yaml(self) -> str:
        """Returns a configuration file that asks for just this."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
_TYPES = typing.get_type_hints(Config)


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Iterable[str] = (),
) -> Config:
    """Builds the settings: defaults < file < environment < flags < `--set` assignments.

    Args:
        file: YAML with the names of the settings as keys.
        environ: HOLDFAST_EPOCHS=20 and the like; by default the process's environment. HOLDFAST_TEST_DATA is no setting
            and is left alone.
        flags: setting → value, None for a flag that was not given.
        assignments: texts such as `lr=0.1` and `model_args.dropout=0.5`.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of the wrong kind; the place is named.
    """
    values: dict[str, Any] = {}
    if file is not None:
        _merge(values, _read_file(file), f"in {file}")
    for name, text in (os.environ if environ is None else environ).items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in OTHER_VARIABLES:
            _merge(values, {key: text}, f"in the environment ({name})")
    _merge(values, {k: v for k, v in (flags or {}).items() if v is not None}, "on the command line")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as --set lr=0.1.")
        _merge(values, _nested(key.strip(), _parse_scalar(text)), f"in --set {assignment}")
    return Config(**values)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ` Did you mean 'x'?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def _merge(values: dict[str, Any], more: Mapping[str, Any], where: str) -> None:
    for key, value in more.items():
        name = str(key).replace("-", "_")
        if name not in FIELDS:
            raise ConfigError(f"Unknown setting {key!r} {where}.{nearest(name, FIELDS)}")
        checked = _checked(name, value, where)
        values[name] = {**values.get(name, {}), **checked} if isinstance(checked, dict) else checked


def _checked(name: str, value: Any, where: str) -> Any:
    """Returns `value` as the setting's type, or raises naming the setting, the value and the place."""
    wanted = _TYPES[name]
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    choices = FIELDS[name].metadata["choices"]
    try:
        result = _convert(value, kind)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{name} is {value!r} {where}; expected {_describe(kind)}.") from error
    if choices and result not in choices:
        raise ConfigError(
            f"{name} is {value!r} {where}; expected one of {', '.join(choices)}.{nearest(str(value), choices)}"
        )
    return result


def _convert(value: Any, kind: Any) -> Any:
    origin = typing.get_origin(kind) or kind
    if kind is bool:
        word = str(value).lower()
        if word not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ValueError
        return word in ("true", "1", "yes", "on")
    if kind in (int, float) and isinstance(value, bool):
        raise ValueError
    if kind is int and isinstance(value, (int, str, float)):
        number = int(value) if str(value).strip().lstrip("+-").isdecimal() else float(value)
        if number != number // 1 or abs(number) >= 2**63:
            raise ValueError
        return int(number)
    if (kind is str and isinstance(value, (list, dict))) or (origin is list and isinstance(value, dict)):
        raise ValueError
    if origin is list:
        entry = typing.get_args(kind)[0]
        entries = value.split(",") if isinstance(value, str) else value
        return [str(v).strip() if entry is str else _convert(v, entry) for v in entries]
    if origin is dict:
        table = dict(yaml.safe_load(value) if isinstance(value, str) else value)
        return {str(name): _convert_entry(entry, typing.get_args(kind)[1]) for name, entry in table.items()}
    return kind(value)


def _convert_entry(value: Any, kind: Any) -> Any:
    if kind is not Any:
        return _convert(value, kind)
    # YAML 1.1 takes 1e-8 for text; nobody means that.
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(
        kind, {list: "a list", dict: "a table of names and values"}.get(typing.get_origin(kind) or kind, str(kind))
    )


def _nested(key: str, value: Any) -> dict[str, Any]:
    """`model_args.dropout` sets one entry of a table; further dots belong to its name (`lr_scales.layer4.1`)."""
    name, dot, entry = key.partition(".")
    return {name: {entry: value}} if dot else {name: value}


def _parse_scalar(text: str) -> Any:
    try:
        return float(text) if "e" in text.lower() and text.strip()[0] in "0123456789.-+" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Reading the settings in {path}: {' '.join(str(error).split())}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"Reading the settings in {path}: found a {type(values).__name__}; expected lines of `key: value`."
        )
    return values


SaveUnit = Literal["steps", "minutes", "epochs"]


def parse_save_every(text: str) -> tuple[float, SaveUnit]:
    """Reads `500`, `10min` or `1epoch`.

    Raises:
        ConfigError: it is none of these.
    """
    units: dict[str, SaveUnit] = {
        "min": "minutes",
        "epochs": "epochs",
        "epoch": "epochs",
        "steps": "steps",
        "step": "steps",
    }
    number, unit = text.strip().lower(), "steps"
    for suffix, name in units.items():
        if number.endswith(suffix):
            number, unit = number.removesuffix(suffix).strip(), name
            break
    try:
        value = float(number)
        if not 0 < value < math.inf or (unit != "minutes" and not value.is_integer()):
            raise ValueError
    except ValueError as error:
        raise ConfigError(
            f"save_every is {text!r}; expected a number of steps (500), minutes (10min) or epochs (1epoch)."
        ) from error
    return value, typing.cast(SaveUnit, unit)


_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, setting: str) -> float:
    """Reads `45s`, `90min`, `8h`, `2d` or `1:30:00` (hours:minutes:seconds) and returns seconds, above 0.

    Raises:
        ConfigError: it is none of these; `setting` is named.
    """
    words = re.fullmatch(r"(\d+\.?\d*)\s*(s|sec|min|h|d)", text.strip().lower())
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d)(?::([0-5]?\d))?", text.strip())
    seconds = 0.0
    if words:
        seconds = float(words[1]) * _SECONDS[words[2]]
    elif clock:  # as SLURM writes it
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    if not seconds > 0:
        raise ConfigError(f"{setting} is {text!r}; expected a duration such as 45s, 90min, 8h or 1:30:00.")
    return seconds
