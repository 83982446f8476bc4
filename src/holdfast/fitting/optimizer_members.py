"""The parameters of a live optimizer: what they are called here and in a file, and what each gets from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from holdfast.checkpoints.module_names import named_parameters, places
from holdfast.fitting.optimizer_names import NamedOptimizerState
from holdfast.fitting.optimizer_proof import LiveGroup
from holdfast.fitting.optimizer_slots import shape_from_slots
from holdfast.fitting.param_order import Shape


@dataclass
class Member:
    """A parameter of the live optimizer, and what it gets.

    Attributes:
        parameter: itself.
        group: the number of its group.
        names: in the plain model; several when it is tied; `#<number>` when the model does not have it.
        sources: the file's names of its weight, if that was taken unchanged.
        source: the one of them under which its slots stand; None when it starts fresh.
        reason: why it does.
    """

    parameter: Tensor
    group: int
    names: list[str]
    sources: list[str]
    source: str | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        """What it is called in reports."""
        return self.names[0]


def members_of(optimizer: Optimizer, model: nn.Module, pairs: Mapping[str, str]) -> list[Member]:
    """Returns the live optimizer's parameters in its order, with their names.

    Args:
        pairs: plain name in the model → name in the file, of the tensors whose values were taken as they are.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in named_parameters(model):
        names.setdefault(id(parameter), []).append(name)
    found: list[Member] = []
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            own = names.get(id(parameter), [])
            sources = list(dict.fromkeys(pairs[name] for name in own if name in pairs))
            found.append(Member(parameter, number, own or [f"#{len(found)}"], sources))
            if not own:
                found[-1].reason = "it is no parameter of the model"
    return found


def groups_in_file(optimizer: Optimizer, members: Sequence[Member]) -> list[LiveGroup]:
    """Returns the live optimizer's groups under the file's names."""
    return [
        LiveGroup(tuple(m.sources[0] if m.sources else None for m in members if m.group == number), group)
        for number, group in enumerate(optimizer.param_groups)
    ]


def buffers_in_file(model: nn.Module, pairs: Mapping[str, str]) -> set[str]:
    """Returns the file's names of tensors that are buffers in the model: they are in no optimizer."""
    return {
        pairs[place.plain + name]
        for place in places(model)
        for name, buffer in place.module._buffers.items()
        if buffer is not None and place.plain + name in pairs
    }


def in_order(
    shapes: Mapping[str, Shape], ordered: bool, model: nn.Module, pairs: Mapping[str, str], absent: set[str]
) -> tuple[Mapping[str, Shape], bool]:
    """Returns the file's tensors in the model's order, and whether that is known.

    A file that sorts its names takes the order of the live model, if that has all that may be in an optimizer.

    Args:
        shapes: name → shape of the file's tensors.
        ordered: whether they stand in the model's order already.
        absent: names that are in no optimizer.
    """
    if ordered:
        return shapes, True
    by_model = dict.fromkeys(pairs[name] for name, _ in named_parameters(model) if name in pairs)
    if shapes.keys() - by_model.keys() - absent:
        return shapes, False
    return {name: shapes[name] for name in [*by_model, *(shapes.keys() - by_model.keys())]}, True


def choose_slots(members: Sequence[Member], named: NamedOptimizerState, file_shapes: Mapping[str, Shape]) -> None:
    """Gives every live parameter the name under which its slots stand, or the reason why it starts fresh."""
    doubtful = {name for names in named.ambiguous.values() for name in names}
    for member in members:
        shape = tuple(member.parameter.shape)
        held = [name for name in member.sources if name in named.slots]
        if member.reason:
            continue
        if not member.sources:
            member.reason = "its weight was not taken from the file unchanged"
        elif len(held) > 1:
            member.reason = f"{' and '.join(held)} have slots of their own, and it is one parameter (tied) now"
        elif not held:
            unproven = any(name in doubtful for name in member.sources)
            what = "it is not proven which slots are those of" if unproven else "the file has no slots for"
            member.reason = f"{what} {member.sources[0]}"
        elif file_shapes.get(held[0], shape) != shape:
            member.reason = f"it has the shape {list(shape)}, and {held[0]} {list(file_shapes[held[0]])}"
        elif shape_from_slots(named.slots[held[0]]) not in (None, shape):
            found = shape_from_slots(named.slots[held[0]]) or ()
            member.reason = f"it has the shape {list(shape)}, and the slots of {held[0]} {list(found)}"
        else:
            member.source = held[0]
