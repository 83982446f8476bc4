from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.fitting.resolve import resolve_names
from holdfast.formats.names import plain_names

LAYERS = ["conv1", "conv2", "norm", "fc", "attn.qkv", "blocks.0.mlp", "blocks.1.mlp", "head"]
WRAPPERS = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
FRONTS = [*WRAPPERS, "model", "net", "state_dict", "backbone"]


@st.composite
def models(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a small model; many shapes are the same."""
    layers = draw(st.lists(st.sampled_from(LAYERS), min_size=2, unique=True))
    shapes = st.sampled_from([(4,), (4, 4), (8, 4), (8,)])
    return {f"{layer}.{kind}": draw(shapes) for layer in layers for kind in ("weight", "bias")}


@st.composite
def wrapped(draw: st.DrawFn, names: list[str]) -> dict[str, str]:
    """Returns the name of each tensor once parts of the model and the whole of it have been wrapped."""
    inside = {name: name.split(".") for name in names}
    for layer in sorted({tuple(words[:n]) for words in inside.values() for n in range(1, len(words))}):
        words = draw(st.lists(st.sampled_from(WRAPPERS), max_size=2))
        for name, own in list(inside.items()):
            bare = [word for word in own if word not in WRAPPERS]
            if tuple(bare[: len(layer)]) == layer and words:
                at = own.index(layer[-1]) if layer[-1] in own else 0
                inside[name] = [*own[: at + 1], *words, *own[at + 1 :]]
    front = draw(st.lists(st.sampled_from(FRONTS), max_size=3))
    return {name: ".".join([*front, *words]) for name, words in inside.items()}


@given(st.data())
def test_any_stack_of_wrappers_on_either_side_is_seen_through(data: st.DataObject) -> None:
    """Every tensor finds the one that it is, whatever both sides are wrapped in, and none is left over."""
    model = data.draw(models())
    theirs, ours = data.draw(wrapped(list(model))), data.draw(wrapped(list(model)))
    source = {theirs[name]: shape for name, shape in model.items()}
    target = {ours[name]: shape for name, shape in model.items()}
    found = resolve_names(source, target)
    assert found.ambiguous == []
    assert found.pairs == {ours[name]: theirs[name] for name in model}


@given(st.data())
def test_every_name_is_in_one_place_exactly(data: st.DataObject) -> None:
    """Whatever two models have in common: no tensor is used twice, none disappears, shapes are never mixed up."""
    source, target = data.draw(models()), data.draw(models())
    theirs = data.draw(wrapped(list(source)))
    found = resolve_names({theirs[name]: shape for name, shape in source.items()}, target)
    assert len(set(found.pairs.values())) == len(found.pairs)
    assert sorted([*found.pairs, *found.fresh]) == sorted(target)
    assert sorted([*found.pairs.values(), *found.unused]) == sorted(theirs.values())


@given(st.data())
def test_plain_names_lose_no_tensor(data: st.DataObject) -> None:
    """Each name has one plain name, no two the same, and the plain names of plain names are themselves."""
    model = data.draw(models())
    theirs = list(data.draw(wrapped(list(model))).values())
    plain = plain_names(theirs)
    assert list(plain) == theirs
    assert len(set(plain.values())) == len(theirs)
    assert list(plain_names(plain.values()).values()) == list(plain.values())
