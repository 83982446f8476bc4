from __future__ import annotations

import pytest

from holdfast.fitting.param_order import PlacesOfGroup, TooManyWays, names_by_shape, possible_names

W, V = (2, 2), (2,)


def one(*names: str) -> frozenset[str]:
    """The names of a place."""
    return frozenset(names)


def test_groups_that_interleave_are_taken_apart_by_shape() -> None:
    """Vectors and matrices in two groups: every place has one name."""
    groups = [PlacesOfGroup((V, V)), PlacesOfGroup((W, W))]
    found = possible_names(groups, {"a.w": W, "a.b": V, "c.w": W, "c.b": V})
    assert found == [[one("a.b"), one("c.b")], [one("a.w"), one("c.w")]]


def test_a_left_out_tensor_leaves_open_only_what_it_could_be() -> None:
    """Three vectors for two places: the first is one of the first two; what lies behind the matrix is proven."""
    parameters = {"a": V, "b": V, "c": V, "m": W, "d": V}
    found = possible_names([PlacesOfGroup((V, V, W, V))], parameters)
    assert found == [[one("a", "b"), one("b", "c"), one("m"), one("d")]]


def test_a_place_of_unknown_shape_may_be_any_tensor_between_its_neighbours() -> None:
    """What was never stepped tells no shape."""
    found = possible_names([PlacesOfGroup((V, None, V))], {"a": V, "m": W, "b": V})
    assert found == [[one("a"), one("m"), one("b")]]


def test_levels_put_equal_groups_in_order() -> None:
    """Without levels two equal groups may change places, with them they cannot."""
    parameters = {"a.w": W, "a.b": V, "b.w": W, "b.b": V}
    free = [PlacesOfGroup((W, V)), PlacesOfGroup((W, V))]
    assert possible_names(free, parameters) == [[one("a.w", "b.w"), one("a.b", "b.b")]] * 2
    ordered = [PlacesOfGroup((W, V), 1.0), PlacesOfGroup((W, V), 0.5)]
    assert possible_names(ordered, parameters) == [[one("b.w"), one("b.b")], [one("a.w"), one("a.b")]]


@pytest.mark.parametrize(
    "groups", [[(V, V, V)], [(W, V)], [(V,), (V,), (V,)], [((3,),)]], ids=["too many", "order", "groups", "shape"]
)
def test_nothing_is_found_where_nothing_fits(groups: list[tuple[tuple[int, ...], ...]]) -> None:
    """More places than tensors, another order, another shape."""
    assert possible_names([PlacesOfGroup(shapes) for shapes in groups], {"b": V, "m": W}) is None


def test_equal_groups_are_counted_not_tried_one_by_one() -> None:
    """Forty groups of equal blocks in any order are 10^47 ways, and found to be ambiguous at once."""
    parameters = {f"{i}.{kind}": shape for i in range(40) for kind, shape in (("w", W), ("b", V))}
    found = possible_names([PlacesOfGroup((W, V))] * 40, parameters)
    assert found is not None
    assert found[0][0] == frozenset(f"{i}.w" for i in range(40))


def test_a_search_that_grows_too_large_is_given_up() -> None:
    """The bound holds."""
    parameters = {str(i): V for i in range(60)}
    groups = [PlacesOfGroup((V,) * size) for size in range(2, 9)]
    with pytest.raises(TooManyWays):
        possible_names(groups, parameters, max_cells=100_000)


def test_a_shape_that_occurs_once_needs_no_order() -> None:
    """It is that tensor; the others may be any of their shape, and one of unknown shape any that is left."""
    found = names_by_shape([PlacesOfGroup((V, W, None, V))], {"a": V, "m": W, "b": V, "c": V})
    assert found == [[one("a", "b", "c"), one("m"), one("a", "b", "c"), one("a", "b", "c")]]


def test_more_of_a_shape_than_there_are_is_another_model() -> None:
    """Then nothing is known at all."""
    assert names_by_shape([PlacesOfGroup((W, W, V))], {"a": V, "m": W}) == [[one(), one(), one()]]
