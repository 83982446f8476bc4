"""What a run learns of a picture: the choices that depend on it, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from holdfast.config import Config
from holdfast.data.answers import figures, in_own_terms
from holdfast.data.preprocessing.keypoints import joint_train_transform, mean_shape
from holdfast.data.preprocessing.transforms import Preprocessing
from holdfast.data.tables.point_names import FACE_68_EYES, pairs_from_names, parse_eyes, parse_flip_pairs
from holdfast.data.targets import Targets, TargetSpec, Task, targets_of
from holdfast.errors import ConfigError
from holdfast.run.prepare import PreparedData
from holdfast.training import rescaled, standardised
from holdfast.training.evaluate import Measure
from holdfast.training.state import Loss

_MEASURED_SHAPES = 2000  # pictures whose points the mean shape is taken from: enough for three digits
Choose = Callable[[str, Any, str], None]

_LOSSES: dict[Task, tuple[str, ...]] = {  # the first is the default
    "classification": ("cross-entropy", "nll", "mse"),
    "multilabel": ("bce", "mse"),
    "regression": ("mse", "smooth-l1", "l1", "wing"),
    "landmarks": ("wing", "smooth-l1", "l1", "mse"),
}
_ALL_LOSSES = {loss for losses in _LOSSES.values() for loss in losses}


def choose_for_task(choose: Choose, resolved: Config, targets: TargetSpec) -> None:
    """Fills in what depends on the task: loss, resize, augmentation, and what a mirrored picture's points are called.

    Raises:
        ConfigError: a setting of another task, or one that the targets cannot have.
    """
    task = targets.task
    if resolved.task is None and task != "classification":
        choose("task", task, "columns of x and y in pairs, and none of labels")
    for setting, value in (("task", task), ("loss", _LOSSES[task][0]), ("resize", "short")):
        # Nobody who has classes wants to be told; what the others are given is said.
        if task == "classification" and getattr(resolved, setting) is None:
            object.__setattr__(resolved, setting, value)
    _refuse_other_tasks(resolved, task)
    if task == "classification":
        return
    reasons = {
        "multilabel": "every label by itself",
        "regression": "of standardised numbers",
        "landmarks": "small errors count too",
    }
    choose("loss", _LOSSES[task][0], reasons[task])
    choose(
        "resize", "short" if task == "multilabel" else "exact", "usual" if task == "multilabel" else "nothing is cut"
    )
    if task == "regression":
        choose("augment", "shift", "a flip or a large crop could change the numbers")
    if task == "landmarks":
        _choose_for_points(choose, resolved, targets)


def _choose_for_points(choose: Choose, resolved: Config, targets: TargetSpec) -> None:
    if pairs_from_names(targets.names):
        choose("flip_pairs", "names", "left and right in the points' names")
    else:
        choose("flip_pairs", "none", "nothing says which points change places in a mirrored picture")
    pairs = parse_flip_pairs(resolved.flip_pairs or "none", targets.names)
    choose(
        "augment",
        "affine+flip+color" if pairs else "affine+color",
        "points go along" if pairs else "points go along; no flip, for want of pairs",
    )
    if resolved.eyes:
        parse_eyes(resolved.eyes, targets.names)
    if not resolved.train_transform:
        joint_train_transform(Preprocessing(8, 8, (0.0,), (1.0,)), resolved.augment or "none", pairs)


def _refuse_other_tasks(resolved: Config, task: Task) -> None:
    for setting in ("flip_pairs", "eyes"):
        if getattr(resolved, setting) is not None and task != "landmarks":
            raise ConfigError(
                f"{setting} is for points, and the task is {task}. Leave it out, or give --task landmarks."
            )
    if task == "landmarks" and resolved.eval_transform:
        raise ConfigError(
            "--eval-transform cannot be used with points: nobody could say where on the picture they lie. Use --resize "
            "and --img-size."
        )
    loss = resolved.loss
    if loss in _ALL_LOSSES and loss not in _LOSSES[task]:
        raise ConfigError(
            f"The loss {loss} does not fit the task {task}. Choose one of: {', '.join(_LOSSES[task])}, or "
            "package.module:function."
        )


def target_spec(config: Config, targets: Targets) -> TargetSpec:
    """Returns what the outputs mean under the resolved `config`. Raises ConfigError."""
    names = tuple(targets.names)
    if targets.task == "landmarks":
        eyes = parse_eyes(config.eyes, names) if config.eyes else None
        if eyes is None and config.flip_pairs == "68":
            eyes = FACE_68_EYES
        pairs = parse_flip_pairs(config.flip_pairs or "none", names)
        spec = TargetSpec("landmarks", names, flip_pairs=pairs, eyes=eyes)
    else:
        spec = TargetSpec(targets.task, names)
    return replace(spec, mean=tuple(config.target_mean or ()), std=tuple(config.target_std or ()))


def with_statistics(config: Config, data: PreparedData, preprocessing: Preprocessing) -> Config:
    """Returns the settings with mean and standard deviation of the training set's numbers or points, measured once."""
    targets, train = targets_of(data.collection.pictures), data.sets["train"]
    if targets.task == "landmarks" and targets.sizes is not None:
        some = train[np.linspace(0, len(train) - 1, min(_MEASURED_SHAPES, len(train))).astype(np.int64)]
        mean, std = mean_shape(targets.values[some], targets.sizes[some], preprocessing)
        return config.replace(target_mean=mean, target_std=std)
    if targets.task != "regression":
        return config
    spec = targets.spec().standardised(targets.values[train])
    return config.replace(target_mean=list(spec.mean), target_std=list(spec.std))


def loss_for(spec: TargetSpec, loss: Loss) -> Loss:
    """Returns the loss of outputs as the network gives them and targets as a batch holds them."""
    if spec.task == "regression":
        return standardised(loss, spec.mean, spec.std)
    return rescaled(loss, spec.mean, spec.std) if spec.mean else loss


def measure_for(spec: TargetSpec, targets: Targets, preprocessing: Preprocessing) -> Measure:
    """Returns what evaluates outputs against the targets as they are: points in pixels of their own pictures."""

    def measure(outputs: Any, _: Any, indices: Any) -> dict[str, float]:
        chosen = np.asarray(indices)
        sizes = None if targets.sizes is None else targets.sizes[chosen]
        return figures(in_own_terms(outputs, spec, preprocessing, sizes), targets.align(spec.names, chosen), spec)

    return measure
