"""The names of a file's tensors without the words that wrappers put into them, told by the names alone.

Training wraps models: for several devices, for the compiler, to average weights, to be a part of a larger program. The
names in a file keep a word of each wrapper: `module.features.module.0.weight`. Where there is a model to load into,
its own names decide (`fitting/resolve.py`); here is what can be said without one.
"""

from __future__ import annotations

from collections.abc import Iterable

# Nobody calls a layer so: these words are left out wherever they stand.
ALWAYS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module", "_forward_module"}
# A layer may be called so. It is a wrapper's word where everything beside it has it too.
WHERE_ALONE = {"module"}
# What programs call the model within themselves; left out at the front, when all names have it.
IN_FRONT = {
    "module", "model", "net", "network", "state_dict", "model_state_dict", "ema", "ema_model", "averaged_model",
    "model_ema", "student", "online_network", "online_model", "_model", "wrapped_model", "base_model",
}  # fmt: skip
EMA = {"ema", "ema_model", "averaged_model", "model_ema", "average_model", "swa_model"}
# What wrappers that average count beside the model, and the words that such wrappers put into the model's names.
COUNTERS = {"n_averaged", "initted", "step", "steps", "global_step", "num_updates"}
_AVERAGING = WHERE_ALONE | EMA | {"online_model"}


def plain_names(names: Iterable[str], *, in_front: bool = True) -> dict[str, str]:
    """Returns the plain name for each of the names, in their order; the counters of wrappers are left out.

    A counter is a wrapper's only where the word of one that averages is left out of all other names; else it is a
    tensor of the model. A name stays as it is when two would become one.

    Args:
        names: of one model's tensors.
        in_front: whether words in front may be left out too; no for a module of which the whole tree is known.
    """
    names = list(names)
    tokens = _without_words([name for name in names if name not in COUNTERS], in_front=in_front)
    gone = [set(name.split(".")) - set(words) for name, words in tokens.items()]
    if len(tokens) < len(names) and not (gone and set.intersection(*gone) & _AVERAGING):
        tokens = _without_words(names, in_front=in_front)
    found = {name: ".".join(words) for name, words in tokens.items()}
    taken: dict[str, int] = {}
    for value in found.values():
        taken[value] = taken.get(value, 0) + 1
    return {name: value if taken[value] == 1 else name for name, value in found.items()}


def _without_words(names: list[str], *, in_front: bool) -> dict[str, list[str]]:
    """Returns name → its words, without those of wrappers."""
    tokens = {name: [word for word in name.split(".") if word not in ALWAYS] or [name] for name in names}
    tokens = _without_lonely_words(tokens)
    if in_front:
        while word := _common_front(tokens.values()):
            if word not in IN_FRONT:
                break
            tokens = {name: words[1:] for name, words in tokens.items()}
            tokens = _without_lonely_words(tokens)
    return tokens


def _common_front(all_words: Iterable[list[str]]) -> str | None:
    """Returns the word that all names begin with, if each has another one behind it."""
    first: str | None = None
    for words in all_words:
        if len(words) < 2 or (first is not None and words[0] != first):
            return None
        first = words[0]
    return first


def _without_lonely_words(tokens: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leaves out a wrapper's word at every place where it is all that its parent holds."""
    beside: dict[tuple[str, ...], set[str]] = {}
    for words in tokens.values():
        for i, word in enumerate(words):
            beside.setdefault(tuple(words[:i]), set()).add(word)
    made: dict[str, list[str]] = {}
    for name, words in tokens.items():
        last = len(words) - 1
        made[name] = [
            word
            for i, word in enumerate(words)
            if i == last or word not in WHERE_ALONE or beside[tuple(words[:i])] - COUNTERS != {word}
        ]
    return made
