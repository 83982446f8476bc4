"""What the parts of a file are called: the role of weights, from the words on the way to them in the file's tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Words that say no more than that there is a model.
MODEL_WORDS = {
    "", "sd", "model", "net", "network", "state", "weights", "weight", "params", "param", "module", "model_state",
}  # fmt: skip
_EMA_WORDS = {"ema", "averaged", "average", "swa", "shadow", "polyak"}
_ENDINGS = r"[_.]?(state_?dict|weights|params|state|dict)$"
# Prefixes of a Lightning module's names that stand for models of their own.
_PARTS = {
    "generator", "discriminator", "gen", "disc", "g", "d", "netg", "netd", "net_g", "net_d", "encoder", "decoder",
    "student", "teacher", "actor", "critic", "generator_ema", "ema",
}  # fmt: skip

State = dict[str, Any]
Path = tuple[str, ...]


def bare_word(path: Path) -> str:
    """Returns the last word of a path in small letters, without what only says that it is a state."""
    return re.sub(_ENDINGS, "", path[-1].lower().strip("_")) if path else ""


def role_of(path: Path) -> str:
    """Returns what a part at a path of the tree is for."""
    for word in reversed(path):
        bare, words = bare_word((word,)), set(re.split(r"[_.\-]", word.lower()))
        if words & _EMA_WORDS:
            return "ema"
        if bare not in MODEL_WORDS and not bare.isdigit():
            return re.sub(_ENDINGS, "", word) or word
    return "model"


def own_name(path: Path) -> str:
    """Returns the last word of a path that is no number: what the file calls an optimizer or a schedule."""
    return next((word for word in reversed(path) if not word.isdigit()), "")


def named_parts(found: dict[Path, State], name: Callable[[Path], str]) -> dict[str, State]:
    """Gives each part a short name. Of those that would have the same, the least nested one keeps it, and the others
    are called by their paths; where several are nested as little, all are: none of them is the obvious one.
    """
    named: dict[str, State] = {}
    shorts = {path: name(path) or "whole" for path in found}
    least: dict[str, list[int]] = {}
    for path, short in shorts.items():
        least.setdefault(short, []).append(len(path))
    for path, state in sorted(found.items(), key=lambda item: len(item[0])):
        short, levels = shorts[path], least[shorts[path]]
        alone = len(path) == min(levels) and levels.count(min(levels)) == 1
        called = short if alone and short not in named else ".".join(path)
        while called in named:  # a key of the file may have a dot of its own
            called += "_"
        named[called] = state
    return named


def split_models(weights: State) -> dict[str, State]:
    """Returns the models that one Lightning module consists of, if its names say so."""
    parts: dict[str, State] = {}
    for name, tensor in weights.items():
        head, _, tail = name.partition(".")
        parts.setdefault(head, {})[tail or name] = tensor
    known = [head for head in parts if head.lower() in _PARTS]
    return {head: parts[head] for head in known} if len(known) > 1 else {}
