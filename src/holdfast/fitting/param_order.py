"""Which parameter each number of an optimizer stands for, proven from shapes and from the order of the model.

An optimizer numbers its parameters group after group. Within a group they stand in the model's order, for whoever made
the group went through `model.parameters()`; the groups themselves may be interleaved in any way, and parameters may be
missing (frozen ones). So a numbering is a way to deal the model's tensors, in their order, to the groups. All ways that
agree with the shapes are followed at once: a number that has the same name in all of them is proven, others are not.
This file knows neither torch nor files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

Shape = tuple[int, ...]
Names = frozenset[str]

# Numbers that the ways followed at once may consist of: about 50 MB, and two seconds.
MAX_CELLS = 3_000_000


class TooManyWays(Exception):
    """There are more ways to deal the tensors than are followed: nothing is proven."""


class PlacesOfGroup(NamedTuple):
    """What is known of one group.

    Attributes:
        shapes: of its parameters in their order; None where nothing tells the shape.
        level: groups of a lower level hold parameters that come earlier in the model (layer-wise rates); None for all
            when nothing is known of that.
    """

    shapes: tuple[Shape | None, ...]
    level: float | None = None


def possible_names(
    groups: Sequence[PlacesOfGroup], parameters: Mapping[str, Shape], max_cells: int = MAX_CELLS
) -> list[list[Names]] | None:
    """Returns, for each place of each group, the names it may have: one when that is proven. None when none fit.

    Args:
        groups: the optimizer's groups.
        parameters: name → shape of what may be a parameter, in the model's order; more than the groups hold is fine.
        max_cells: how much memory the search may take, in numbers.

    Raises:
        TooManyWays: the search would take more.
    """
    search = _Search(groups, parameters)
    if search.spare < 0 or not search.fits:
        return None
    found = search.run(max_cells)
    if found is None:
        return None
    names = tuple(parameters)
    return [
        [frozenset(names[j] for j in found[search.cell_of[number, place]]) for place in range(len(group.shapes))]
        for number, group in enumerate(groups)
    ]


def names_by_shape(groups: Sequence[PlacesOfGroup], parameters: Mapping[str, Shape]) -> list[list[Names]]:
    """Returns the names each place may have whatever the order is: one where a shape occurs once on either side."""
    by_shape: dict[Shape | None, Names] = {None: frozenset(parameters)}
    for name, shape in parameters.items():
        by_shape[shape] = by_shape.get(shape, frozenset()) | {name}
    held = [shape for group in groups for shape in group.shapes if shape is not None]
    single = {names for shape, names in by_shape.items() if shape is not None and len(names) == 1 and shape in held}
    taken = frozenset(name for names in single for name in names)
    result = [[by_shape.get(shape, frozenset()) for shape in group.shapes] for group in groups]
    if any(held.count(shape) > len(by_shape.get(shape, ())) for shape in set(held)):
        return [[frozenset() for _ in group] for group in result]  # more of a shape than there are: another model
    return [[names if names in single else names - taken for names in group] for group in result]


class _Search:
    """All ways to deal the tensors, followed side by side.

    Groups of the same shapes and level cannot be told apart, so a state only counts how many of them are how full: a
    cell for each number of places that may be filled. Before the cells stands the number of tensors dealt so far.
    """

    def __init__(self, groups: Sequence[PlacesOfGroup], parameters: Mapping[str, Shape]) -> None:
        self.shapes = tuple(parameters.values())
        self.num_places = sum(len(group.shapes) for group in groups)
        self.spare = len(self.shapes) - self.num_places
        self.cell_of: dict[tuple[int, int], int] = {}  # (group, place) → the cell of "so many places are filled"
        self.dealt_to: list[list[tuple[int, float]]] = [[] for _ in self.shapes]  # tensor → cells it may move on
        self.dead_after: list[list[int]] = [[] for _ in self.shapes]  # tensor → cells that must be empty once it is out
        self.fits = True
        kinds: dict[PlacesOfGroup, list[int]] = {}
        for number, group in enumerate(groups):
            kinds.setdefault(group, []).append(number)
        start, goal = [0], [self.num_places]
        full: list[tuple[float, int, int]] = []
        for kind, members in kinds.items():
            first = len(start)
            start += [len(members)] + [0] * len(kind.shapes)
            goal += [0] * len(kind.shapes) + [len(members)]
            self.cell_of |= {(n, place): first + place for n in members for place in range(len(kind.shapes))}
            level = 0.0 if kind.level is None else kind.level
            full.append((level, len(goal) - 1, len(members)))
            self._allow(kind, first, level)
        self.start, self.goal = tuple(start), tuple(goal)
        self.full = sorted(full)  # (level, cell of the full groups, how many there are)
        self.has_levels = len({level for level, _, _ in full}) > 1

    def _allow(self, kind: PlacesOfGroup, first: int, level: float) -> None:
        """Notes which tensors each place of a group may get: those between its earliest and its latest."""
        earliest, latest = _greedy(kind.shapes, self.shapes), _greedy(kind.shapes[::-1], self.shapes[::-1])
        if earliest is None or latest is None:
            self.fits = False
            return
        for place, shape in enumerate(kind.shapes):
            last = len(self.shapes) - 1 - latest[len(kind.shapes) - 1 - place]
            self.dead_after[last].append(first + place)
            for j in range(earliest[place], last + 1):
                if shape is None or shape == self.shapes[j]:
                    self.dealt_to[j].append((first + place, level))

    def run(self, max_cells: int) -> dict[int, set[int]] | None:
        """Returns the tensors each cell moves on with in some way that ends well; None when no way does."""
        layers: list[set[tuple[int, ...]]] = [{self.start}]
        held = 0
        for j in range(len(self.shapes)):
            layers.append({new for state in layers[-1] for _, new in self._next(j, state)})
            held += len(layers[-1]) * len(self.start)
            if held > max_cells:
                raise TooManyWays
        if self.goal not in layers[-1]:
            return None
        found: dict[int, set[int]] = {}
        good = {self.goal}
        for j in range(len(self.shapes) - 1, -1, -1):
            before: set[tuple[int, ...]] = set()
            for state in layers[j]:
                for cell, new in self._next(j, state):
                    if new in good:
                        before.add(state)
                        if cell:
                            found.setdefault(cell, set()).add(j)
            good = before
        return found

    def _next(self, j: int, state: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yields (cell that tensor j moves on, state after it) for all ways; cell 0 when no group gets the tensor."""
        dead = self.dead_after[j]
        if j - state[0] < self.spare and not any(state[cell] for cell in dead):
            yield 0, state
        open_level = self._open_level(state) if self.has_levels else 0.0
        for cell, level in self.dealt_to[j]:
            if not state[cell] or (self.has_levels and level != open_level):
                continue
            moved = list(state)
            moved[0] += 1
            moved[cell] -= 1
            moved[cell + 1] += 1
            if not any(moved[other] for other in dead):
                yield cell, tuple(moved)

    def _open_level(self, state: tuple[int, ...]) -> float:
        """Returns the lowest level of which a group is not full yet."""
        return next((level for level, cell, count in self.full if state[cell] != count), 0.0)


def _greedy(wanted: Sequence[Shape | None], shapes: Sequence[Shape]) -> list[int] | None:
    """Returns the earliest tensors that the wanted shapes can be dealt in order; None when they cannot."""
    found: list[int] = []
    j = 0
    for shape in wanted:
        while j < len(shapes) and shape is not None and shapes[j] != shape:
            j += 1
        if j == len(shapes):
            return None
        found.append(j)
        j += 1
    return found
