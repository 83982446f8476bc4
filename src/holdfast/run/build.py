"""From resolved settings to live objects: model, optimizer, schedule, loaders. All of it a function of the settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch

from holdfast.checkpoints.digest import digest_of
from holdfast.config import Config
from holdfast.data import Loader
from holdfast.data.files import FilePictures
from holdfast.data.loading.sampling import Sampling
from holdfast.data.preprocessing.keypoints import joint_eval_transform, joint_train_transform
from holdfast.data.preprocessing.transforms import Preprocessing, eval_transform, train_transform
from holdfast.data.sample import Indices, Pictures, SetName
from holdfast.data.targets import TargetSpec, targets_of
from holdfast.distributed import current_world
from holdfast.errors import ConfigError
from holdfast.inference import choose_device, fixed_batch_size
from holdfast.models.registry import Architecture
from holdfast.randomness import derive_seed, seed_generators
from holdfast.run.caching import PictureCache, without_cache
from holdfast.run.prepare import PreparedData, default_workers
from holdfast.run.recipe import DataSummary, preprocessing_for
from holdfast.run.task import loss_for, measure_for, target_spec
from holdfast.training import TrainState, build_loss, build_optimizer, build_schedule
from holdfast.training.evaluate import Measure
from holdfast.training.freeze import freeze
from holdfast.training.schedule import Schedule


@dataclass
class Workbench:
    """Everything a run works with, built and not yet restored."""

    config: Config
    data: PreparedData
    architecture: Architecture
    preprocessing: Preprocessing
    state: TrainState
    loader: Loader
    workers: int
    spec: TargetSpec
    measure: Measure
    cache: PictureCache

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the training set."""
        return self.loader.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * (self.config.epochs or 0)

    def metadata(self) -> dict[str, Any]:
        """Returns what every checkpoint carries besides the state: all that is needed to use the model elsewhere."""
        named = {"classes": list(self.spec.names)} if self.spec.task in ("classification", "multilabel") else {}
        targets = {} if self.spec.task == "classification" else {"targets": self.spec.to_json()}
        return {
            "architecture": self.architecture.to_json(),
            "task": self.spec.task,
            **named,
            **targets,
            "preprocessing": self.preprocessing.to_json(),
            "precision": self.config.precision,
            "optimizer": self.config.optimizer,
            "fingerprints": {"recipe": digest_of(json.dumps(self.config.recipe(), sort_keys=True).encode())},
        }

    def eval_loader(self, set_name: SetName) -> Loader:
        """Returns a loader over a set with the transform of predictions, in its own order."""
        device = self.state.device
        return Loader(
            self.cache.wrap(self.data.collection.pictures, set_name),
            self.data.sets[set_name],
            batch_size=fixed_batch_size(device) * (1 if device.type == "cuda" else 4),
            transform=_eval_transform(self.spec, self.preprocessing),
            seed=self.config.seed,
            num_workers=self.workers,
            pin_memory=device.type == "cuda",
            device=device,
        )


def set_up_torch(config: Config) -> torch.device:
    """Chooses the device and the kind of algorithms, for this process.

    Raises:
        ConfigError: no such device, or several processes (not there yet).
    """
    if current_world().world_size > 1:
        raise ConfigError("WORLD_SIZE is above 1: training with several processes is not there yet. Start one process.")
    # cuBLAS reads this when CUDA starts; without it matrix products are not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms, which imports torch's compiler (seconds).
    torch.set_deterministic_debug_mode("error" if config.deterministic else "default")
    torch.backends.cudnn.benchmark = not config.deterministic
    # Filling fresh memory with NaN on every allocation guards against code that reads it; ours and torch's do not.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return choose_device(config.device)


def build(
    config: Config,
    data: PreparedData,
    summary: DataSummary,
    device: torch.device,
    cache: PictureCache | None = None,
) -> Workbench:
    """Builds the run's objects; the model gets its first weights from the seed. Raises ConfigError.

    Args:
        cache: as planned for these settings and data; None keeps no decoded pictures. Bits are the same.
    """
    assert config.model and config.lr and config.optimizer and config.batch_size and config.augment
    pictures = data.collection.pictures
    if isinstance(pictures, FilePictures):
        pictures.channels = summary.channels
    preprocessing = preprocessing_for(config, summary)
    targets = targets_of(pictures)
    spec = target_spec(config, targets)
    architecture = Architecture.of(
        config.model, spec.num_outputs, preprocessing.channels, preprocessing.img_size, config.model_args
    )
    seed_generators(derive_seed("init", config.seed))
    model = architecture.build()
    freeze(model, config.freeze)
    model.to(device)
    optimizer = build_optimizer(
        model,
        config.optimizer,
        config.lr,
        weight_decay=config.weight_decay or 0.0,
        momentum=config.momentum,
        lr_scales=config.lr_scales,
        **config.optimizer_args,
    )
    workers = default_workers(config, data.collection)
    cache = cache or without_cache(config, preprocessing)
    cache.open(pictures, data.sets)
    transform = training_transform(spec, preprocessing, config)
    loader = _train_loader(config, cache.wrap(pictures, "train"), data.sets["train"], transform, workers, device)
    state = TrainState(
        model,
        optimizer,
        loss_for(spec, build_loss(config.loss or "cross-entropy", config.label_smoothing)),
        schedule_of(config, loader.steps_per_epoch),
        seed=config.seed,
        precision=config.precision,
    )
    measure = measure_for(spec, targets, preprocessing)
    return Workbench(config, data, architecture, preprocessing, state, loader, workers, spec, measure, cache)


def _train_loader(
    config: Config,
    pictures: Pictures,
    indices: Indices,
    transform: Callable[..., Any],
    workers: int,
    device: torch.device,
) -> Loader:
    return Loader(
        pictures,
        indices,
        batch_size=min(config.batch_size or 1, len(indices)),
        transform=transform,
        seed=config.seed,
        shuffle=True,
        sampling=cast(Sampling, config.sampling),
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        device=device,
        epochs=config.epochs,
    )


def training_transform(spec: TargetSpec, preprocessing: Preprocessing, config: Config) -> Callable[..., Any]:
    """Returns what a training under the resolved `config` does to a picture; to one with points, to both.

    Raises:
        ConfigError: an augmentation that there is not, or a transform of the user's own that cannot be imported.
    """
    augment = config.augment or "none"
    if spec.task == "landmarks":
        return joint_train_transform(preprocessing, augment, spec.flip_pairs, config.train_transform)
    return train_transform(preprocessing, augment, config.train_transform)


def _eval_transform(spec: TargetSpec, preprocessing: Preprocessing) -> Callable[..., Any]:
    return joint_eval_transform(preprocessing) if spec.task == "landmarks" else eval_transform(preprocessing)


def schedule_of(config: Config, steps_per_epoch: int) -> Schedule:
    """Returns the learning rate as a function of the step."""
    assert config.lr and config.epochs
    return build_schedule(
        config.schedule,
        config.lr,
        config.epochs * steps_per_epoch,
        warmup_steps=round((config.warmup_epochs or 0) * steps_per_epoch),
        min_lr=config.min_lr,
    )
