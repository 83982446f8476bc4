"""The proof of which name an optimizer's numbers stand for: from the tensors themselves, their order, and the groups.

`param_order.py` follows all ways to deal the tensors to the groups; here is what goes into that, and what is held
against its answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby, permutations
from typing import Any, NamedTuple

from holdfast.fitting.optimizer_forms import RecordedState
from holdfast.fitting.optimizer_slots import is_tensor, number_of, shape_from_slots
from holdfast.fitting.param_order import Names, PlacesOfGroup, Shape, TooManyWays, names_by_shape, possible_names

RECORDED = "names recorded in the file"
ORDER = "shapes and the model's order"
SHAPES = "shapes that occur once"
LIVE = "the live optimizer's order"

_NEVER_LEARNED = ("running_mean", "running_var", "num_batches_tracked")
_NOT_COMPARED = frozenset({"lr", "initial_lr", "step", "name", "lookahead_step"})
_MAX_OTHERS = 3  # models beside the one that is loaded, in any order among themselves; more are one
_MANY = 8  # groups with settings of their own; nobody has so many alike twice by chance


class LiveGroup(NamedTuple):
    """A group of the live optimizer: its parameters' names in the file (None where they have none), its options."""

    names: tuple[str | None, ...]
    settings: Mapping[str, Any]


class Proof(NamedTuple):
    """What is known of an optimizer's numbers.

    Attributes:
        names: for each group, for each of its places, the names it may have; one is proven.
        evidence: RECORDED, ORDER, SHAPES or LIVE.
        why: why some have several, or none.
    """

    names: list[list[Names]]
    evidence: str
    why: str = ""


def prove_names(
    recorded: RecordedState,
    candidates: Mapping[str, Shape],
    *,
    ordered: bool,
    live: Sequence[LiveGroup] | None,
    others: Sequence[Mapping[str, Shape]] = (),
) -> Proof:
    """Returns the names that the numbers may stand for.

    Args:
        recorded: groups and slots.
        candidates: name → shape of what may be in the optimizer; in the model's order, if `ordered`.
        live: the groups of the live optimizer, under the file's names.
        others: label → shape of what else may be in it, for each other model of the file.
    """
    places = places_of(recorded)
    proof = _proven(recorded, places, candidates, ordered, others)
    of_live = names_as_live(recorded, candidates, live)
    if of_live is None or live is None:
        return proof
    if _is_same_code(recorded, places, candidates, live):
        return Proof(of_live, LIVE)
    if proof.evidence == SHAPES:
        return proof
    # A script that hands over its layers in an order of its own will have done so before. Its order fits as well.
    return Proof(_both(proof.names, of_live), ORDER, f"{proof.why}, or the live optimizer's order does")


def places_of(recorded: RecordedState) -> list[PlacesOfGroup]:
    """Returns what is known of the shapes in each group."""
    return [PlacesOfGroup(tuple(_shape_at(key, recorded) for key in group.keys)) for group in recorded.groups]


def names_as_live(
    recorded: RecordedState, candidates: Mapping[str, Shape], live: Sequence[LiveGroup] | None
) -> list[list[Names]] | None:
    """Returns the names that the live optimizer's order gives to the places; None when it does not fit everywhere.

    A live parameter that is not in the file (a new head) gives no name.
    """
    places = places_of(recorded)
    if live is None or [len(g.names) for g in live] != [len(g.shapes) for g in places]:
        return None
    for group, own in zip(places, live, strict=True):
        for shape, name in zip(group.shapes, own.names, strict=True):
            if name is not None and (name not in candidates or shape not in (None, candidates[name])):
                return None
    return [[frozenset({name} if name else ()) for name in own.names] for own in live]


def names_by_identity(recorded: RecordedState, tensors: Mapping[str, Any]) -> list[list[Names]] | None:
    """Returns the names of a pickled optimizer's parameters that are the very tensors of the model beside it.

    None when none is: it was pickled alone, or numbers its parameters.
    """
    names = {_memory(tensor): name for name, tensor in reversed(list(tensors.items()))}
    names.pop(None, None)
    keys = [key for group in recorded.groups for key in group.keys]
    if not any(_memory(key) in names for key in keys):
        return None
    return [
        [frozenset({names[_memory(key)]} if _memory(key) in names else ()) for key in group.keys]
        for group in recorded.groups
    ]


