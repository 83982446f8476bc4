from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from holdfast.fitting.optimizer import NamedOptimizerState, named_optimizer_state
from holdfast.fitting.optimizer_proof import LiveGroup
from holdfast.fitting.param_order import PlacesOfGroup, possible_names

LAW = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SHAPES = [(2,), (3,), (2, 2), (2, 3), ()]


@dataclass
class Saved:
    """An optimizer as a file holds it, and the truth about it.

    Every slot says whose it is: its values are the number of its parameter.
    """

    parameters: dict[str, tuple[int, ...]]
    groups: list[list[str]]
    stepped: set[str]
    absent: set[str] = field(default_factory=set)
    settings: list[dict[str, Any]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """The state as torch writes it: numbers, group after group."""
        numbers = {name: number for number, name in enumerate(name for group in self.groups for name in group)}
        whose = {name: float(place) for place, name in enumerate(self.parameters)}
        slots = {
            numbers[name]: {"step": 3, "exp_avg": torch.full(self.parameters[name], whose[name])}
            for name in numbers
            if name in self.stepped
        }
        groups = [
            {"lr": 0.1, **(self.settings[i] if self.settings else {}), "params": [numbers[name] for name in group]}
            for i, group in enumerate(self.groups)
        ]
        return {"state": slots, "param_groups": groups}

    def wrong(self, found: NamedOptimizerState) -> list[str]:
        """The names whose slots are those of another parameter."""
        names = list(self.parameters)
        return [
            f"{name} has the slots of {names[int(slots['exp_avg'].flatten()[0])]}"
            for name, slots in found.slots.items()
            if int(slots["exp_avg"].flatten()[0]) != names.index(name)
        ]


@st.composite
def saved_optimizers(draw: st.DrawFn, *, shuffled: bool = False) -> Saved:
    """A small model with repeated shapes, its tensors dealt to groups; some frozen, some buffers, some tied."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=9))
    names = [f"layer{i}.w" for i in range(len(shapes))]
    num_groups = draw(st.integers(1, 4))
    group_of = draw(st.lists(st.integers(-1, num_groups - 1), min_size=len(shapes), max_size=len(shapes)))
    if draw(st.booleans()):
        group_of = [max(0, group) for group in group_of]  # nothing is left out
    groups = [[name for name, own in zip(names, group_of, strict=True) if own == g] for g in range(num_groups)]
    if shuffled:
        groups = [draw(st.permutations(group)) for group in groups]
    stepped = {name for name in names if draw(st.integers(0, 9)) > 0}
    # That a tensor is a buffer or tied to another one may be known or not.
    absent = {name for name, own in zip(names, group_of, strict=True) if own < 0 and draw(st.booleans())}
    return Saved(dict(zip(names, shapes, strict=True)), [list(group) for group in groups], stepped, absent)


@st.composite
def live_groups(draw: st.DrawFn, parameters: dict[str, tuple[int, ...]]) -> list[LiveGroup]:
    """Another optimizer over some of the same parameters, in any order and grouping; some are not from the file."""
    names = draw(st.permutations(list(parameters)))
    known = [name if draw(st.integers(0, 9)) > 0 else None for name in names]
    cuts = sorted(draw(st.lists(st.integers(0, len(names)), max_size=3)))
    stretches = zip([0, *cuts], [*cuts, len(names)], strict=True)
    return [LiveGroup(tuple(known[a:b]), {"lr": draw(st.sampled_from([0.1, 0.2]))}) for a, b in stretches]


@LAW
@given(saved_optimizers(), st.data())
def test_a_name_is_the_true_one_or_is_reported_ambiguous(saved: Saved, data: st.DataObject) -> None:
    """Groups in the model's order: no slots go to another parameter, whatever the live optimizer looks like."""
    live = data.draw(st.none() | live_groups(saved.parameters))
    found = named_optimizer_state(saved.state(), saved.parameters, absent=saved.absent, live=live)
    assert saved.wrong(found) == []
    held = {name for group in saved.groups for name in group} & saved.stepped
    assert len(found.slots) + len(found.ambiguous) == len(held)
    names = [name for group in saved.groups for name in group]
    for label, possible in found.ambiguous.items():
        assert names[int(label[1:])] in possible
        assert len(possible) > 1


@LAW
@given(saved_optimizers(shuffled=True))
def test_the_live_order_keeps_a_shuffled_one_from_being_taken_for_the_models(saved: Saved) -> None:
    """Groups in any order at all, and a live optimizer made by the same code: no slots go to another parameter."""
    live = [LiveGroup(tuple(group), {"lr": 0.1}) for group in saved.groups]
    found = named_optimizer_state(saved.state(), saved.parameters, absent=saved.absent, live=live)
    assert saved.wrong(found) == []


@LAW
@given(saved_optimizers(shuffled=True))
def test_the_same_order_by_promise_keeps_everything(saved: Saved) -> None:
    """With same_order every stepped parameter has its slots, in whatever order the groups are."""
    live = [LiveGroup(tuple(group), {"lr": 0.1}) for group in saved.groups]
    found = named_optimizer_state(saved.state(), saved.parameters, absent=saved.absent, live=live, same_order=True)
    assert saved.wrong(found) == []
    assert found.slots.keys() == {name for group in saved.groups for name in group} & saved.stepped


@LAW
@given(saved_optimizers(shuffled=True), st.data())
def test_an_unknown_order_proves_only_what_shapes_alone_prove(saved: Saved, data: st.DataObject) -> None:
    """A file that sorts its names, groups in any order: no slots go to another parameter."""
    live = data.draw(st.none() | live_groups(saved.parameters))
    names = data.draw(st.permutations(list(saved.parameters)))
    mixed = {name: saved.parameters[name] for name in names}
    found = named_optimizer_state(saved.state(), mixed, absent=saved.absent, live=live, ordered=False)
    assert saved.wrong(found) == []


@LAW
@given(saved_optimizers(shuffled=True), st.sampled_from(["", "net.", "module."]), st.booleans())
def test_recorded_names_are_believed(saved: Saved, front: str, by_name: bool) -> None:
    """`param_names`, or a state by name, give every slot its parameter, behind a part's or a wrapper's name too."""
    state = saved.state()
    names = [front + name for group in saved.groups for name in group]
    for group in state["param_groups"]:
        group["params" if by_name else "param_names"] = [names[number] for number in group["params"]]
    if by_name:
        state["state"] = {names[number]: slots for number, slots in state["state"].items()}
    found = named_optimizer_state(state, saved.parameters)
    assert saved.wrong(found) == []
    assert found.slots.keys() == {name for group in saved.groups for name in group} & saved.stepped
    assert found.ambiguous == {}


def dealings(groups: list[PlacesOfGroup], shapes: list[tuple[int, ...]]) -> list[list[list[int]]]:
    """All ways to deal tensors in their order to groups, by trying everything."""
    sizes = [len(group.shapes) for group in groups]
    ways = []
    for chosen in combinations(range(len(shapes)), sum(sizes)):
        owners = [number for number, size in enumerate(sizes) for _ in range(size)]
        for dealt in set(permutations(owners)):
            way = [[j for j, owner in zip(chosen, dealt, strict=True) if owner == g] for g in range(len(groups))]
            fits = all(
                shape in (None, shapes[j])
                for group, members in zip(groups, way, strict=True)
                for shape, j in zip(group.shapes, members, strict=True)
            )
            levels = [groups[owner].level or 0.0 for owner in dealt]
            if fits and levels == sorted(levels):
                ways.append(way)
    return ways


@settings(LAW, max_examples=150)
@given(saved_optimizers(), st.booleans())
@example(Saved({"a": (2,), "b": (2,)}, [["a"], ["b"]], {"a"}), False)
def test_the_search_finds_just_the_names_of_all_ways(saved: Saved, with_levels: bool) -> None:
    """Against trying everything: the same names for each place, and none where nothing fits."""
    parameters = dict(list(saved.parameters.items())[:6])
    groups = [
        PlacesOfGroup(
            tuple(parameters[name] if name in saved.stepped else None for name in group if name in parameters),
            float(number % 2) if with_levels else None,
        )
        for number, group in enumerate(saved.groups[:3])
    ]
    names = list(parameters)
    ways = dealings(groups, list(parameters.values()))
    found = possible_names(groups, parameters)
    if not ways:
        assert found is None
        return
    assert found == [
        [frozenset(names[way[g][place]] for way in ways) for place in range(len(group.shapes))]
        for g, group in enumerate(groups)
    ]
