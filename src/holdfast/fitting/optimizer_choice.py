"""Which of a file's optimizers drove which of its models: told by what both are called, and by shapes.

Names decide where they can: `optim_G` is the generator's, `optimizer_1` goes with `model_1`, and what has no word of
its own (`optimizer`) with the model that has none. What another model's word stands in is never taken. Where names say
nothing, an optimizer belongs to the one model whose parameters are just those it holds; else it is not chosen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer_names import named_optimizer_state
from holdfast.fitting.optimizer_proof import never_learned
from holdfast.fitting.param_order import Shape

Tensors = Mapping[str, Any]
Owners = dict[str, frozenset[str]]

_SAYS_NOTHING = frozenset(
    {"optimizer", "optimizers", "optim", "optims", "opt", "state", "states", "dict", "adam", "adamw", "sgd"}
    | {"model", "models", "net", "network", "module", "weights", "params", "param"}
)
_IN_FRONT = re.compile(r"(optimizer|optim|opt|net)(?=.)")
# Models that are computed from another one and have no optimizer of their own.
_AVERAGES = frozenset({"ema", "averaged", "average", "swa", "shadow", "polyak", "teacher", "target", "momentum"})


def choose_optimizer(
    optimizers: Mapping[str, Any],
    parameters: Mapping[str, Shape],
    *,
    tensors: Tensors | None = None,
    role: str | None = None,
    roles: Mapping[str, Tensors] | None = None,
    wanted: Collection[str] = (),
    source: str = "the file",
) -> str:
    """Returns which of a file's optimizers drove a model.

    Args:
        optimizers: name → state.
        parameters: name → shape of the tensors of the file's model, in the file's order.
        tensors: the same tensors, where at hand.
        role: of the model among the models of the file.
        roles: all of these: role → name → tensor.
        wanted: names of the tensors that the live optimizer's parameters come from, where that is known.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: there is none, none fits, or it is not proven which.
    """
    roles = roles or {}
    owners = owners_of(optimizers, roles)
    own_role = trained_role(role, roles)
    own = [name for name, found in owners.items() if found == {own_role}]
    open_ones = [name for name, found in owners.items() if not found or own_role in found]
    if len(own) == 1:
        return own[0]
    candidates = own or open_ones
    rivals = _rivals(own_role, roles, owners)
    if len(candidates) == len(optimizers) == 1 and not rivals:
        return candidates[0]
    fits: dict[str, bool] = {}  # name → whether it holds all that the model can learn
    reached: dict[str, set[str]] = {}
    for name in candidates:
        is_whole, reached[name] = _fit(optimizers[name], parameters, tensors or {}, role, source)
        is_rivals = any(
            _fit(optimizers[name], _shapes(roles[rival]), roles[rival], rival, source)[0] for rival in rivals
        )
        if is_rivals and (is_whole or not own):
            continue  # another model's whole: this one's as well, or not at all
        if is_whole or reached[name] or len(optimizers) == 1:
            fits[name] = is_whole
    whole = [name for name, is_whole in fits.items() if is_whole]
    reaching = [name for name in fits if reached[name] & set(wanted)]
    for chosen in (list(fits), whole, reaching):
        if len(chosen) == 1:
            return chosen[0]
    raise CheckpointMismatch(
        f"Choosing the optimizer of {role or 'the model'} in {source}: of {', '.join(optimizers) or 'none'}, "
        f"{', '.join(whole or fits) or 'none'} would fit; expected one that is proven to be its own. Name it: "
        f"optimizer_name={next(iter(optimizers), '')!r}, or leave the optimizer out."
    )


def owners_of(optimizers: Iterable[str], roles: Iterable[str]) -> Owners:
    """Returns, for each optimizer, the models whose words its name carries: none when it carries no model's."""
    trained = [role for role in roles if not _words(role) & _AVERAGES]
    found: Owners = {}
    for name in optimizers:
        scores = {role: _likeness(_words(name), _words(role)) for role in trained}
        best = max(scores.values(), default=0)
        found[name] = frozenset(role for role, score in scores.items() if score == best and best)
    return found


def trained_role(role: str | None, roles: Mapping[str, Tensors]) -> str | None:
    """Returns the model that an average was computed from, when just one is built alike; any other role as it is."""
    if role is None or role not in roles or not _words(role) & _AVERAGES:
        return role
    alike = [r for r in roles if not _words(r) & _AVERAGES and _shapes(roles[r]) == _shapes(roles[role])]
    return alike[0] if len(alike) == 1 else role


def beside(chosen: str, role: str | None, roles: Mapping[str, Tensors], owners: Owners) -> dict[str, Tensors]:
    """Returns the other models whose parameters the chosen optimizer may hold as well: role → name → tensor.

    Not those that another optimizer has, and no averages. A model built just like this one is another candidate only
    as long as the optimizer's name does not say which of them it drove.
    """
    own = trained_role(role, roles)
    rest = {name: found for name, found in owners.items() if name != chosen}
    is_named = own is not None and own in roles and owners.get(chosen) == frozenset({own})
    alike = _shapes(roles[own]) if own is not None and is_named else None
    return {name: roles[name] for name in _rivals(own, roles, rest) if _shapes(roles[name]) != alike}


def _rivals(role: str | None, roles: Mapping[str, Tensors], owners: Owners) -> list[str]:
    """Returns the other models that are trained and that no optimizer's name claims; no part of this one, nor it."""
    own = {id(tensor) for tensor in roles.get(role or "", {}).values()}
    claimed = {next(iter(found)) for found in owners.values() if len(found) == 1}
    return [
        name
        for name, tensors in roles.items()
        if name not in (role, *claimed)
        and not _words(name) & _AVERAGES
        and not any(id(tensor) in own for tensor in tensors.values())
    ]


def _fit(
    state: Any, parameters: Mapping[str, Shape], tensors: Tensors, role: str | None, source: str
) -> tuple[bool, set[str]]:
    """Returns whether an optimizer holds all that a model can learn, and the parameters of it that it may hold."""
    try:
        named = named_optimizer_state(state, parameters, tensors=tensors, role=role, source=source)
    except CheckpointMismatch:
        return False, set()
    possible = {*named.slots, *(name for names in named.ambiguous.values() for name in names)}
    if not named.slots or named.strangers or not all(named.ambiguous.values()):
        return False, possible if named.slots and not named.strangers else set()
    num_places = sum(len(group.names) for group in named.groups)
    return num_places == len(parameters.keys() - never_learned(parameters, tensors)), possible


def _shapes(tensors: Tensors) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if hasattr(tensor, "shape")}


def _words(name: str) -> frozenset[str]:
    """Returns the words of a name that tell one model from another, in small letters: `optimizerG_A` → g, a."""
    found = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    return frozenset(_IN_FRONT.sub("", word, count=1) for word in found if word not in _SAYS_NOTHING)


def _likeness(one: frozenset[str], other: frozenset[str]) -> int:
    """Returns 2 for the same words, 1 when the fewer are all among the others or shortened from them, else 0."""
    if one == other:
        return 2
    fewer, more = sorted((one, other), key=len)
    numbers = [{word for word in words if word.isdigit()} for words in (one, other)]
    if not fewer or numbers[0] != numbers[1]:
        return 0
    return int(all(any(a.startswith(b) or b.startswith(a) for b in more) for a in fewer))
