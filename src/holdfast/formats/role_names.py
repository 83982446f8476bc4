"""What the parts of a file are called: the role of weights, from the words on the way to them in the file's tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from holdfast.formats.names import ALWAYS, COUNTERS, EMA, WHERE_ALONE

# Words that say no more than that there is a model.
MODEL_WORDS = {
    "", "sd", "model", "net", "network", "state", "weights", "weight", "params", "param", "module", "model_state",
    "blobs",
}  # fmt: skip
_EMA_WORDS = {"ema", "averaged", "average", "swa", "shadow", "polyak"}
# Where programs keep their settings, and their records of a training: tensors there are no model beside one.
_SETTINGS = {
    "args", "arguments", "config", "configs", "cfg", "hparams", "hyperparameters", "hyper_parameters", "options",
    "settings",
}  # fmt: skip
_RECORDS = {
    "metrics", "metric", "history", "histories", "logs", "log", "losses", "results", "result", "stats", "statistics",
    "scores", "curves", "evaluation", "eval", "confusion", "predictions", "outputs",
}  # fmt: skip
# Where an optimizer's state is, of whatever form: its moments have the shapes of weights, and are none.
_OPTIMIZERS = {"optimizer", "optimizers", "optim", "optimizer_states"}
_ENDINGS = r"[_.\- ]?(state_?dict|weights|params|state|dict)$"
# Prefixes of a Lightning module's names that stand for models of their own.
_PARTS = {
    "generator", "discriminator", "gen", "disc", "g", "d", "netg", "netd", "net_g", "net_d", "encoder", "decoder",
    "student", "teacher", "actor", "critic", "generator_ema", "ema",
}  # fmt: skip

_WRAPPERS = ALWAYS | WHERE_ALONE

State = dict[str, Any]
Path = tuple[str, ...]


def bare_word(path: Path) -> str:
    """Returns the last word of a path in small letters, without what only says that it is a state."""
    return re.sub(_ENDINGS, "", path[-1].lower().strip("_")) if path else ""


def expects_weights(path: Path, *, row: bool = False) -> bool:
    """Returns whether a place of the tree is called as weights are, or is the whole file.

    Args:
        row: whether what is there is a list; nothing but an average's parameters is called `ema` and is one.
    """
    if not path or path[-1].lower().strip("_") == "state":  # anything has a state
        return not path
    words = set(re.split(r"[_.\-]", path[-1].lower()))
    rest = "_".join(sorted(words - _EMA_WORDS - {"dict"}))
    if row and not rest and words & _EMA_WORDS:
        return True
    return bare_word((path[-1],)) in MODEL_WORDS or (rest != "" and bool(words & _EMA_WORDS) and rest in MODEL_WORDS)


def are_no_model(found: dict[Path, State]) -> frozenset[Path]:
    """Returns the paths of tensors that are no weights, where there is a model beside them.

    They are settings, records of a training, in an optimizer's state, or whole numbers alone: an order of samples.
    """
    aside = set()
    for path, state in found.items():
        words = {word.lower() for word in path}
        plain = not any("." in name or name in ("weight", "bias") for name in state)
        kept_for = _OPTIMIZERS | {"opt"} if plain else _OPTIMIZERS  # a language model is called OPT
        of_optimizer = any(word in kept_for or bare_word((word,)) in kept_for for word in words)
        if (
            words & _SETTINGS
            or of_optimizer
            or (plain and all(map(_is_whole_number, state.values())))
            or (plain and (words & _RECORDS or _ends_like(words, _RECORDS)))
        ):
            aside.add(path)
    return frozenset(aside) if len(aside) < len(found) else frozenset()


def _is_whole_number(tensor: Any) -> bool:
    return str(getattr(tensor, "dtype", "")) in ("int64", "int32", "int16", "bool")


def _ends_like(words: Iterable[str], endings: set[str]) -> bool:
    return any(re.split(r"[_.\-]", word)[-1] in endings for word in words)


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


def split_average(weights: State) -> tuple[str, State, State] | None:
    """Returns the two halves of weights that hold a model and its average; None where they do not.

    EMA modules that carry their model save both in one state dict: `online_model.*` and `ema_model.*`, or `model.*` and
    `model_ema.*`. It is told by the word and by the tensors: whatever has axes in the average is in the model too, in
    the same shape; dots do not count, as some averages leave them out, nor words of wrappers (timm's and torch's
    averages have `module.` in front). Names stay those of the file.

    Returns:
        The word before the model's names, the model with everything that is not the average's, and the average. What
        the average's module counts is the average's, where there is nothing but these two.
    """
    depth = _common_depth([name for name in weights if name not in COUNTERS])
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in weights.items():
        words = name.split(".", depth + 1)
        if len(words) == depth + 2:
            bare = [word for word in words[-1].split(".") if word not in _WRAPPERS] or words[-1:]
            parts.setdefault(words[depth], {})["".join(bare)] = getattr(tensor, "shape", None)
    averages = [word for word in parts if word in EMA]
    if len(averages) != 1:
        return None
    average = averages[0]
    wanted = {tail: shape for tail, shape in parts.pop(average).items() if shape}
    partner = next((w for w, held in parts.items() if all(held.get(t) == shape for t, shape in wanted.items())), None)
    if partner is None or not wanted:
        return None
    of_average = {name for name in weights if name.split(".", depth + 1)[depth : depth + 1] == [average]}
    loose = {name for name in weights if name in COUNTERS}
    alone = len(parts) == 1 and sum(len(held) for held in parts.values()) + len(of_average) + len(loose) == len(weights)
    if alone:
        of_average |= loose
    model = {name: tensor for name, tensor in weights.items() if name not in of_average}
    return partner, model, {name: tensor for name, tensor in weights.items() if name in of_average}


def _common_depth(names: list[str]) -> int:
    """Returns how many words all names begin with alike, each having another one behind them."""
    split = [name.split(".") for name in names]
    depth = 0
    while split and all(len(words) > depth + 1 and words[depth] == split[0][depth] for words in split):
        depth += 1
    return depth


def with_averages(weights: dict[str, State], modules: Iterable[int] = ()) -> dict[str, State]:
    """Returns the roles, the average of a model that lies in one with it as a role of its own.

    Args:
        modules: identities of the weights whose names are known to be layers'; they are left whole.
    """
    known, made = set(modules), dict(weights)
    for role, state in weights.items():
        halves = None if id(state) in known else split_average(state)
        if halves is None:
            continue
        word, model, average = halves
        of_average = role == "ema"
        if of_average:  # the model in it is the training's own copy: "model" where there is no other
            other = "model" if "model" not in made else word
            while other in made:
                other += "_"
            made = {**{k: v for k, v in made.items() if k != "ema"}, other: model, "ema": average}
        else:
            called = "ema" if "ema" not in made else f"{role}.ema"
            while called in made:
                called += "_"
            made = {**made, role: model, called: average}
    return made