def never_learned(parameters: Mapping[str, Shape], tensors: Mapping[str, Any]) -> set[str]:
    """Returns the names that no optimizer holds: statistics of normalisation, tied names, integers, known buffers.

    Args:
        parameters: name → shape of a model's tensors.
        tensors: as many of them as are at hand.
    """
    found = tied_names(tensors)
    for name in parameters:
        front, _, last = name.rpartition(".")
        beside = [f"{front}.{word}" if front else word for word in _NEVER_LEARNED[:2]]
        if last == _NEVER_LEARNED[2] or (last in _NEVER_LEARNED and all(other in parameters for other in beside)):
            found.add(name)
    whole_module = any(getattr(tensor, "is_parameter", False) for tensor in tensors.values())
    for name, tensor in tensors.items():
        kind = str(getattr(tensor, "dtype", "float")).removeprefix("torch.")
        is_buffer = whole_module and not getattr(tensor, "is_parameter", True)
        if is_buffer or not kind.startswith(("float", "bfloat", "complex", "bcomplex")):
            found.add(name)
    return found


def tied_names(tensors: Mapping[str, Any]) -> set[str]:
    """Returns the names of tensors that are the same memory as one before them, seen in the same way."""
    seen: set[Any] = set()
    tied: set[str] = set()
    for name, tensor in tensors.items():
        view = _memory(tensor)
        if view is not None and view in seen:
            tied.add(name)
        seen.add(view)
    return tied


def _proven(
    recorded: RecordedState,
    places: list[PlacesOfGroup],
    candidates: Mapping[str, Shape],
    ordered: bool,
    others: Sequence[Mapping[str, Shape]],
) -> Proof:
    why = "the file's names are sorted, and the order of its model is not known"
    levels = _levels(recorded)
    leveled = [PlacesOfGroup(g.shapes, level) for g, level in zip(places, levels, strict=True)] if levels else places
    is_whole = sum(len(group.shapes) for group in places) == len(candidates)
    others = [] if is_whole else _held_alike(others, places)
    if ordered:
        try:
            found = possible_names(leveled, candidates) if is_whole or not others else None
            found = possible_names(places, candidates) if levels and found is None and not others else found
            if not is_whole:
                found = _in_any_order(leveled, found, candidates, others, reverse=not levels)
            if found is not None:
                return Proof(_own(found, candidates), ORDER, "other ways to deal out the model's tensors fit as well")
            why = "no way to deal out the model's tensors in their order fits"
        except TooManyWays:
            why = "there are too many ways to deal out the model's tensors"
    everything = dict(candidates)
    for table in others:
        everything |= table
    return Proof(_own(names_by_shape(places, everything), candidates), SHAPES, why)


def _held_alike(others: Sequence[Mapping[str, Shape]], places: list[PlacesOfGroup]) -> list[dict[str, Shape]]:
    """Returns those of the others' tensors that the optimizer may hold by their shapes."""
    held = {shape for group in places for shape in group.shapes}
    tables = [{n: s for n, s in table.items() if s in held or None in held} for table in others]
    tables = [table for table in tables if table]
    if len(tables) > _MAX_OTHERS:
        tables = [{name: shape for table in tables for name, shape in table.items()}]
    return tables


def _in_any_order(
    places: list[PlacesOfGroup],
    found: list[list[Names]] | None,
    candidates: Mapping[str, Shape],
    others: Sequence[Mapping[str, Shape]],
    *,
    reverse: bool,
) -> list[list[Names]] | None:
    """Returns the names that any order of the models gives to the places, and of layers from the last to the first.

    An optimizer that does not hold just the whole model was made by choosing: from several models, or from the end.
    """
    if others:
        found = _in_all_ways(places, candidates, others, None)
    if found is None or not reverse:
        return found  # what fits only from the last to the first was made in an order of its own
    held = {name for group in found for names in group for name in names}
    for way in _reversed({name: shape for name, shape in candidates.items() if name in held}):
        found = _in_all_ways(places, way, others, found)
    return found


