"""An optimizer's state out of any file, into a live optimizer whose model may be another one: by parameter name.

Only a parameter whose weight was taken unchanged gets its moments; everything else starts fresh and is listed. What is
not proven to belong to a parameter is not given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from holdfast.errors import CheckpointMismatch, first_of
from holdfast.fitting.optimizer_apply import options_taken, put_slots
from holdfast.fitting.optimizer_choice import choose_optimizer
from holdfast.fitting.optimizer_kind import COUNTERS, option_differences, slot_differences
from holdfast.fitting.optimizer_members import (
    Member,
    buffers_in_file,
    choose_slots,
    groups_in_file,
    in_order,
    members_of,
)
from holdfast.fitting.optimizer_names import NamedOptimizerState, named_optimizer_state
from holdfast.fitting.optimizer_proof import never_learned
from holdfast.fitting.optimizer_report import OptimizerReport
from holdfast.fitting.optimizer_slots import dtype_from_slots, slots_for
from holdfast.fitting.param_order import Shape

__all__ = [
    "NamedOptimizerState", "OptimizerReport", "PreparedOptimizer", "choose_optimizer", "load_optimizer",
    "named_optimizer_state", "prepare_optimizer",
]  # fmt: skip


class PreparedOptimizer:
    """Slots that have been read and fit, ready to be put into a live optimizer, which is not changed yet.

    Attributes:
        report: what becomes of every parameter.
    """

    def __init__(self, report: OptimizerReport, put: Callable[[], Callable[[], None]]) -> None:
        self.report = report
        self._put = put
        self._undo: Callable[[], None] | None = None

    def apply(self) -> OptimizerReport:
        """Puts the slots and options in, all or none. Raises CheckpointMismatch when the optimizer refuses them."""
        self._undo = self._put()
        return self.report

    def undo(self) -> None:
        """Makes the optimizer as it was before `apply`; nothing to do without that. Not after its next step."""
        if self._undo is not None:
            self._undo()
            self._undo = None


def prepare_optimizer(
    optimizer: Optimizer,
    model: nn.Module,
    state: Any,
    pairs: Mapping[str, str],
    file_shapes: Mapping[str, Shape],
    *,
    tensors: Mapping[str, Any] | None = None,
    ordered: bool = True,
    others: Sequence[Mapping[str, Shape]] = (),
    settings: bool = False,
    same_order: bool = False,
    role: str | None = None,
    source: str = "the file",
) -> PreparedOptimizer:
    """Reads and checks the saved slots of every parameter whose weight was taken unchanged; changes nothing.

    Parameters without slots in the file keep what the live optimizer has for them, nothing if it is new. The options of
    the groups stay the live optimizer's; counters that an optimizer keeps in its groups are taken.

    Args:
        optimizer: over parameters of `model`; frozen ones may be missing, groups may be other ones than were saved.
        model: as it is now, in any wrapper.
        state: in any of the forms that `named_optimizer_state` reads, or what that returned.
        pairs: plain name in the model → name in the file, of the tensors whose values were taken as they are.
        file_shapes: name → shape of all tensors of the file's model, in the file's order.
        tensors: the same tensors, where at hand: they tell what is tied and in which types weights were saved.
        ordered: whether the file's names stand in its model's order; no where they are sorted.
        others: what else of the file the optimizer may hold: label → shape, in a table for each other model.
        settings: take the saved options of groups whose parameters come from groups that agree on them; not how steps
            are carried out (`foreach`, `fused`, `capturable`).
        same_order: the same code made both optimizers, so the live order is the recorded one.
        role: of the weights among those of the file.
        source: the file, for messages.

    Raises:
        CheckpointMismatch: it is the state of another kind of optimizer, or of one that was set up otherwise.
        CheckpointError: a slot is neither tensor nor number.
        CheckpointCorrupt: the bytes of a slot are not all there.
    """
    tensors = tensors or {}
    members = members_of(optimizer, model, pairs)
    _refuse_meta(members, source)
    if isinstance(state, NamedOptimizerState):
        named = state
    else:
        absent = buffers_in_file(model, pairs)
        shapes, ordered = in_order(file_shapes, ordered, model, pairs, absent | never_learned(file_shapes, tensors))
        named = named_optimizer_state(
            state, shapes, absent=absent, tensors=tensors, ordered=ordered, live=groups_in_file(optimizer, members),
            others=others, same_order=same_order, role=role, source=source,
        )  # fmt: skip
    choose_slots(members, named, file_shapes)
    options, problems = options_taken(optimizer, members, named, settings)
    problems += _kind_differences(optimizer, members, named)
    if problems:
        raise _other_kind(optimizer, problems, source)
    slots = _slots_of(members, named, optimizer.param_groups, tensors)
    report = _report(optimizer, members, named, source, any(group.keys() - COUNTERS for group in options))
    return PreparedOptimizer(report, lambda: put_slots(optimizer, members, slots, named, options, source))


def load_optimizer(
    optimizer: Optimizer,
    model: nn.Module,
    state: Any,
    pairs: Mapping[str, str],
    file_shapes: Mapping[str, Shape],
    **options: Any,
) -> OptimizerReport:
    """Does what `prepare_optimizer` prepares, at once; says which parameters go on with their saved slots.

    It is all or nothing: the optimizer is not touched unless everything that is to be taken has been read and fits.
    Args and Raises: as `prepare_optimizer`.
    """
    return prepare_optimizer(optimizer, model, state, pairs, file_shapes, **options).apply()


def _refuse_meta(members: Sequence[Member], source: str) -> None:
    without = [member.label for member in members if member.parameter.is_meta]
    if without:
        raise CheckpointMismatch(
            f"Loading the optimizer of {source}: {without[0]} and {len(without) - 1} more have no memory yet (meta); "
            "expected real parameters. Load the weights first, make the optimizer over them, and load again."
        )


def _kind_differences(optimizer: Optimizer, members: Sequence[Member], named: NamedOptimizerState) -> list[str]:
    if not named.slots and not named.ambiguous:
        return []
    kept = [(m.label, m.parameter, m.group, named.slots[m.source]) for m in members if m.source]
    return [
        *option_differences(optimizer, [group.settings for group in named.groups]),
        *slot_differences(optimizer, kept),
    ]


def _other_kind(optimizer: Optimizer, problems: list[str], source: str) -> CheckpointMismatch:
    return CheckpointMismatch(
        f"Loading the optimizer of {source} into {type(optimizer).__name__}: {len(problems)} differences:\n"
        f"{first_of(problems)}\nExpected the state of the same kind of optimizer, set up alike. Make it so, or "
        "leave it out: the weights can be loaded alone."
    )


def _slots_of(
    members: Sequence[Member], named: NamedOptimizerState, groups: list[dict[str, Any]], tensors: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Reads the slots: position of the parameter → what its optimizer gets."""
    found: dict[int, dict[str, Any]] = {}
    for number, member in enumerate(members):
        if member.source is not None:
            held = named.slots[member.source]
            weight = getattr(tensors.get(member.source), "dtype", None)
            dtype = dtype_from_slots(held) if weight is None else str(weight).removeprefix("torch.")
            found[number] = slots_for(member.parameter, held, groups[member.group], dtype)
    return found


def _report(
    optimizer: Optimizer, members: Sequence[Member], named: NamedOptimizerState, source: str, from_file: bool
) -> OptimizerReport:
    used = {member.source for member in members}
    known = {name for member in members for name in member.sources}
    dropped = {
        name: "its parameter starts fresh" if name in known else "the live optimizer holds no parameter taken from it"
        for name in named.slots
        if name not in used
    }
    dropped |= dict.fromkeys(named.strangers, "it is no parameter of the file's model that was loaded")
    return OptimizerReport(
        optimizer=type(optimizer).__name__,
        source=source,
        evidence=named.evidence,
        kept={member.label: member.source for member in members if member.source},
        fresh={member.label: member.reason for member in members if not member.source},
        dropped=dropped,
        ambiguous=dict(named.ambiguous),
        why_ambiguous=named.why,
        settings="saved" if from_file else "live",
        num_values=sum(member.parameter.numel() for member in members),
        num_kept=sum(member.parameter.numel() for member in members if member.source),
    )
