"""Every setting of a run, declared once: its type, default, help text and command-line names.

None means "choose from the data" (`run/recipe.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import yaml

_LINE_WIDTH = 120  # of config.yaml, where a list takes several lines


class _ListsInLine(yaml.SafeDumper):
    """YAML with lists on a line, as people write them: the mean shape of 68 points would take 272 lines otherwise."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = True) -> yaml.SequenceNode:
        """Returns the list as `[a, b]`."""
        return super().represent_sequence(tag, sequence, flow_style)


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
    split: str | None = _setting(
        None,
        "divide DATA as this table says: what `holdfast split` writes, or a run's split.csv",
        "--split",
        recipe=False,
    )
    fold: int | None = _setting(None, "which fold of --split validates, counted from 1", "--fold")
    group_by: str | None = _setting(
        None, "never divide a group: a column of the CSV, or a regular expression on the path", "--group-by"
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
    scaled_decode: bool = _setting(
        True,
        "decode JPEGs no larger than they are needed at (see --decode-size)",
        "--scaled-decode/--no-scaled-decode",
    )
    decode_size: int | None = _setting(
        None,
        "random crops are cut from pictures scaled down to this short side, pixels; 0 for their full size",
        "--decode-size",
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
    sampling: str = _setting(
        "natural",
        "what an epoch visits: every picture once, every class equally often, or half-way between",
        "--sampling",
        choices=("natural", "balanced", "sqrt"),
    )
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
    cache: str = _setting(
        "auto",
        "keep decoded pictures after the first epoch; changes nothing but speed",
        "--cache",
        recipe=False,
        choices=("auto", "ram", "disk", "off"),
    )
    cache_dir: str | None = _setting(
        None, "folder of --cache disk; by default $HOLDFAST_CACHE/pictures", "--cache-dir", recipe=False
    )
    cache_size: str | None = _setting(
        None,
        "what the cache may take, such as 8GB; by default half of the free memory, or a quarter of the free disk",
        "--cache-size",
        recipe=False,
    )
    # the run
    save_every: str = _setting(
        "1epoch", "N steps, Nepoch epochs, or a time: 30s, 10min, 1h", "--save-every", recipe=False
    )
    background_saves: bool = _setting(
        True,
        "train on while a save is written; without, a kill never costs more than --save-every",
        "--background-saves/--no-background-saves",
        recipe=False,
    )
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
        return yaml.dump(
            dataclasses.asdict(self), Dumper=_ListsInLine, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH
        )


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
