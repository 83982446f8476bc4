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
    "model_ema", "student", "online_network", "_model", "wrapped_model", "base_model",
}  # fmt: skip
EMA = {"ema", "ema_model", "averaged_model", "model_ema", "average_model", "swa_model"}
# What wrappers and programs count or keep beside the model.
COUNTERS = {"n_averaged", "initted", "step", "global_step", "num_updates"}


def plain_names(names: Iterable[str], *, in_front: bool = True) -> dict[str, str]:
    """Returns the plain name for each of the names, in their order; the counters of wrappers are left out.

    A name stays as it is when two would become one.

    Args:
        names: of one model's tensors.
        in_front: whether words in front may be left out too; no for a module of which the whole tree is known.
    """
    names = list(names)
    plain = {name: name for name in names if name not in COUNTERS}
    if not plain:
        return {name: name for name in names}
    tokens = {name: [word for word in name.split(".") if word not in ALWAYS] or [name] for name in plain}
    tokens = _without_lonely_words(tokens)
    if in_front:
        while word := _common_front(tokens.values()):
            if word not in IN_FRONT:
                break
            tokens = {name: words[1:] for name, words in tokens.items()}
            tokens = _without_lonely_words(tokens)
    found = {name: ".".join(words) for name, words in tokens.items()}
    taken: dict[str, int] = {}
    for value in found.values():
        taken[value] = taken.get(value, 0) + 1
    return {name: value if taken[value] == 1 else name for name, value in found.items()}


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
