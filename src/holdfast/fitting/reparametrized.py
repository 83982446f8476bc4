"""One form for the names of weights that torch keeps in parts: weight norm and spectral norm, the old way and the new.

Old: `weight_g`, `weight_v` (weight norm); `weight_orig`, `weight_u`, `weight_v` (spectral norm).
New: `parametrizations.weight.original0`, `….original1`; `parametrizations.weight.original`, `….0._u`, `….0._v`.
The values are the same ones; only the names differ.

Source: torch.nn.utils.weight_norm, spectral_norm, and torch.nn.utils.parametrizations of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping

Words = tuple[str, ...]

_WEIGHT_NORM = {"g": ("original0",), "v": ("original1",)}
_SPECTRAL_NORM = {"orig": ("original",), "u": ("0", "_u"), "v": ("0", "_v")}


def one_form(names: Mapping[str, Words]) -> dict[str, Words]:
    """Returns each name's words, those of reparametrized weights in the new form.

    Args:
        names: name → its words. What counts is what stands beside a word: `weight_v` beside a `weight_g` is one thing,
            beside a `weight_orig` another, and alone it is a tensor of that name.
    """
    there = set(names.values())
    made = {name: _new_form(words, there) for name, words in names.items()}
    return made if len(set(made.values())) == len(set(names.values())) else dict(names)


def _new_form(words: Words, there: set[Words]) -> Words:
    own, _, part = words[-1].rpartition("_") if words else ("", "", "")
    if not own:
        return words
    above = words[:-1]

    def beside(other: str) -> bool:
        return (*above, f"{own}_{other}") in there

    if part in _WEIGHT_NORM and beside("g") and beside("v"):
        return (*above, "parametrizations", own, *_WEIGHT_NORM[part])
    if part in _SPECTRAL_NORM and beside("orig") and beside("u"):
        return (*above, "parametrizations", own, *_SPECTRAL_NORM[part])
    return words
