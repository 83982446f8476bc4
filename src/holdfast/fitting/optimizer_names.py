"""The state of any program's optimizer by the names of the parameters, where these are recorded or can be proven.

What cannot be proven is listed as ambiguous and never guessed: moments that belong to another tensor of the same shape
do harm that no error ever shows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from holdfast.errors import CheckpointMismatch
from holdfast.fitting.optimizer_forms import RecordedState, recorded_state
from holdfast.fitting.optimizer_proof import (
    LIVE,
    ORDER,
    RECORDED,
    LiveGroup,
    Proof,
    names_as_live,
    names_by_identity,
    never_learned,
    places_of,
    prove_names,
)
from holdfast.fitting.optimizer_slots import filled
from holdfast.fitting.param_order import Shape
from holdfast.fitting.recorded_names import match_recorded_names


class NamedGroup(NamedTuple):
    """A group as it was saved: its parameters' names (None where they are not proven), its options and counters."""

    names: tuple[str | None, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class NamedOptimizerState:
    """The state of an optimizer by parameter name.

    Attributes:
        slots: name in the file → its slots; those that were never stepped are left out.
        groups: as they were saved.
        evidence: how the names are known: one of RECORDED, ORDER, SHAPES, LIVE.
        ambiguous: which parameter it is (`#3`, a name) → the names it may have, for those with slots.
        strangers: recorded names with slots that are no parameters of this model: of other models, mostly.
        shared: what belongs to no single parameter.
        beside: what stands beside the slots and groups.
        why: one sentence on why some are ambiguous; empty when none is.
    """

    slots: dict[str, dict[str, Any]]
    groups: tuple[NamedGroup, ...]
    evidence: str
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def named_optimizer_state(
    state: Any,
    parameters: Mapping[str, Shape],
    *,
    absent: Collection[str] = (),
    tensors: Mapping[str, Any] | None = None,
    ordered: bool = True,
    live: Sequence[LiveGroup] | None = None,
    others: Sequence[Mapping[str, Shape]] = (),
    same_order: bool = False,
    role: str | None = None,
    source: str = "the file",
) -> NamedOptimizerState:
    """Returns the state of an optimizer with names for numbers, as far as these are recorded or proven.

    Recorded names are taken (`param_names`, or a state by name). Otherwise a name is proven when it is the same in all
    ways to deal the model's tensors, in their order, to the groups, by shape. Tensors may be left over: buffers, frozen
    ones. One thing is taken on trust: that every group was made in the order of `model.parameters()`. Where the live
    optimizer's order fits too and says otherwise, or, for an optimizer that does not hold the whole model, the reverse
    order, the name is ambiguous.

    Args:
        state: as torch, Lightning, Holdfast, torch.distributed.checkpoint, FSDP or fastai write it; values may be lazy.
        parameters: name → shape of the tensors of the file's model, in the file's order.
        absent: names among them that are known to be in no optimizer: buffers, second names of tied tensors.
        tensors: the same tensors, where at hand; they tell what is tied, and what is a parameter.
        ordered: whether they stand in the model's order; no for a file that sorts its names.
        live: the groups of the optimizer it is for.
        others: what else the file has that the optimizer may hold: label → shape, in a table for each other model. A
            place that may be one of these is not proven.
        same_order: the caller knows that the live optimizer was made by the same code: then its order is the recorded
            one, if all shapes fit.
        role: of the model among the models of the file, to find its names among those of several.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: it is no such state, names of two models fit, or `same_order` does not.
    """
    recorded = recorded_state(state, source)
    _refuse_lbfgs(recorded, source)
    if recorded.groups and all(group.names is not None for group in recorded.groups):
        return _by_record(recorded, parameters, role, source)
    tensors = tensors or {}
    out = {*absent, *never_learned(parameters, tensors)}
    candidates = {name: shape for name, shape in parameters.items() if name not in out}
    if same_order:
        as_live = names_as_live(recorded, candidates, live)
        if as_live is None:
            raise _other_order(recorded, live, source)
        return _named(recorded, Proof(as_live, LIVE))
    identical = names_by_identity(recorded, tensors)
    if identical is not None:
        return _named(recorded, Proof(identical, RECORDED))
    if not recorded.slots:
        return _named(recorded, Proof([[frozenset() for _ in group.keys] for group in recorded.groups], ORDER))
    return _named(recorded, prove_names(recorded, candidates, ordered=ordered, live=live, others=others))


def _refuse_lbfgs(recorded: RecordedState, source: str) -> None:
    if any(
        isinstance(slots, Mapping) and {"func_evals", "n_iter"} <= slots.keys() for slots in recorded.slots.values()
    ):
        raise CheckpointMismatch(
            f"Reading the optimizer in {source}: it is L-BFGS, whose vectors run over all parameters at once; expected "
            "slots for each parameter. Give it to the optimizer's own load_state_dict, in an unchanged model."
        )


def _by_record(
    recorded: RecordedState, parameters: Mapping[str, Shape], role: str | None, source: str
) -> NamedOptimizerState:
    shapes = {
        name: shape
        for group, places in zip(recorded.groups, places_of(recorded), strict=True)
        for name, shape in zip(group.names or (), places.shapes, strict=True)
    }
    file_names = match_recorded_names(shapes, parameters, role, source)
    found = [
        [frozenset({file_names[name]} if name in file_names else ()) for name in group.names or ()]
        for group in recorded.groups
    ]
    return _named(recorded, Proof(found, RECORDED))


def _named(recorded: RecordedState, proof: Proof) -> NamedOptimizerState:
    slots: dict[str, dict[str, Any]] = {}
    groups: list[NamedGroup] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    strangers: list[str] = []
    number = 0
    for group, places in zip(recorded.groups, proof.names, strict=True):
        proven: list[str | None] = []
        for place, (key, names) in enumerate(zip(group.keys, places, strict=True)):
            held = filled(recorded.slots.get(key))
            label = group.names[place] if group.names else f"#{number}"
            number += 1
            proven.append(next(iter(names)) if len(names) == 1 else None)
            if held and proven[-1] is not None:
                slots[proven[-1]] = held
            elif held and proof.evidence == RECORDED:
                strangers.append(label)
            elif held:
                ambiguous[label] = tuple(sorted(names))
        groups.append(NamedGroup(tuple(proven), group.settings))
    why = proof.why if ambiguous else ""
    others = (tuple(strangers), recorded.shared, recorded.beside)
    return NamedOptimizerState(slots, tuple(groups), proof.evidence, ambiguous, *others, why)


def _other_order(recorded: RecordedState, live: Sequence[LiveGroup] | None, source: str) -> CheckpointMismatch:
    sizes = [len(group.keys) for group in recorded.groups]
    own = [len(group.names) for group in live or ()]
    return CheckpointMismatch(
        f"Reading the optimizer in {source}: its groups hold {sizes} parameters, the live ones {own}, and not all of "
        "their shapes fit one by one; expected the same order, as same_order=True says. Leave that out: what can be "
        "proven is taken."
    )
