from __future__ import annotations

import pytest

from holdfast.fitting.resolve import resolve_names

NET = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "norm.weight": (8,), "norm.bias": (8,), "fc.weight": (2, 8)}
Shapes = dict[str, tuple[int, ...]]


def _with(front: str, shapes: Shapes = NET) -> Shapes:
    return {front + name: shape for name, shape in shapes.items()}


def test_the_same_names_are_the_same_tensors() -> None:
    """Without a difference there is no rule to tell of."""
    found = resolve_names(NET, NET)
    assert found.pairs == {name: name for name in NET}
    assert set(found.rule_of.values()) == {""}
    assert (found.fresh, found.unused, found.ambiguous) == ([], [], [])


@pytest.mark.row("S7")
@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        ("module.", "", "module. left out"),
        ("", "module.", "module. added"),
        ("model._orig_mod.", "", "model. left out, _orig_mod. left out"),
        ("backbone.", "", "backbone. left out"),
        ("", "encoder.body.", "encoder.body. added"),
        ("student.net.", "backbone.", "student.net. left out, backbone. added"),
    ],
)
def test_what_stands_in_front_on_either_side_is_found(source: str, target: str, rule: str) -> None:
    """Known words and unknown ones, left out or added, and said."""
    found = resolve_names(_with(source), _with(target))
    assert found.pairs == {target + name: source + name for name in NET}
    assert set(found.rule_of.values()) == {rule}


def test_repeated_blocks_are_not_taken_for_one_another() -> None:
    """Blocks of the same shapes pair by their numbers, though one side has more of them and another word in front."""
    blocks = {f"layers.{n}.{name}": shape for n in range(6) for name, shape in NET.items()}
    fewer = {name: shape for name, shape in blocks.items() if int(name.split(".")[1]) < 4}
    found = resolve_names(_with("encoder.", blocks), fewer)
    assert found.pairs == {name: f"encoder.{name}" for name in fewer}
    assert found.unused == [f"encoder.layers.{n}.{name}" for n in (4, 5) for name in NET]


def test_the_same_name_with_another_shape_is_a_pair_too() -> None:
    """A head for another number of classes is told from a tensor that is not there."""
    found = resolve_names(_with("module.", {**NET, "fc.weight": (1000, 8)}), NET)
    assert found.pairs["fc.weight"] == "module.fc.weight"
    assert found.fresh == []


def test_shape_and_order_alone_pair_nothing() -> None:
    """Other names are other tensors, even where all shapes agree in order."""
    renamed = {f"layer{n}.w": shape for n, shape in enumerate(NET.values())}
    found = resolve_names(renamed, NET)
    assert found.pairs == {}
    assert found.fresh == list(NET)
    assert found.unused == list(renamed)


def test_a_few_names_that_end_alike_by_chance_are_not_enough() -> None:
    """One small tensor under a prefix is no reason to believe in the prefix."""
    found = resolve_names({"other.deep.bias": (8,), "x": (10_000,)}, {**NET, "big": (10_000, 9)})
    assert found.pairs == {}


def test_two_models_that_fit_equally_well_are_ambiguous() -> None:
    """A file with a generator and a copy of it: nothing says which is meant, unless one of them is an average."""
    found = resolve_names({**_with("first."), **_with("second.")}, NET)
    assert sorted(found.ambiguous) == ["first.", "second."]
    found = resolve_names({**_with("module.first."), **_with("module.second.")}, NET)
    assert sorted(found.ambiguous) == ["module.first.", "module.second."]
    found = resolve_names({**_with("net."), **_with("ema.")}, NET)
    assert found.ambiguous == []
    assert found.pairs == {name: f"net.{name}" for name in NET}
    found = resolve_names({**_with(""), **_with("copy.")}, NET)
    assert found.ambiguous == []
    assert found.pairs == {name: name for name in NET}


@pytest.mark.parametrize("change", [lambda n: n.replace(".", ""), lambda n: n.replace(".", "/"), str.upper])
def test_names_without_their_dots_are_known(change: object) -> None:
    """Some programs keep averages under names without dots, and .npz files often use slashes."""
    source = {change(name): shape for name, shape in NET.items()}  # type: ignore[operator]
    found = resolve_names(source, NET)
    assert list(found.pairs.values()) == list(source)
    assert set(found.rule_of.values()) == {"other punctuation"}


def test_punctuation_that_leaves_doubt_pairs_nothing() -> None:
    """`a.bc` and `ab.c` are the same letters: neither is taken for `a_b_c`."""
    found = resolve_names({"a.bc": (3,), "ab.c": (3,)}, {"a_b_c": (3,)})
    assert found.pairs == {}


def test_a_wrapped_part_and_a_wrapped_whole() -> None:
    """Words within the names and in front of them, different ones on the two sides."""
    source = {f"module.{n.replace('conv', 'conv.module')}": s for n, s in NET.items()}
    target = {n.replace("norm", "norm._orig_mod"): s for n, s in NET.items()}
    found = resolve_names(source, target)
    assert found.pairs == {t: s for s, t in zip(source, target, strict=True)}


def test_a_counter_is_no_tensor_to_load() -> None:
    """`n_averaged` stays unused, and the model it stands beside is found."""
    found = resolve_names({"n_averaged": (), **_with("module.")}, NET)
    assert found.unused == ["n_averaged"]
    assert len(found.pairs) == len(NET)


@pytest.mark.parametrize("side", ["source", "target"])
def test_nothing_pairs_with_nothing(side: str) -> None:
    """An empty side is no error here; whoever loads says what is missing."""
    found = resolve_names({} if side == "source" else NET, {} if side == "target" else NET)
    assert found.pairs == {}
    assert (found.fresh, found.unused) == ((list(NET), []) if side == "source" else ([], list(NET)))