def _in_all_ways(
    places: list[PlacesOfGroup],
    candidates: Mapping[str, Shape],
    others: Sequence[Mapping[str, Shape]],
    found: list[list[Names]] | None,
) -> list[list[Names]] | None:
    """Returns the names that the places had before, and those that the models give them in any order of these."""
    for tables in permutations([candidates, *others]):
        fits = possible_names(places, {name: shape for table in tables for name, shape in table.items()})
        if fits is not None:
            found = fits if found is None else _both(found, fits)
    return found


def _reversed(candidates: Mapping[str, Shape]) -> list[dict[str, Shape]]:
    """Returns the tensors from the last to the first, and the layers so, each with its tensors in their order."""
    layers = [list(names) for _, names in groupby(candidates, key=lambda name: name.rpartition(".")[0])]
    by_layer = [name for layer in reversed(layers) for name in layer]
    return [{name: candidates[name] for name in names} for names in (list(candidates)[::-1], by_layer)]


def _own(found: list[list[Names]], candidates: Mapping[str, Shape]) -> list[list[Names]]:
    """Returns the same, with no name for places that can only be another model's."""
    return [[names if names & candidates.keys() else frozenset() for names in group] for group in found]


def _levels(recorded: RecordedState) -> list[float] | None:
    """Returns the groups' `lr_scale` (timm, BEiT): a power of the layer decay, so earlier layers have lower ones."""
    found = [number_of(group.settings.get("lr_scale")) for group in recorded.groups]
    known = [float(value) for value in found if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return known if len(known) == len(found) and len(set(known)) > 1 else None


def _both(found: list[list[Names]], other: list[list[Names]]) -> list[list[Names]]:
    """Returns the names that either of two orders gives to each place; none where no order gives any."""
    return [[names | more for names, more in zip(*groups, strict=True)] for groups in zip(found, other, strict=True)]


def _is_same_code(
    recorded: RecordedState, places: list[PlacesOfGroup], candidates: Mapping[str, Shape], live: Sequence[LiveGroup]
) -> bool:
    """Returns whether the groups are so many, and so clearly the live ones, that the same code must have made them.

    All tensors must be dealt (what was frozen then need not be now), and no two groups of the same shapes may have the
    same settings: they could have changed places.
    """
    names = [name for group in live for name in group.names]
    if None in names or len(names) != len(candidates):
        return False
    pairs = [(group.settings, own.settings) for group, own in zip(recorded.groups, live, strict=True)]
    saved = [_settings(one, other) for one, other in pairs]
    own = [_settings(other, one) for one, other in pairs]
    told_apart = {(shapes, settings) for (shapes, _), settings in zip(places, saved, strict=True)}
    return saved == own and len(set(saved)) >= _MANY and len(told_apart) == len(saved)


def _settings(settings: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns the figures of a group that the other side has too; the rate is the one before any schedule."""
    figures = {k: number_of(v) for k, v in settings.items() if k in other and k not in _NOT_COMPARED}
    plain = {k: v for k, v in figures.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    scheduled = "initial_lr" in settings or "initial_lr" in other
    rate = number_of(settings.get("initial_lr", settings.get("lr")) if scheduled else settings.get("lr"))
    return tuple(sorted({**plain, "lr": rate}.items()))


def _shape_at(key: Hashable, recorded: RecordedState) -> Shape | None:
    shape = getattr(key, "shape", None)  # a pickled optimizer has the parameter itself
    return tuple(shape) if shape is not None else shape_from_slots(recorded.slots.get(key))


def _memory(tensor: Any) -> Any:
    """Returns what is equal for two tensors that are the same one; None when it cannot be told."""
    if hasattr(tensor, "storage") and hasattr(tensor, "strides"):  # lazy
        data = tensor.storage.data
        if not tensor.num_values:
            return None
        return id(data), tensor.storage.start, tensor.offset, tensor.shape, tensor.strides, tensor.dtype
    if is_tensor(tensor) and tensor.numel():
        return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
    return None
