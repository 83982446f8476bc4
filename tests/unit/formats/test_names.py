from __future__ import annotations

import pytest

from holdfast.formats.names import plain_names


def _plain(*names: str, in_front: bool = True) -> list[str]:
    return list(plain_names(names, in_front=in_front).values())


@pytest.mark.row("S7")
@pytest.mark.parametrize(
    "stack",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net.",
        "model._orig_mod.module.",
        "state_dict.model.",
        "ema.module.",
        "_forward_module.model.",
        "module.module.",
        "_fsdp_wrapped_module.",
        "_checkpoint_wrapped_module.module.",
    ],
)
def test_a_stack_of_wrappers_in_front_is_left_out(stack: str) -> None:
    """Whatever stands in front of every name is left out, in whatever order it was wrapped."""
    assert _plain(f"{stack}conv.weight", f"{stack}conv.bias", f"{stack}fc.weight") == [
        "conv.weight",
        "conv.bias",
        "fc.weight",
    ]


@pytest.mark.row("S7")
def test_wrappers_within_a_model_are_left_out_at_any_depth() -> None:
    """A part that was wrapped alone, a block in a checkpoint wrapper, a compiled head."""
    assert _plain(
        "features.module.0.weight",
        "features.module.1._checkpoint_wrapped_module.conv.weight",
        "blocks.0._fsdp_wrapped_module.attn.weight",
        "head._orig_mod.weight",
    ) == ["features.0.weight", "features.1.conv.weight", "blocks.0.attn.weight", "head.weight"]


def test_a_layer_that_is_called_like_a_wrapper_keeps_its_name() -> None:
    """`module` beside other layers is a layer, and so is `model` where not every name begins with it."""
    names = ["block.module.weight", "block.norm.weight", "model.weight", "head.bias"]
    assert _plain(*names) == names


def test_the_counter_of_an_averaged_model_is_no_tensor_of_the_model() -> None:
    """`n_averaged` stands beside `module.` and neither keeps the word in nor stays itself."""
    assert plain_names(["n_averaged", "module.fc.weight"]) == {"module.fc.weight": "fc.weight"}
    assert plain_names(["n_averaged"]) == {"n_averaged": "n_averaged"}


@pytest.mark.parametrize(
    ("counter", "front"),
    [("n_averaged", "module."), ("steps", "module."), ("initted", "ema_model."), ("step", "online_model."),
     ("num_updates", "model_ema."), ("n_averaged", "module._orig_mod."), ("step", "ema.module.")],
)  # fmt: skip
def test_a_counter_is_left_out_with_the_word_of_its_wrapper(counter: str, front: str) -> None:
    """Where every other name has the word of a wrapper that averages, what that wrapper counts is no tensor."""
    names = [f"{front}fc.weight", f"{front}fc.bias", counter]
    assert plain_names(names) == {names[0]: "fc.weight", names[1]: "fc.bias"}


@pytest.mark.parametrize("counter", ["step", "steps", "global_step", "initted", "num_updates", "n_averaged"])
@pytest.mark.parametrize("names", [["fc.weight", "fc.bias"], ["net.fc.weight", "scale"], ["module.w", "head.w"],
                                   ["_orig_mod.fc.weight"], ["model.fc.weight", "model.fc.bias"]])  # fmt: skip
def test_a_model_may_count_itself(names: list[str], counter: str) -> None:
    """Without a wrapper that averages, a tensor called like a counter is the model's own and is not lost."""
    assert list(plain_names([*names, counter])) == [*names, counter]
    assert plain_names([*names, counter])[counter] == counter


def test_names_that_would_become_one_stay_as_they_are() -> None:
    """Nothing is lost by leaving out a word."""
    assert plain_names(["a._orig_mod.w", "a.w", "b._orig_mod.w"]) == {
        "a._orig_mod.w": "a._orig_mod.w",
        "a.w": "a.w",
        "b._orig_mod.w": "b.w",
    }


def test_words_in_front_stay_where_the_whole_tree_is_known() -> None:
    """A pickled module's own layer `model` is a layer: only wrappers' words are left out there."""
    assert _plain("model.0.weight", "model.1.weight", in_front=False) == ["model.0.weight", "model.1.weight"]
    assert _plain("module.0.weight", "module.1.weight", in_front=False) == ["0.weight", "1.weight"]


@pytest.mark.parametrize("name", ["module", "model", "_orig_mod", "", ".", "module.", "_orig_mod._orig_mod"])
def test_odd_names_are_names(name: str) -> None:
    """A tensor that is called like a wrapper, or hardly called anything, is not lost."""
    assert list(plain_names([name])) == [name]
    assert len(plain_names([name, "fc.weight"])) == 2
