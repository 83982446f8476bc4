"""The weights that a run begins with, when --init names some."""

from __future__ import annotations

from pathlib import Path

import torch

from holdfast.config import Config
from holdfast.errors import ConfigError
from holdfast.fitting import LoadReport, load_into
from holdfast.fitting.source import weights_of
from holdfast.models.zoo import pretrained_state
from holdfast.run.build import Workbench

INIT_FILE = "init.json"  # what became of each tensor


def check_first_weights(config: Config) -> None:
    """Raises ConfigError for settings of --init that cannot be meant, before anything is made."""
    given = [f"--{name}" for name in ("role", "prefix", "rename") if getattr(config, name)]
    if given and not config.weights:
        raise ConfigError(f"{', '.join(given)} says what to take from a file, and there is none. Give it: --init FILE.")
    if not 0 <= config.min_matched <= 1:
        raise ConfigError(f"min_matched is {config.min_matched:g}; expected a share from 0 to 1, such as 0.9.")


def open_first_weights(config: Config) -> None:
    """Raises HoldfastError when what --init names is no file with such weights, before anything is made."""
    if config.weights and config.weights != "pretrained":
        weights_of(_path(config.weights), config.role, _rules(config.rename), config.prefix or "")


def load_first_weights(bench: Workbench) -> LoadReport | None:
    """Loads what --init names into the fresh model; None when nothing was asked for. Raises HoldfastError."""
    config = bench.config
    asked = config.weights
    if not asked:
        return None
    source: str | dict[str, torch.Tensor]
    if asked == "pretrained":
        library, _, name = bench.architecture.name.partition(":")
        if library not in ("torchvision", "timm"):
            raise ConfigError(f"There are no published weights of {bench.architecture.name}. Give a file: --init FILE.")
        source = pretrained_state(library, name)
    else:
        source = _path(asked)
    return load_into(
        bench.state.model,
        source,
        role=config.role,
        rename=_rules(config.rename),
        prefix=config.prefix or "",
        classes=list(bench.spec.names) if bench.spec.task in ("classification", "multilabel") else None,
        min_matched=config.min_matched,
    )


def _path(asked: str) -> str:
    """Returns the path that --init names. Raises ConfigError when there is nothing."""
    path = str(Path(asked).expanduser())
    if not Path(path).exists() and "@" not in asked:
        raise ConfigError(f"--init {asked}: there is no such file. Give `pretrained`, or a file, folder or run.")
    return path


def _rules(pieces: list[str]) -> list[str]:
    """Returns the rules, of which a comma within (`{1,2}`) had made two: each has its arrow."""
    rules: list[str] = []
    for piece in pieces:
        if rules and "=>" not in rules[-1]:
            rules[-1] += f",{piece}"
        else:
            rules.append(piece)
    return rules
