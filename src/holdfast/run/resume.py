"""The same command again: what may differ from the run's first command, and what may not."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from holdfast.config import FIELDS, Config
from holdfast.errors import ConfigError
from holdfast.words import count

# They decide what a step is, or what the weights mean: a run cannot change them under way, only a fork can.
_REDEFINE_STEPS = (
    *("batch_size", "seed", "sampling", "classes", "val_fraction", "test_fraction", "fold", "group_by"),
    "on_bad_image",
)
_REDEFINE_WEIGHTS = ("task", "target_columns", "model", "model_args", "freeze", "optimizer", "lr_scales")


@dataclass(frozen=True)
class Difference:
    """A setting of the recipe that is not what it was."""

    setting: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.setting}: {self.then} → {self.now}"


def asked_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that were asked for, those left open and those at their default left out."""
    default = Config()
    asked = {name: value for name in FIELDS if (value := getattr(config, name)) != getattr(default, name)}
    plain: dict[str, Any] = json.loads(json.dumps(asked))  # as they are read back: a tuple is a list
    return plain


def recipe_differences(
    asked_then: dict[str, Any] | None, stored: Config, asked: Config, resolved: Config
) -> list[Difference]:
    """Compares two commands. The same words mean the same recipe, also when a newer version would choose otherwise.

    Args:
        asked_then: `asked_settings` of the run's first command, None when unknown.
        stored: the settings the run was begun with, resolved.
        asked, resolved: this command's.
    """
    recipe_names = [f.name for f in dataclasses.fields(Config) if f.metadata["recipe"] and f.name != "epochs"]
    now = asked_settings(asked)
    if asked_then is not None:
        # What follows from other settings (a warm-up from the epochs) is no change of its own.
        recipe_names = [name for name in recipe_names if asked_then.get(name) != now.get(name)]
    return [
        Difference(name, getattr(stored, name), getattr(resolved, name))
        for name in recipe_names
        if getattr(stored, name) != getattr(resolved, name)
    ]


def refuse(differences: list[Difference], out: object, *, forced: bool) -> None:
    """Raises ConfigError with the differences, unless there are none or `forced` allows them."""
    if not differences:
        return
    listed = "\n".join(f"  {difference}" for difference in differences)
    if not forced:
        raise ConfigError(
            f"The run in {out} was begun with another recipe:\n{listed}\n"
            "Run its own command to go on with it, give another --out for a new run, --fork NEW to go on from its "
            "newest checkpoint in a new folder, or --force to change it here."
        )
    fixed = [d for d in differences if d.setting in (*_REDEFINE_STEPS, *_REDEFINE_WEIGHTS)]
    if fixed:
        raise ConfigError(
            f"--force cannot change what a step or a weight of the run in {out} means:\n"
            + "\n".join(f"  {difference}" for difference in fixed)
            + "\nGive another --out for a new run."
        )


def target_epochs(
    stored: int, finished: bool, asked: int | None, more: int | None, extensions: list[dict[str, Any]]
) -> int:
    """Returns how many epochs the run shall have.

    `--epochs N` above what it had goes on to N. `--epochs +N` adds N to what it has; while the run it
    lengthened is under way, the same words are the same command.

    Raises:
        ConfigError: fewer epochs than the run has.
    """
    if extensions and extensions[-1]["to"] > stored:
        stored = extensions[-1]["to"]  # lengthened, and killed before the settings said so
        finished = False
    if more is not None:
        if not finished and extensions and extensions[-1].get("more") == more:
            return stored
        return stored + more
    if asked is None or asked == stored:
        return stored
    # The command that began the run names the first length; a run that was extended since does not shrink back.
    if extensions and asked == extensions[0].get("from"):
        return stored
    if asked < stored:
        raise ConfigError(
            f"The run has {count(stored, 'epoch')} and --epochs asks for {asked}. Give another --out for a shorter run."
        )
    return asked
